//! The record, in Parameter Store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_ssm::primitives::DateTime;
use aws_sdk_ssm::types::{ParameterType, ResourceTypeForTagging, Tag};

use super::batch::Gather;
use super::connection::Connection;
use super::error::{call_error, or_if_gone};
use crate::clock;
use crate::migration::Recorded;
use crate::rollout::lock_record::SUFFIX;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::rollout::ports::Records;

/// GetParameters takes at most ten names.
const NAMES_PER_CALL: usize = 10;
/// Parameter Store keeps so many versions of a parameter, and drops the oldest for a further one.
const MOST_VERSIONS: i64 = 100;

pub(super) struct Ssm {
    connection: Arc<Connection>,
    gather: Gather<String, Value>,
    /// Of lock records, apart: AWS refuses a call as a whole where one of its names is not allowed.
    locks: Gather<String, Value>,
}

impl Ssm {
    pub(super) fn new(connection: Arc<Connection>) -> Ssm {
        Ssm { connection, gather: Gather::new(NAMES_PER_CALL), locks: Gather::new(NAMES_PER_CALL) }
    }

    async fn put(&self, name: &str, value: &str, tags: Option<&BTreeMap<String, String>>) -> Result<i64, PortError> {
        let call = self.connection.ssm().await?.put_parameter().name(name).value(value);
        let call = match tags {
            None => call.overwrite(true),
            Some(tags) => {
                let tags = to_tags(tags)?;
                let description = if name.ends_with(".rollout") {
                    "The lock of rollouts: who runs one, or what one left"
                } else {
                    "The live color of a blue-green switch"
                };
                call.r#type(ParameterType::String).description(description).overwrite(false).set_tags(Some(tags))
            }
        };
        let result = call.send().await;
        let answer = result.map_err(|error| call_error("ssm", &format!("PutParameter {name}"), &error))?;
        Ok(answer.version())
    }
}

impl Ssm {
    /// Since when a parameter has had this value without a break: a pipeline may write the same one again and again.
    /// Parameter Store keeps a hundred versions.
    async fn since(&self, name: &str, value: &str) -> Result<Option<DateTime>, PortError> {
        let client = self.connection.ssm().await?;
        let (mut since, mut token) = (None, None);
        loop {
            let answer = client.get_parameter_history().name(name).set_next_token(token).send().await;
            let answer = answer.map_err(|error| call_error("ssm", &format!("GetParameterHistory {name}"), &error))?;
            // The oldest come first.
            for version in answer.parameters() {
                since = match version.value() {
                    Some(other) if other == value => since.or(version.last_modified_date().copied()),
                    _ => None,
                };
            }
            token = answer.next_token().map(str::to_owned);
            if token.is_none() {
                return Ok(since);
            }
        }
    }
}

fn to_tags(tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, PortError> {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    tags.collect::<Result<_, _>>().map_err(|error| PortError::new(FailureKind::Other, error.to_string()))
}

/// A parameter's value, or why it can't be used.
type Value = Result<String, PortError>;

async fn read(connection: Arc<Connection>, names: Vec<String>) -> Result<HashMap<String, Value>, PortError> {
    let answer = connection.ssm().await?.get_parameters().set_names(Some(names)).send().await;
    let answer = answer.map_err(|error| call_error("ssm", "GetParameters", &error))?;
    let pair = |parameter: &aws_sdk_ssm::types::Parameter| {
        let (name, value) = (parameter.name()?.to_owned(), parameter.value()?.to_owned());
        if parameter.r#type() == Some(&ParameterType::SecureString) {
            let words = format!("the parameter {name} is a SecureString; a record is a String, for all to read");
            return Some((name, Err(PortError::new(FailureKind::Other, words))));
        }
        Some((name, Ok(value)))
    };
    Ok(answer.parameters().iter().filter_map(pair).collect())
}

#[async_trait]
impl Records for Ssm {
    async fn get(&self, name: &str, age: Freshness) -> Result<Option<String>, PortError> {
        let connection = self.connection.clone();
        match age {
            Freshness::Shared => {
                let gather = if name.ends_with(SUFFIX) { &self.locks } else { &self.gather };
                gather.get(name.to_owned(), |names| read(connection, names)).await?.transpose()
            }
            Freshness::Now => read(connection, vec![name.to_owned()]).await?.remove(name).transpose(),
        }
    }

    async fn get_version(&self, name: &str, version: Option<i64>) -> Result<Option<(String, i64)>, PortError> {
        let selector = version.map_or_else(|| name.to_owned(), |version| format!("{name}:{version}"));
        let result = self.connection.ssm().await?.get_parameter().name(&selector).send().await;
        let result = result.map_err(|error| call_error("ssm", &format!("GetParameter {selector}"), &error));
        let answer = or_if_gone(result.map(Some), None)?;
        let parameter = answer.and_then(|answer| answer.parameter);
        Ok(parameter.and_then(|parameter| Some((parameter.value()?.to_owned(), parameter.version()))))
    }

    async fn recorded(&self, name: &str) -> Result<Option<Recorded>, PortError> {
        let result = self.connection.ssm().await?.get_parameter().name(name).send().await;
        let result = result.map_err(|error| call_error("ssm", &format!("GetParameter {name}"), &error));
        let Some(parameter) = or_if_gone(result.map(Some), None)?.and_then(|answer| answer.parameter) else {
            return Ok(None);
        };
        let (Some(color), Some(written)) = (parameter.value(), parameter.last_modified_date()) else { return Ok(None) };
        let since = match self.since(name, color).await {
            Ok(since) => since.unwrap_or(*written),
            // Whoever may not read the history is told of the last write, which is no earlier.
            Err(error) if error.kind == FailureKind::Denied => *written,
            Err(error) => return Err(error),
        };
        let since = SystemTime::try_from(since).unwrap_or_else(|_| clock::wall());
        Ok(Some(Recorded { color: color.to_owned(), since }))
    }

    async fn barring_label(&self, name: &str) -> Result<Option<(String, i64)>, PortError> {
        // Whoever has fewer can have no such version.
        let latest = self.get_version(name, None).await?.map_or(0, |(_, version)| version);
        if latest < MOST_VERSIONS {
            return Ok(None);
        }
        let client = self.connection.ssm().await?;
        let mut token = None;
        loop {
            // The oldest come first; a page may be empty.
            let answer = client.get_parameter_history().name(name).max_results(1).set_next_token(token).send().await;
            let answer = answer.map_err(|error| call_error("ssm", &format!("GetParameterHistory {name}"), &error))?;
            if let Some(oldest) = answer.parameters().first() {
                let is_full = latest - oldest.version() + 1 >= MOST_VERSIONS;
                let label = oldest.labels().first().filter(|_| is_full);
                return Ok(label.map(|label| (label.clone(), oldest.version())));
            }
            token = answer.next_token().map(str::to_owned);
            if token.is_none() {
                return Ok(None);
            }
        }
    }

    async fn create(&self, name: &str, value: &str, tags: &BTreeMap<String, String>) -> Result<i64, PortError> {
        self.put(name, value, Some(tags)).await
    }

    async fn write(&self, name: &str, value: &str) -> Result<i64, PortError> {
        self.put(name, value, None).await
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        let result = self.connection.ssm().await?.delete_parameter().name(name).send().await;
        let result = result.map(drop).map_err(|error| call_error("ssm", &format!("DeleteParameter {name}"), &error));
        or_if_gone(result, ())
    }

    async fn tags(&self, name: &str) -> Result<BTreeMap<String, String>, PortError> {
        let call = self.connection.ssm().await?.list_tags_for_resource();
        let call = call.resource_type(ResourceTypeForTagging::Parameter).resource_id(name);
        let answer = call.send().await;
        let answer = answer.map_err(|error| call_error("ssm", &format!("ListTagsForResource {name}"), &error))?;
        Ok(answer.tag_list().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }

    async fn add_tags(&self, name: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        let call = self.connection.ssm().await?.add_tags_to_resource();
        let call = call.resource_type(ResourceTypeForTagging::Parameter).resource_id(name);
        let result = call.set_tags(Some(to_tags(tags)?)).send().await;
        result.map(drop).map_err(|error| call_error("ssm", &format!("AddTagsToResource {name}"), &error))
    }
}
