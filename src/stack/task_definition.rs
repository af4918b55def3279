//! Task definitions: the JSON that register-task-definition takes, as teams have it on disk.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::register_model;

/// A task definition, ready to be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDefinition(pub Map<String, Value>);

/// What describe-task-definition adds, and register-task-definition doesn't take.
const ANSWERED: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];

impl TaskDefinition {
    /// Reads the JSON. The answer of describe-task-definition, with or without its envelope, is taken as well.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<TaskDefinition, String> {
        // Editors put a mark at the beginning of UTF-8, which is no part of the text.
        let text = text.trim_start_matches('\u{feff}');
        let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let Value::Object(mut map) = json else { return Err("must be a JSON object".to_owned()) };
        if let Some(Value::Object(mut inner)) = map.remove("taskDefinition") {
            // An answer has the tags beside it.
            inner.extend(map.remove("tags").map(|tags| ("tags".to_owned(), tags)));
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
        let faults = register_model::faults(&map);
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        Ok(TaskDefinition(map))
    }

    /// The tags that are written in it, but for those that only AWS or the provider gives.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let text = |tag: &Value, name: &str| Some(tag.get(name)?.as_str()?.to_owned());
        let pair = |tag: &Value| Some((text(tag, "key")?, text(tag, "value").unwrap_or_default()));
        let tags = self.0.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(pair);
        tags.filter(|(key, _)| !key.starts_with("aws:") && !key.starts_with("bluegreen:")).collect()
    }

    fn definitions(&self) -> &[Value] {
        self.0.get("containerDefinitions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The ports that a container, or the only one, maps; none if there is no such container, or it maps ranges.
    pub fn ports(&self, container: Option<&str>) -> Option<Vec<i64>> {
        let container = match (container, self.definitions()) {
            (None, [only]) => only,
            (name, all) => all.iter().find(|it| name.is_some() && it.get("name").and_then(Value::as_str) == name)?,
        };
        let mappings = container.get("portMappings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        mappings.iter().map(|mapping| mapping.get("containerPort")?.as_i64()).collect()
    }

    /// The containers that have no image.
    pub fn without_image(&self) -> Vec<&str> {
        let has_none = |it: &&Value| it.get("image").and_then(Value::as_str).is_none_or(str::is_empty);
        self.definitions().iter().filter(has_none).filter_map(|it| it.get("name")?.as_str()).collect()
    }

    /// The names of the containers.
    pub fn containers(&self) -> Vec<&str> {
        self.definitions().iter().filter_map(|container| container.get("name")?.as_str()).collect()
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
        // Tags name releases, too.
        map.remove("tags");
        let containers = map.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            container.remove("image");
        }
        Value::Object(map)
    }
}
