//! What RegisterTaskDefinition takes, so that a plan tells what AWS would refuse: members that have to be there, and of which type.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The shapes of the request in ECS's service model of October 2026 (API version 2014-11-13): a name, and its members with their
/// types. `!` stands for a member that has to be there, `[]` for a list, `{}` for a map by names.
const SHAPES: &str = "
TaskDefinition family!:text taskRoleArn:text executionRoleArn:text networkMode:text
  containerDefinitions!:ContainerDefinition[] volumes:Volume[]
  placementConstraints:TaskDefinitionPlacementConstraint[] requiresCompatibilities:text[] cpu:text memory:text
  tags:Tag[] pidMode:text ipcMode:text proxyConfiguration:ProxyConfiguration
  inferenceAccelerators:InferenceAccelerator[] ephemeralStorage:EphemeralStorage runtimePlatform:RuntimePlatform
  enableFaultInjection:bool trustedExecutionConfiguration:TrustedExecutionConfiguration
ContainerDefinition name:text image:text repositoryCredentials:RepositoryCredentials cpu:whole memory:whole
  memoryReservation:whole links:text[] portMappings:PortMapping[] essential:bool restartPolicy:ContainerRestartPolicy
  entryPoint:text[] command:text[] environment:KeyValuePair[] environmentFiles:EnvironmentFile[]
  mountPoints:MountPoint[] volumesFrom:VolumeFrom[] linuxParameters:LinuxParameters secrets:Secret[]
  dependsOn:ContainerDependency[] startTimeout:whole stopTimeout:whole versionConsistency:text hostname:text user:text
  workingDirectory:text disableNetworking:bool privileged:bool readonlyRootFilesystem:bool dnsServers:text[]
  dnsSearchDomains:text[] extraHosts:HostEntry[] dockerSecurityOptions:text[] interactive:bool pseudoTerminal:bool
  dockerLabels:text{} ulimits:Ulimit[] logConfiguration:LogConfiguration healthCheck:HealthCheck
  systemControls:SystemControl[] resourceRequirements:ResourceRequirement[]
  firelensConfiguration:FirelensConfiguration credentialSpecs:text[]
Volume name:text host:HostVolumeProperties dockerVolumeConfiguration:DockerVolumeConfiguration
  efsVolumeConfiguration:EFSVolumeConfiguration s3filesVolumeConfiguration:S3FilesVolumeConfiguration
  fsxWindowsFileServerVolumeConfiguration:FSxWindowsFileServerVolumeConfiguration configuredAtLaunch:bool
TaskDefinitionPlacementConstraint type:text expression:text
Tag key:text value:text
ProxyConfiguration type:text containerName!:text properties:KeyValuePair[]
InferenceAccelerator deviceName!:text deviceType!:text
EphemeralStorage sizeInGiB!:whole
RuntimePlatform cpuArchitecture:text operatingSystemFamily:text
TrustedExecutionConfiguration isolationMode!:text attestationPolicy:text
RepositoryCredentials credentialsParameter!:text
PortMapping containerPort:whole hostPort:whole protocol:text name:text appProtocol:text containerPortRange:text
ContainerRestartPolicy enabled!:bool ignoredExitCodes:whole[] restartAttemptPeriod:whole
KeyValuePair name:text value:text
EnvironmentFile value!:text type!:text
MountPoint sourceVolume:text containerPath:text readOnly:bool
VolumeFrom sourceContainer:text readOnly:bool
LinuxParameters capabilities:KernelCapabilities devices:Device[] initProcessEnabled:bool sharedMemorySize:whole
  tmpfs:Tmpfs[] maxSwap:whole swappiness:whole
Secret name!:text valueFrom!:text
ContainerDependency containerName!:text condition!:text
HostEntry hostname!:text ipAddress!:text
Ulimit name!:text softLimit!:whole hardLimit!:whole
LogConfiguration logDriver!:text options:text{} secretOptions:Secret[]
HealthCheck command!:text[] interval:whole timeout:whole retries:whole startPeriod:whole
SystemControl namespace:text value:text
ResourceRequirement value:text type!:text sharingStrategy:SharingStrategy
FirelensConfiguration type!:text options:text{}
HostVolumeProperties sourcePath:text
DockerVolumeConfiguration scope:text autoprovision:bool driver:text driverOpts:text{} labels:text{}
EFSVolumeConfiguration fileSystemId!:text rootDirectory:text transitEncryption:text transitEncryptionPort:whole
  authorizationConfig:EFSAuthorizationConfig
S3FilesVolumeConfiguration fileSystemArn!:text rootDirectory:text transitEncryptionPort:whole accessPointArn:text
FSxWindowsFileServerVolumeConfiguration fileSystemId!:text rootDirectory!:text
  authorizationConfig!:FSxWindowsFileServerAuthorizationConfig
KernelCapabilities add:text[] drop:text[]
Device hostPath!:text containerPath:text permissions:text[]
Tmpfs containerPath!:text size!:whole mountOptions:text[]
SharingStrategy nvidiaMps:NvidiaMpsAllocation
EFSAuthorizationConfig accessPointId:text iam:text
FSxWindowsFileServerAuthorizationConfig credentialsParameter!:text domain!:text
NvidiaMpsAllocation memory!:whole maxComputePercent:whole
";

/// AWS wants a name of each container and an image, though its model doesn't say so.
const NAMED: (&str, &str) = ("ContainerDefinition", "name");

/// How many faults are told at once.
const MOST: usize = 5;

type Shapes = BTreeMap<&'static str, Vec<(&'static str, bool, &'static str)>>;

static KNOWN: LazyLock<Shapes> = LazyLock::new(shapes);

fn shapes() -> Shapes {
    let mut shapes = Shapes::new();
    let mut of = "";
    for word in SHAPES.split_whitespace() {
        match word.split_once(':') {
            None => of = word,
            Some((name, kind)) => {
                let required = name.ends_with('!');
                shapes.entry(of).or_default().push((name.trim_end_matches('!'), required, kind));
            }
        }
    }
    shapes
}

/// What AWS would refuse of a definition, in words; what it doesn't know is passed to it as it is. No value is shown: it may be a
/// secret.
pub(super) fn faults(definition: &Map<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    members(&KNOWN, "TaskDefinition", definition, "", &mut faults);
    faults.truncate(MOST);
    faults
}

fn members(shapes: &Shapes, shape: &str, map: &Map<String, Value>, path: &str, faults: &mut Vec<String>) {
    for (name, required, kind) in shapes.get(shape).into_iter().flatten() {
        let at = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
        match map.get(*name) {
            None | Some(Value::Null) if *required || (shape, *name) == NAMED => faults.push(format!("{at} is missing")),
            None | Some(Value::Null) => {}
            Some(value) => judge(shapes, kind, value, &at, faults),
        }
    }
}

fn judge(shapes: &Shapes, kind: &str, value: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(of) = kind.strip_suffix("[]") {
        match value {
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(n, item)| judge(shapes, of, item, &format!("{at}[{n}]"), faults));
            }
            other => faults.push(format!("{at} is {}, and AWS takes a list", name_of(other))),
        }
        return;
    }
    if let Some(of) = kind.strip_suffix("{}") {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| judge(shapes, of, value, &format!("{at}[{key:?}]"), faults));
            }
            other => faults.push(format!("{at} is {}, and AWS takes an object", name_of(other))),
        }
        return;
    }
    let wanted = match (kind, value) {
        ("text", Value::String(_)) | ("bool", Value::Bool(_)) | ("number", Value::Number(_)) => return,
        ("whole", Value::Number(number)) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => return,
        ("text", Value::Number(_) | Value::Bool(_)) => "text: put it in quotes",
        ("text", _) => "text",
        ("whole" | "number", Value::String(text)) if text.parse::<f64>().is_ok() => "a number: write it without quotes",
        ("whole", Value::Number(_)) => "a whole number",
        ("whole" | "number", _) => "a number",
        ("bool", Value::String(_)) => "true or false, without quotes",
        ("bool", _) => "true or false",
        (shape, Value::Object(map)) => return members(shapes, shape, map, at, faults),
        _ => "an object",
    };
    faults.push(format!("{at} is {}, and AWS takes {wanted}", name_of(value)));
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a Boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_aws_refuses_is_told_by_its_path() {
        let definition = json!({
            "family": "web", "cpu": 256, "tags": [{ "key": "team", "value": "a" }], "newerThanUs": { "x": 1 },
            "containerDefinitions": [
                {
                    "name": "app", "image": "app:1", "cpu": 0, "essential": "true", "command": "run",
                    "portMappings": [{ "containerPort": "80" }],
                    "environment": [{ "name": "PORT", "value": 80 }],
                    "logConfiguration": { "options": { "mode": "non-blocking" } },
                },
            ],
        });
        let told = faults(definition.as_object().unwrap());
        let expected = [
            "containerDefinitions[0].portMappings[0].containerPort is text, and AWS takes a number: write it without quotes",
            "containerDefinitions[0].essential is text, and AWS takes true or false, without quotes",
            "containerDefinitions[0].command is text, and AWS takes a list",
            "containerDefinitions[0].environment[0].value is a number, and AWS takes text: put it in quotes",
            "containerDefinitions[0].logConfiguration.logDriver is missing",
        ];
        assert_eq!(told, expected);
        let cpu = json!({ "family": "web", "cpu": 256, "containerDefinitions": [{ "image": "a" }] });
        let told = faults(cpu.as_object().unwrap());
        assert_eq!(
            told,
            ["containerDefinitions[0].name is missing", "cpu is a number, and AWS takes text: put it in quotes"]
        );
    }

    #[test]
    fn what_aws_takes_is_no_fault() {
        let definition = json!({
            "family": "web", "cpu": "256", "memory": "512", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "volumes": [{ "name": "data", "efsVolumeConfiguration": { "fileSystemId": "fs-1", "transitEncryptionPort": 2999 } }],
            "containerDefinitions": [{
                "name": "app", "image": "app:1", "memory": 512, "dockerLabels": { "a": "b" }, "dependsOn": null,
                "healthCheck": { "command": ["CMD", "true"], "interval": 30 },
                "ulimits": [{ "name": "nofile", "softLimit": 1024, "hardLimit": 4096 }],
            }],
        });
        assert_eq!(faults(definition.as_object().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn every_type_is_one_that_is_known() {
        let shapes = shapes();
        for (shape, members) in &shapes {
            for (name, _, kind) in members {
                let kind = kind.trim_end_matches("[]").trim_end_matches("{}");
                let plain = ["text", "whole", "number", "bool"].contains(&kind);
                assert!(plain || shapes.contains_key(kind), "{shape}.{name}: {kind}");
            }
        }
    }
}
