//! A small AWS client for arranging things and looking at them: what a test sees must not come from the code it tests.

use anyhow::{Context as _, bail};
use local_aws::ONLOOKER;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// The region of everything here that is in no other.
pub const REGION: &str = "eu-central-1";
/// moto takes any key; this one is its account 123456789012.
pub const ACCESS_KEY: &str = "testing";

/// Calls the local AWS without a valid signature, which moto doesn't ask for.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: String,
    region: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the local AWS at this address.
    ///
    /// # Errors
    /// When no HTTP client can be set up.
    pub fn new(endpoint: &str) -> anyhow::Result<Client> {
        drop(rustls::crypto::ring::default_provider().install_default());
        // It arranges and looks on: what it sees is true, and its calls count for nobody.
        let onlooker = HeaderMap::from_iter([(HeaderName::from_static(ONLOOKER), HeaderValue::from_static("1"))]);
        let http = reqwest::Client::builder().no_proxy().default_headers(onlooker).build()?;
        Ok(Client { endpoint: endpoint.to_owned(), region: REGION.to_owned(), http })
    }

    /// The same in another region.
    #[must_use]
    pub fn elsewhere(&self, region: &str) -> Client {
        Client { region: region.to_owned(), ..self.clone() }
    }

    fn authorization(&self, service: &str) -> String {
        let scope = format!("{ACCESS_KEY}/20250101/{}/{service}/aws4_request", self.region);
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0")
    }

    /// A call of the load balancing API; its XML.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn elb(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("elasticloadbalancing", "2015-12-01", action, parameters).await
    }

    /// A call of the EC2 API; its XML.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("ec2", "2016-11-15", action, parameters).await
    }

    /// A call of the Auto Scaling API; its XML.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn autoscaling(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("autoscaling", "2011-01-01", action, parameters).await
    }

    /// A call of SNS; its XML.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn sns(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.query("sns", "2010-03-31", action, parameters).await
    }

    /// A call of CloudWatch; its XML.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn monitoring(&self, action: &str, parameters: &Value) -> anyhow::Result<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let pairs: Vec<(String, String)> =
            parameters.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.query("monitoring", "2010-08-01", action, &pairs).await
    }

    async fn query(
        &self,
        service: &str,
        version: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let request = self.http.post(&self.endpoint).header("authorization", self.authorization(service));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let response = request.send().await.with_context(|| format!("{action} got no answer"))?;
        let (status, text) = (response.status(), response.text().await?);
        if status.is_success() { Ok(text) } else { bail!("{action} answered {status}: {text}") }
    }

    /// A call of Parameter Store; its JSON.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ssm(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        self.json("ssm", "AmazonSSM", action, body).await
    }

    /// A call of ECS; its JSON.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ecs(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        self.json("ecs", "AmazonEC2ContainerServiceV20141113", action, body).await
    }

    /// A call of Application Auto Scaling; its JSON.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn application_autoscaling(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        self.json("application-autoscaling", "AnyScaleFrontendService", action, body).await
    }

    async fn json(&self, service: &str, target: &str, action: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.http.post(&self.endpoint).header("authorization", self.authorization(service));
        let request = request
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{target}.{action}"));
        let response = request.body(body.to_string()).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        if status.is_success() { Ok(serde_json::from_str(&text)?) } else { bail!("{action} answered {status}: {text}") }
    }

    /// The value of a parameter; none if it doesn't exist.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn parameter(&self, name: &str) -> anyhow::Result<Option<String>> {
        let answer = self.ssm("GetParameters", serde_json::json!({ "Names": [name] })).await?;
        Ok(answer["Parameters"][0]["Value"].as_str().map(str::to_owned))
    }

    /// What the lock of a record says of a rollout; none if it is free, or was never made.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn lock(&self, record: &str) -> anyhow::Result<Option<String>> {
        let value = self.parameter(&format!("{record}.rollout")).await?;
        Ok(value.filter(|value| !value.contains("\"status\":\"free\"")))
    }
}

/// The texts of all elements of this name.
pub fn elements<'x>(xml: &'x str, name: &str) -> Vec<&'x str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(open.as_str()).skip(1);
    parts.filter_map(|part| part.split_once(close.as_str()).map(|(text, _)| text)).collect()
}

/// The text of the first element of this name.
///
/// # Errors
/// When there is none.
pub fn element<'x>(xml: &'x str, name: &str) -> anyhow::Result<&'x str> {
    elements(xml, name).first().copied().with_context(|| format!("there is no {name} in {xml}"))
}
