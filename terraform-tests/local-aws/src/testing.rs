//! What the tests of this crate share: a local AWS, calls to it, and requests to its load balancers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::core::moto::{MotoClient, Scope};
use crate::core::upstream::send_once;
use crate::core::xml;
use crate::{Config, LocalAws, Rule};

/// No state that tests wait for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Local {
    pub aws: LocalAws,
    client: MotoClient,
    scope: Scope,
}

impl Local {
    pub(crate) async fn start() -> Self {
        Self::start_without(&[]).await
    }

    /// One that doesn't keep these rules.
    pub(crate) async fn start_without(rules: &[Rule]) -> Self {
        let without = rules.iter().copied().collect();
        let moto_python = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/venv/bin/python"));
        let config = Config { moto_python, health_interval_scale: 0.001, seed: Some(1), without, ..Config::default() };
        let aws = LocalAws::start(config).await.expect("local-aws starts");
        let address = aws.endpoint().trim_start_matches("http://").parse().expect("an address");
        let scope = Scope { access_key: "testing".to_owned(), region: "us-east-1".to_owned() };
        Self { aws, client: MotoClient::new(address), scope }
    }

    /// A call in the query protocol: status and text.
    pub(crate) async fn try_query(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let version = match service {
            "ec2" => "2016-11-15",
            "autoscaling" => "2011-01-01",
            _ => "2015-12-01",
        };
        let answer = self.client.query(&self.scope, service, version, action, parameters).await.expect("an answer");
        (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// A call as what is tested makes it, which doesn't look on.
    pub(crate) async fn tested(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let client = self.client.as_tested();
        let answer = client.query(&self.scope, service, "2015-12-01", action, parameters).await.expect("an answer");
        (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// The same of Parameter Store.
    pub(crate) async fn tested_ssm(&self, action: &str, parameters: &serde_json::Value) -> serde_json::Value {
        let client = self.client.as_tested();
        client.json(&self.scope, "ssm", &format!("AmazonSSM.{action}"), parameters).await.expect("an answer")
    }

    pub(crate) async fn query(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let (status, text) = self.try_query(service, action, parameters).await;
        assert_eq!(status, 200, "{action}: {text}");
        text
    }

    pub(crate) async fn elb(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.query("elasticloadbalancing", action, parameters).await
    }

    pub(crate) async fn autoscaling(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.query("autoscaling", action, parameters).await
    }

    pub(crate) async fn ecs(&self, action: &str, parameters: serde_json::Value) -> serde_json::Value {
        self.try_ecs(action, parameters).await.expect("ECS accepts the call")
    }

    pub(crate) async fn try_ecs(
        &self,
        action: &str,
        parameters: serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        self.client.ecs(&self.scope, action, &parameters).await
    }

    /// A group of targets behind a load balancer: the group's ARN and where the load balancer listens.
    pub(crate) async fn stage(&self, target_type: &str) -> (String, SocketAddr) {
        let subnets = self.subnets().await;
        let vpc = first(&self.query("ec2", "DescribeVpcs", &[]).await, "vpcId");
        let parameters = [
            ("Name", "web"),
            ("Protocol", "HTTP"),
            ("Port", "8080"),
            ("VpcId", &vpc),
            ("TargetType", target_type),
            ("HealthCheckPath", "/health"),
            ("HealthCheckIntervalSeconds", "5"),
            ("HealthCheckTimeoutSeconds", "2"),
        ];
        let group = first(&self.elb("CreateTargetGroup", &parameters).await, "TargetGroupArn");
        let parameters = [("Name", "front"), ("Subnets.member.1", &*subnets[0]), ("Subnets.member.2", &*subnets[1])];
        let balancer = first(&self.elb("CreateLoadBalancer", &parameters).await, "LoadBalancerArn");
        let parameters = [
            ("LoadBalancerArn", &*balancer),
            ("Protocol", "HTTP"),
            ("Port", "8000"),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", &group),
        ];
        self.elb("CreateListener", &parameters).await;
        let address = self.aws.load_balancers()[0].address;
        (group, SocketAddr::from((address, 8000)))
    }

    pub(crate) async fn subnets(&self) -> Vec<String> {
        let text = self.query("ec2", "DescribeSubnets", &[]).await;
        let ids = text.split("<subnetId>").skip(1).filter_map(|rest| rest.split('<').next());
        ids.map(str::to_owned).collect()
    }

    /// Status and text of a page, once every node knows what there is.
    pub(crate) async fn get(&self, address: SocketAddr) -> (u16, String) {
        self.aws.settled().await.expect("moto answers");
        get(address).await
    }

    /// How many targets are healthy.
    pub(crate) async fn healthy(&self, group: &str) -> usize {
        let text = self.elb("DescribeTargetHealth", &[("TargetGroupArn", group)]).await;
        text.matches("<State>healthy</State>").count()
    }
}

/// The text of the first element of this name.
pub(crate) fn first(xml: &str, name: &str) -> String {
    xml::text_of(xml, name).unwrap_or_else(|| panic!("no {name} in {xml}")).to_owned()
}

/// Status and text of a page, of a node that may be late.
pub(crate) async fn get(address: SocketAddr) -> (u16, String) {
    let request = Request::get("/").header("host", "web").body(Full::<Bytes>::default()).expect("a request");
    match send_once(address, request, Duration::from_secs(5)).await {
        Ok(response) => (response.status().as_u16(), String::from_utf8_lossy(response.body()).trim().to_owned()),
        Err(error) => (0, format!("{error:?}")),
    }
}

/// Asks until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asked).await.is_ok(), "never: {what}");
}
