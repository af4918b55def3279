//! What a launch template has that no argument of an environment describes: what a new version takes over from the former one,
//! and what it would lose.

use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMapping, LaunchTemplateEbsBlockDevice, LaunchTemplateInstanceMetadataOptions,
    LaunchTemplateInstanceMetadataProtocolIpv6, LaunchTemplateInstanceNetworkInterfaceSpecification,
    LaunchTemplateTagSpecificationRequest, LaunchTemplatesMonitoringRequest, RequestLaunchTemplateData, ResourceType,
    ResponseLaunchTemplateData,
};

use super::{from_tags, to_tags};
use crate::run::stack::ports::{Tags, VersionOf};

/// The members of a template that no argument describes, as EC2 calls them. A version that names its source takes them over.
pub(super) fn inherited(data: &ResponseLaunchTemplateData) -> Vec<&'static str> {
    let all = [
        ("KernelId", data.kernel_id.is_some()),
        ("RamDiskId", data.ram_disk_id.is_some()),
        ("Placement", data.placement.is_some()),
        ("DisableApiTermination", data.disable_api_termination == Some(true)),
        ("DisableApiStop", data.disable_api_stop == Some(true)),
        ("InstanceInitiatedShutdownBehavior", data.instance_initiated_shutdown_behavior.is_some()),
        ("ElasticGpuSpecifications", !data.elastic_gpu_specifications().is_empty()),
        ("ElasticInferenceAccelerators", !data.elastic_inference_accelerators().is_empty()),
        ("InstanceMarketOptions", data.instance_market_options.is_some()),
        ("CreditSpecification", data.credit_specification.is_some()),
        ("CpuOptions", data.cpu_options.is_some()),
        ("CapacityReservationSpecification", data.capacity_reservation_specification.is_some()),
        ("LicenseSpecifications", !data.license_specifications().is_empty()),
        ("HibernationOptions", data.hibernation_options.is_some()),
        ("EnclaveOptions", data.enclave_options.is_some()),
        ("PrivateDnsNameOptions", data.private_dns_name_options.is_some()),
        ("MaintenanceOptions", data.maintenance_options.is_some()),
        ("NetworkPerformanceOptions", data.network_performance_options.is_some()),
        ("SecondaryInterfaces", !data.secondary_interfaces().is_empty()),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

/// Why no version can come after this one that keeps everything: parts of members that arguments describe as a whole.
pub(super) fn unfit(id: &str, data: &ResponseLaunchTemplateData) -> Option<String> {
    let devices = data.block_device_mappings().iter().any(|mapping| !is_plain_volume(mapping));
    let interfaces = data.network_interfaces();
    // Without an address of its own an interface says no more than groups, which are written without one.
    let bare = interfaces.iter().any(|interface| interface.associate_public_ip_address.is_none());
    let lost = [
        ("BlockDeviceMappings", devices),
        ("MetadataOptions", data.metadata_options().is_some_and(|options| !is_plain_metadata(options))),
        (
            "NetworkInterfaces",
            interfaces.len() > 1
                || interfaces.iter().any(|interface| !is_plain_interface(interface))
                || bare && !inherited(data).is_empty(),
        ),
        ("SecurityGroups", !data.security_groups().is_empty()),
        // A type, which every version of ours names, and requirements exclude each other.
        ("InstanceRequirements", data.instance_requirements.is_some()),
    ];
    let lost: Vec<&str> = lost.into_iter().filter(|(_, is_lost)| *is_lost).map(|(name, _)| name).collect();
    (!lost.is_empty()).then(|| {
        format!(
            "the launch template {id} has settings in {} that no argument describes, and that a new version of it would lose",
            lost.join(" and ")
        )
    })
}

fn is_plain_volume(mapping: &LaunchTemplateBlockDeviceMapping) -> bool {
    let known = |volume: &LaunchTemplateEbsBlockDevice| {
        volume.volume_initialization_rate.is_none() && volume.ebs_card_index.is_none()
    };
    mapping.virtual_name.is_none() && mapping.no_device.is_none() && mapping.ebs().is_some_and(known)
}

fn is_plain_metadata(options: &LaunchTemplateInstanceMetadataOptions) -> bool {
    options
        .http_protocol_ipv6
        .as_ref()
        .is_none_or(|is_on| *is_on == LaunchTemplateInstanceMetadataProtocolIpv6::Disabled)
}

/// Whether nothing is said of an interface but what is usual, its address and its groups.
fn is_plain_interface(interface: &LaunchTemplateInstanceNetworkInterfaceSpecification) -> bool {
    let mut rest = interface.clone();
    rest.associate_public_ip_address = None;
    rest.groups = None;
    rest.device_index = rest.device_index.filter(|index| *index != 0);
    rest.network_card_index = rest.network_card_index.filter(|index| *index != 0);
    rest.delete_on_termination = rest.delete_on_termination.filter(|deleted| !deleted);
    rest.interface_type = rest.interface_type.filter(|kind| kind != "interface");
    // AWS answers empty lists where nothing is.
    let addresses = (rest.private_ip_addresses.take(), rest.ipv6_addresses.take());
    let prefixes = (rest.ipv4_prefixes.take(), rest.ipv6_prefixes.take());
    let has_addresses =
        addresses.0.is_some_and(|list| !list.is_empty()) || addresses.1.is_some_and(|list| !list.is_empty());
    let has_prefixes =
        prefixes.0.is_some_and(|list| !list.is_empty()) || prefixes.1.is_some_and(|list| !list.is_empty());
    rest == LaunchTemplateInstanceNetworkInterfaceSpecification::builder().build() && !has_addresses && !has_prefixes
}

/// Puts the tags of others into a new version: those of the former one that are not ours, and those of other resources.
pub(super) fn keep_tags(data: &mut RequestLaunchTemplateData, former: &ResponseLaunchTemplateData, of: VersionOf<'_>) {
    let own = [ResourceType::Instance, ResourceType::Volume];
    let kept = |kind: &ResourceType| -> Tags {
        let before = former.tag_specifications().iter().filter(|tags| tags.resource_type() == Some(kind));
        before.flat_map(|tags| from_tags(tags.tags())).filter(|(key, _)| !of.gone.contains(key)).collect()
    };
    let tagged = |kind: &ResourceType, tags: &Tags| {
        LaunchTemplateTagSpecificationRequest::builder()
            .resource_type(kind.clone())
            .set_tags(Some(to_tags(tags)))
            .build()
    };
    let mut all: Vec<LaunchTemplateTagSpecificationRequest> = Vec::new();
    for kind in &own {
        let mut tags = kept(kind);
        tags.extend(of.tags.clone());
        all.push(tagged(kind, &tags));
    }
    for tags in former.tag_specifications() {
        if let Some(kind) = tags.resource_type().filter(|kind| !own.contains(kind)) {
            all.push(tagged(kind, &from_tags(tags.tags())));
        }
    }
    data.tag_specifications = Some(all);
}

/// Has a version that takes over what it doesn't say say everything else; why it can't, if something is to go that only a version
/// without a source could leave out.
pub(super) fn say_all(
    data: &mut RequestLaunchTemplateData,
    former: &ResponseLaunchTemplateData,
    (id, inherited): (&str, &[&str]),
) -> Option<String> {
    data.ebs_optimized = data.ebs_optimized.or(former.ebs_optimized.map(|_| false));
    if data.monitoring.is_none() && former.monitoring.is_some() {
        data.monitoring = Some(LaunchTemplatesMonitoringRequest::builder().enabled(false).build());
    }
    let gone = [
        ("user data", former.user_data().is_some_and(|text| !text.is_empty()) && data.user_data.is_none()),
        ("the instance type", former.instance_type.is_some() && data.instance_type.is_none()),
        ("the key pair", former.key_name.is_some() && data.key_name.is_none()),
        ("the instance profile", former.iam_instance_profile.is_some() && data.iam_instance_profile.is_none()),
        ("the block devices", !former.block_device_mappings().is_empty() && data.block_device_mappings().is_empty()),
        ("the metadata options", former.metadata_options.is_some() && data.metadata_options.is_none()),
        ("the network interface", !former.network_interfaces().is_empty() && data.network_interfaces().is_empty()),
        ("the security groups", !former.security_group_ids().is_empty() && data.security_group_ids().is_empty()),
    ];
    let gone: Vec<&str> = gone.into_iter().filter(|(_, is_gone)| *is_gone).map(|(name, _)| name).collect();
    (!gone.is_empty()).then(|| {
        format!(
            "a version of the launch template {id} that keeps its {} takes {} over as well, so that they can't be left out",
            inherited.join(", "),
            gone.join(" and ")
        )
    })
}
