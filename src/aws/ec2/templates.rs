//! Launch templates: versions that never change, of which an Auto Scaling group uses one.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::types::{
    HttpTokensState, InstanceType, LaunchTemplate, LaunchTemplateBlockDeviceMapping,
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest, LaunchTemplateHttpTokensState,
    LaunchTemplateIamInstanceProfileSpecificationRequest, LaunchTemplateInstanceMetadataEndpointState,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateInstanceMetadataTagsState,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplateTagSpecificationRequest,
    LaunchTemplateVersion, LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData, ResourceType,
    ResponseLaunchTemplateData, VolumeType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Ec2, SERVICE, filter, from_tags, specification, spoiled, to_tags, unmodeled};
use crate::aws::batch::all_that_are_there;
use crate::aws::connection::Connection;
use crate::aws::error::{call_error, or_if_gone};
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{LaunchTemplates, SeenTemplate, SeenVersion, Tags, VersionOf};
use crate::stack::{BlockDevice, Instances, MetadataOptions};

#[async_trait]
impl LaunchTemplates for Ec2 {
    async fn find(&self, id: &str) -> Result<Option<SeenTemplate>, PortError> {
        let connection = self.connection.clone();
        self.templates.get(id.to_owned(), move |ids| describe(connection, ids)).await
    }

    async fn named(&self, name: &str) -> Result<Option<SeenTemplate>, PortError> {
        let call = self.connection.ec2().await?.describe_launch_templates();
        let answer = call.filters(filter("launch-template-name", name)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeLaunchTemplates", &error))?;
        Ok(answer.launch_templates().first().and_then(seen))
    }

    async fn create(&self, name: &str, tags: &Tags, of: VersionOf<'_>) -> Result<String, PortError> {
        let call = self.connection.ec2().await?.create_launch_template().launch_template_name(name);
        let call = call.tag_specifications(specification(ResourceType::LaunchTemplate, tags));
        let answer = call.launch_template_data(data(of)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "CreateLaunchTemplate", &error))?;
        let id = answer.launch_template().and_then(|template| template.launch_template_id());
        id.map(str::to_owned).ok_or_else(|| spoiled("CreateLaunchTemplate"))
    }

    async fn add_version(&self, id: &str, of: VersionOf<'_>) -> Result<i64, PortError> {
        let client = self.connection.ec2().await?;
        let former = match of.former {
            Some(version) => self.version_of(id, version).await?,
            None => None,
        };
        let heir =
            former.as_ref().and_then(|version| Some((version.version_number()?, version.launch_template_data()?)));
        let mut data = data(of);
        let mut call = client.create_launch_template_version().launch_template_id(id);
        if let Some((number, former)) = heir {
            let refused = |why: String| Err(PortError::new(FailureKind::InvalidRequest, why));
            if let Some(why) = unmodeled::unfit(id, former) {
                return refused(why);
            }
            unmodeled::keep_tags(&mut data, former, of);
            let inherited = unmodeled::inherited(former);
            if !inherited.is_empty() {
                if let Some(why) = unmodeled::say_all(&mut data, former, (id, &inherited)) {
                    return refused(why);
                }
                call = call.source_version(number.to_string());
            }
        }
        let answer = call.launch_template_data(data).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "CreateLaunchTemplateVersion", &error))?;
        let number = answer.launch_template_version().and_then(|version| version.version_number());
        let number = number.ok_or_else(|| spoiled("CreateLaunchTemplateVersion"))?;
        let call = client.modify_launch_template().launch_template_id(id).default_version(number.to_string());
        call.send().await.map_err(|error| call_error(SERVICE, "ModifyLaunchTemplate", &error))?;
        Ok(number)
    }

    async fn version(
        &self,
        id: &str,
        version: &str,
        own_group: Option<&str>,
    ) -> Result<Option<SeenVersion>, PortError> {
        Ok(self.version_of(id, version).await?.and_then(|version| {
            let data = version.launch_template_data()?;
            let (instances, tags) = (read(data, own_group), instance_tags(data));
            Some(SeenVersion { number: version.version_number()?, instances, tags, unfit: unmodeled::unfit(id, data) })
        }))
    }

    async fn delete(&self, id: &str) -> Result<(), PortError> {
        let result = self.connection.ec2().await?.delete_launch_template().launch_template_id(id).send().await;
        or_if_gone(result.map(drop).map_err(|error| call_error(SERVICE, "DeleteLaunchTemplate", &error)), ())
    }

    async fn set_tags(&self, id: &str, set: &Tags, gone: &[String]) -> Result<(), PortError> {
        self.set_any_tags(id, set, gone).await
    }
}

impl Ec2 {
    /// A version as AWS has it: a number, `$Latest` or `$Default`.
    async fn version_of(&self, id: &str, version: &str) -> Result<Option<LaunchTemplateVersion>, PortError> {
        let call = self.connection.ec2().await?.describe_launch_template_versions().launch_template_id(id);
        let answer = call.versions(version).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeLaunchTemplateVersions", &error));
        let versions = answer.map(|answer| answer.launch_template_versions.unwrap_or_default());
        Ok(or_if_gone(versions, Vec::new())?.into_iter().next())
    }
}

async fn describe(connection: Arc<Connection>, ids: Vec<String>) -> Result<HashMap<String, SeenTemplate>, PortError> {
    let client = connection.ec2().await?;
    let read = |ids: Vec<String>| async move {
        let pages = client.describe_launch_templates().set_launch_template_ids(Some(ids)).into_paginator();
        let found = pages.items().send().collect::<Result<Vec<LaunchTemplate>, _>>().await;
        found.map_err(|error| call_error(SERVICE, "DescribeLaunchTemplates", &error))
    };
    let found = all_that_are_there(ids, read).await?;
    Ok(found.iter().filter_map(seen).map(|template| (template.id.clone(), template)).collect())
}

fn seen(template: &LaunchTemplate) -> Option<SeenTemplate> {
    Some(SeenTemplate {
        id: template.launch_template_id()?.to_owned(),
        latest_version: template.latest_version_number().unwrap_or(1),
        tags: from_tags(template.tags()),
    })
}

fn data(of: VersionOf<'_>) -> RequestLaunchTemplateData {
    let instances = of.instances;
    let groups: Vec<String> =
        std::iter::once(of.security_group.to_owned()).chain(instances.security_group_ids.iter().cloned()).collect();
    let builder = RequestLaunchTemplateData::builder()
        .image_id(&instances.image_id)
        .set_instance_type(instances.instance_type.as_deref().map(InstanceType::from))
        .set_user_data(
            instances.user_data.as_ref().map(|text| STANDARD.encode(text)).or(instances.user_data_base64.clone()),
        )
        .set_key_name(instances.key_name.clone())
        .set_ebs_optimized(instances.ebs_optimized.filter(|on| *on))
        .set_block_device_mappings(Some(instances.block_devices.iter().map(device).collect()));
    let builder = match &instances.iam_instance_profile {
        Some(profile) => {
            let specification = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
            let is_arn = profile.starts_with("arn:");
            let specification = if is_arn { specification.arn(profile) } else { specification.name(profile) };
            builder.iam_instance_profile(specification.build())
        }
        None => builder,
    };
    let builder = match instances.monitoring {
        Some(true) => builder.monitoring(LaunchTemplatesMonitoringRequest::builder().enabled(true).build()),
        _ => builder,
    };
    // Whether there is a public address belongs to an interface, and then the groups do as well.
    let builder = match instances.associate_public_ip_address {
        Some(public) => builder.network_interfaces(
            LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
                .device_index(0)
                .associate_public_ip_address(public)
                .set_groups(Some(groups))
                .build(),
        ),
        None => builder.set_security_group_ids(Some(groups)),
    };
    let tagged = |kind: ResourceType| {
        LaunchTemplateTagSpecificationRequest::builder().resource_type(kind).set_tags(Some(to_tags(of.tags))).build()
    };
    builder
        .set_metadata_options(instances.metadata_options.as_ref().map(metadata))
        .tag_specifications(tagged(ResourceType::Instance))
        .tag_specifications(tagged(ResourceType::Volume))
        .build()
}

fn metadata(options: &MetadataOptions) -> LaunchTemplateInstanceMetadataOptionsRequest {
    let endpoint = options.http_endpoint.as_deref().map(LaunchTemplateInstanceMetadataEndpointState::from);
    let tags = options.instance_metadata_tags.as_deref().map(LaunchTemplateInstanceMetadataTagsState::from);
    LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .set_http_endpoint(endpoint)
        .set_http_tokens(options.http_tokens.as_deref().map(LaunchTemplateHttpTokensState::from))
        .set_http_put_response_hop_limit(options.http_put_response_hop_limit)
        .set_instance_metadata_tags(tags)
        .build()
}

fn device(device: &BlockDevice) -> LaunchTemplateBlockDeviceMappingRequest {
    let volume = LaunchTemplateEbsBlockDeviceRequest::builder()
        .set_volume_size(device.volume_size)
        .set_volume_type(device.volume_type.as_deref().map(VolumeType::from))
        .set_iops(device.iops)
        .set_throughput(device.throughput)
        .set_encrypted(device.encrypted)
        .set_kms_key_id(device.kms_key_id.clone())
        .set_snapshot_id(device.snapshot_id.clone())
        .set_delete_on_termination(device.delete_on_termination);
    LaunchTemplateBlockDeviceMappingRequest::builder().device_name(&device.device_name).ebs(volume.build()).build()
}

fn instance_tags(data: &ResponseLaunchTemplateData) -> Tags {
    let of_instances =
        data.tag_specifications().iter().find(|tags| tags.resource_type() == Some(&ResourceType::Instance));
    of_instances.map(|tags| from_tags(tags.tags())).unwrap_or_default()
}

fn read(data: &ResponseLaunchTemplateData, own_group: Option<&str>) -> Instances {
    let interface = data.network_interfaces().first();
    let groups = if data.security_group_ids().is_empty() {
        interface.map(|interface| interface.groups()).unwrap_or_default()
    } else {
        data.security_group_ids()
    };
    let stored = data.user_data().filter(|text| !text.is_empty());
    let plain = stored.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    // What isn't text can't be written as text.
    let encoded = stored.filter(|_| plain.is_none()).map(str::to_owned);
    let profile = data.iam_instance_profile();
    let options = data.metadata_options().map(|options| MetadataOptions {
        http_endpoint: options.http_endpoint().map(|state| state.as_str().to_owned()),
        http_tokens: options.http_tokens().map(|state| state.as_str().to_owned()),
        http_put_response_hop_limit: options.http_put_response_hop_limit(),
        instance_metadata_tags: options.instance_metadata_tags().map(|state| state.as_str().to_owned()),
    });
    Instances {
        image_id: data.image_id().unwrap_or_default().to_owned(),
        instance_type: data.instance_type().map(|kind| kind.as_str().to_owned()),
        user_data: plain,
        user_data_base64: encoded,
        key_name: data.key_name().map(str::to_owned),
        iam_instance_profile: profile.and_then(|profile| profile.name().or(profile.arn())).map(str::to_owned),
        associate_public_ip_address: interface.and_then(|interface| interface.associate_public_ip_address()),
        ebs_optimized: data.ebs_optimized(),
        monitoring: data.monitoring().and_then(|monitoring| monitoring.enabled()),
        // A template that says nothing leaves it to EC2, which makes tokens optional then.
        metadata_options: Some(options.unwrap_or_else(|| MetadataOptions {
            http_tokens: Some(HttpTokensState::Optional.as_str().to_owned()),
            ..MetadataOptions::default()
        })),
        block_devices: data.block_device_mappings().iter().filter_map(volume).collect(),
        security_group_ids: groups.iter().filter(|id| Some(id.as_str()) != own_group).cloned().collect(),
        ..Instances::default()
    }
}

fn volume(mapping: &LaunchTemplateBlockDeviceMapping) -> Option<BlockDevice> {
    let volume = mapping.ebs()?;
    Some(BlockDevice {
        device_name: mapping.device_name()?.to_owned(),
        volume_size: volume.volume_size(),
        volume_type: volume.volume_type().map(|kind| kind.as_str().to_owned()),
        iops: volume.iops(),
        throughput: volume.throughput(),
        encrypted: volume.encrypted(),
        kms_key_id: volume.kms_key_id().map(str::to_owned),
        snapshot_id: volume.snapshot_id().map(str::to_owned),
        delete_on_termination: volume.delete_on_termination(),
    })
}
