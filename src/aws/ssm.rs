//! The records: plain SSM parameters.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::{Parameter, ParameterType};

use super::batch::Batch;
use super::error::error;
use crate::run::ports::{Error, Freshness, Kind, Records};

/// GetParameters takes ten names.
const NAMES_PER_CALL: usize = 10;

/// Systems Manager's parameter store.
pub(super) struct Ssm {
    client: Client,
    values: Batch<String>,
}

impl Ssm {
    pub(super) fn new(client: Client) -> Ssm {
        let reader = client.clone();
        let values = Batch::new(NAMES_PER_CALL, move |names| Box::pin(get_parameters(reader.clone(), names)));
        Ssm { client, values }
    }
}

async fn get_parameters(client: Client, names: Vec<String>) -> Result<BTreeMap<String, String>, Error> {
    let on = names.join(", ");
    let result = client.get_parameters().set_names(Some(names)).send().await;
    let output = result.map_err(|failure| error("GetParameters", &on, failure))?;
    let pair = |parameter: Parameter| Some((parameter.name?, parameter.value?));
    Ok(output.parameters.unwrap_or_default().into_iter().filter_map(pair).collect())
}

#[async_trait]
impl Records for Ssm {
    async fn get(&self, name: &str, freshness: Freshness) -> Result<Option<String>, Error> {
        self.values.get(name, freshness).await
    }

    async fn put(&self, name: &str, value: &str) -> Result<(), Error> {
        let call = self.client.put_parameter().name(name).value(value).r#type(ParameterType::String).overwrite(true);
        let result = call.send().await;
        self.values.forget();
        result.map(drop).map_err(|failure| error("PutParameter", name, failure))
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let result = self.client.delete_parameter().name(name).send().await;
        self.values.forget();
        match result.map_err(|failure| error("DeleteParameter", name, failure)) {
            Err(failure) if failure.kind != Kind::Gone => Err(failure),
            _ => Ok(()),
        }
    }
}
