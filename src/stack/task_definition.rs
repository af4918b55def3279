//! Task definitions: the JSON that register-task-definition takes, as teams have it on disk.

use serde_json::{Map, Value};

/// A task definition, ready to be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition(pub Map<String, Value>);

/// What describe-task-definition adds, and register-task-definition doesn't take.
const ANSWERED: [&str; 10] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "tags",
    "deleteRequestedAt",
];

impl TaskDefinition {
    /// Reads the JSON. The answer of describe-task-definition, with or without its envelope, is taken as well.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<TaskDefinition, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let Value::Object(mut map) = json else { return Err("must be a JSON object".to_owned()) };
        if let Some(Value::Object(inner)) = map.remove("taskDefinition") {
            map = inner;
        }
        map.retain(|name, value| !ANSWERED.contains(&name.as_str()) && !value.is_null());
        if map.contains_key("ContainerDefinitions") || map.contains_key("Family") {
            return Err(
                "the keys are those of CloudFormation; register-task-definition's begin in lower case, such as \
                        \"containerDefinitions\""
                    .to_owned(),
            );
        }
        if map.get("family").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err("\"family\" is missing".to_owned());
        }
        let containers = map.get("containerDefinitions").and_then(Value::as_array);
        if containers.is_none_or(Vec::is_empty) {
            return Err("\"containerDefinitions\" is missing, or has no container (a bare list of containers is not \
                        enough: put it into {\"family\": …, \"containerDefinitions\": …})"
                .to_owned());
        }
        Ok(TaskDefinition(map))
    }

    /// The names of the containers.
    pub fn containers(&self) -> Vec<&str> {
        let containers = self.0.get("containerDefinitions").and_then(Value::as_array);
        containers.into_iter().flatten().filter_map(|container| container.get("name")?.as_str()).collect()
    }

    /// The family.
    pub fn family(&self) -> &str {
        self.0.get("family").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn set_image(&mut self, image: &str, container: Option<&str>) -> Result<(), String> {
        let names = self.containers().join(", ");
        let containers = self.0.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        let containers: Vec<&mut Value> = containers.into_iter().flatten().collect();
        let only = containers.len() == 1;
        let named = |value: &Value| match container {
            Some(name) => value.get("name").and_then(Value::as_str) == Some(name),
            None => only,
        };
        match containers.into_iter().find(|value| named(value)).and_then(Value::as_object_mut) {
            Some(found) => {
                found.insert("image".to_owned(), Value::from(image));
                Ok(())
            }
            None if container.is_none() => {
                Err(format!("image needs container_name: the task definition has several containers ({names})"))
            }
            None => Err(format!("there is no container {:?}; there are {names}", container.unwrap_or_default())),
        }
    }

    /// What tells it from others, as its revisions are tagged.
    pub fn digest(&self) -> String {
        crate::digest::sha256(&self.text())
    }

    /// The JSON, keys in order.
    pub fn text(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// The JSON without the images, for comparing colors.
    pub(super) fn without_images(&self) -> Value {
        let mut map = self.0.clone();
        let containers = map.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
        Value::Object(map)
    }
}
