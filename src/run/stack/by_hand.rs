//! What of an Auto Scaling group a person types to put it back: options of the AWS CLI.

use serde_json::{Map, Value, json};

use crate::shell::quoted;
use crate::stack::Instances;

/// The options that have a group make its instances of this version again, with the types that it had.
pub(super) fn made_of(instances: &Instances, (id, version): (&str, &str)) -> String {
    let Some(policy) = &instances.mixed_instances_policy else {
        return format!("--launch-template LaunchTemplateId={id},Version={version}");
    };
    let mut of = json!({ "LaunchTemplateSpecification": { "LaunchTemplateId": id, "Version": version } });
    of["Overrides"] = as_aws(&json!(policy.overrides));
    let policy =
        json!({ "LaunchTemplate": of, "InstancesDistribution": as_aws(&json!(policy.instances_distribution)) });
    format!("--mixed-instances-policy {}", quoted(&policy.to_string()))
}

/// Members of AWS that aren't called as arguments are.
const NAMES: [(&str, &str); 5] = [
    ("vcpu_count", "VCpuCount"),
    ("memory_mib", "MemoryMiB"),
    ("memory_gib_per_vcpu", "MemoryGiBPerVCpu"),
    ("total_local_storage_gb", "TotalLocalStorageGB"),
    ("accelerator_total_memory_mib", "AcceleratorTotalMemoryMiB"),
];

/// Arguments as AWS has them: by its names, without what isn't said.
fn as_aws(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let said =
                map.iter().filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|it| !it.is_empty()));
            let pair = |(name, value): (&String, &Value)| {
                // AWS has this number as text.
                let weight = (name == "weighted_capacity").then(|| Value::from(value.to_string()));
                (aws_name(name), weight.unwrap_or_else(|| as_aws(value)))
            };
            Value::Object(said.map(pair).collect::<Map<String, Value>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(as_aws).collect()),
        other => other.clone(),
    }
}

fn aws_name(name: &str) -> String {
    if let Some((_, special)) = NAMES.iter().find(|(own, _)| *own == name) {
        return (*special).to_owned();
    }
    let word =
        |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>();
    name.split('_').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Bounds, InstanceOverride, InstanceRequirements, InstancesDistribution, MixedInstances};

    #[test]
    fn types_go_back_with_the_version() {
        let plain = Instances::default();
        assert_eq!(made_of(&plain, ("lt-1", "2")), "--launch-template LaunchTemplateId=lt-1,Version=2");
        let requirements = InstanceRequirements {
            vcpu_count: Bounds { min: Some(2), max: None },
            memory_mib: Bounds { min: Some(4096), max: None },
            max_spot_price_as_percentage_of_optimal_on_demand_price: Some(60),
            ..InstanceRequirements::default()
        };
        let overrides = vec![
            InstanceOverride {
                instance_type: Some("m7g.large".to_owned()),
                weighted_capacity: Some(2),
                ..InstanceOverride::default()
            },
            InstanceOverride { instance_requirements: Some(requirements), ..InstanceOverride::default() },
        ];
        let distribution =
            InstancesDistribution { on_demand_base_capacity: Some(1), ..InstancesDistribution::default() };
        let policy = MixedInstances { instances_distribution: Some(distribution), overrides };
        let mixed = Instances { mixed_instances_policy: Some(policy), ..Instances::default() };
        let expected = concat!(
            r#"--mixed-instances-policy '{"InstancesDistribution":{"OnDemandBaseCapacity":1},"LaunchTemplate":"#,
            r#"{"LaunchTemplateSpecification":{"LaunchTemplateId":"lt-1","Version":"2"},"Overrides":["#,
            r#"{"InstanceType":"m7g.large","WeightedCapacity":"2"},{"InstanceRequirements":{"#,
            r#""MaxSpotPriceAsPercentageOfOptimalOnDemandPrice":60,"MemoryMiB":{"Min":4096},"VCpuCount":{"Min":2}}}]}}'"#,
        );
        let words = made_of(&mixed, ("lt-1", "2"));
        let json = |text: &str| {
            let text = text.strip_prefix("--mixed-instances-policy '").unwrap().strip_suffix('\'').unwrap();
            serde_json::from_str::<Value>(text).unwrap()
        };
        assert_eq!(json(&words), json(expected));
    }
}
