//! The XML of moto's answers about instances, their groups and their launch templates, as far as running them needs it.

use serde::Deserialize;

use crate::core::describe::Members;

/// `DescribeAutoScalingGroups`.
#[derive(Debug, Deserialize)]
pub(crate) struct Groups {
    #[serde(rename = "DescribeAutoScalingGroupsResult")]
    pub result: GroupsResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GroupsResult {
    #[serde(default)]
    pub auto_scaling_groups: Members<Group>,
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Group {
    #[serde(rename = "AutoScalingGroupName")]
    pub name: String,
    #[serde(rename = "AutoScalingGroupARN")]
    pub arn: String,
    pub launch_template: Option<Template>,
    /// Which has the template of a group with several types.
    pub mixed_instances_policy: Option<Mixed>,
    pub max_size: u32,
    pub min_size: u32,
    pub desired_capacity: u32,
    pub instances: Members<GroupInstance>,
    pub tags: Members<Tag>,
}

impl Group {
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.member.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.instances.member.iter().map(|instance| instance.instance_id.clone()).collect()
    }
}

/// Several types, as a group has them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mixed {
    pub launch_template: MixedTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MixedTemplate {
    pub launch_template_specification: Option<Template>,
}

/// A launch template as a group refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Template {
    #[serde(rename = "LaunchTemplateId")]
    pub id: String,
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct GroupInstance {
    pub instance_id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase"), default)]
pub(crate) struct Tag {
    #[serde(alias = "key")]
    pub key: String,
    #[serde(alias = "value")]
    pub value: String,
}

/// A list of EC2: `<X><item>…</item></X>`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Items<T> {
    #[serde(rename = "item", default = "Vec::new")]
    pub item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

/// `DescribeInstances`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reservations {
    #[serde(default)]
    pub reservation_set: Items<Reservation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Reservation {
    pub instances_set: Items<Instance>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Instance {
    pub instance_id: String,
    pub image_id: String,
    pub tag_set: Items<Tag>,
}

impl Instance {
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        self.tag_set.item.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }
}

/// `DescribeLaunchTemplateVersions`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Versions {
    #[serde(default)]
    pub launch_template_version_set: Items<Version>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Version {
    pub version_number: String,
    pub launch_template_data: Data,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Data {
    pub image_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_read_from_the_xml_of_moto() {
        let xml = "<DescribeInstancesResponse><reservationSet><item><groupSet/><instancesSet><item><tagSet>\
            <item><key>bluegreen:color</key><value>blue</value></item></tagSet><instanceId>i-1</instanceId>\
            <imageId>ami-1</imageId></item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
        let parsed: Reservations = quick_xml::de::from_str(xml).expect("the XML is well-formed");
        let instance = &parsed.reservation_set.item[0].instances_set.item[0];
        assert_eq!((instance.instance_id.as_str(), instance.image_id.as_str()), ("i-1", "ami-1"));
        assert_eq!(instance.tag("bluegreen:color"), Some("blue"));
    }
}
