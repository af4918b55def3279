//! A stage: a local AWS with an Application Load Balancer, two target groups and two small app servers for each color.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use local_aws::app::{App, AppConfig, Handler};
use local_aws::{Config, LocalAws};

use crate::client::{ACCESS_KEY, Client, REGION, element, elements};
use crate::shell::Shell;
use crate::terraform::{Terraform, repository};

/// The listeners' first port; each load balancer has an address of its own.
const FIRST_PORT: u16 = 8080;

/// Everything that a scenario plays on. Dropping it ends it all.
pub struct Stage {
    /// The local AWS.
    pub aws: Arc<LocalAws>,
    /// Calls it from outside.
    pub client: Client,
    /// The load balancer's ARN.
    pub load_balancer: String,
    /// The target groups by color.
    pub groups: BTreeMap<String, String>,
    /// The app servers by color.
    pub apps: BTreeMap<String, App>,
    /// The listeners' ARNs in the order of their ports, from 8080.
    pub listeners: Vec<String>,
}

/// What a listener does by default.
pub enum Leads<'a> {
    /// Forwards to this color alone, as stacks do before a switch comes.
    Color(&'a str),
    /// Answers 503.
    Unavailable,
    /// These actions, as parameters of CreateListener.
    Actions(Vec<(String, String)>),
}

impl Stage {
    /// A stage with blue and green, and one listener that leads to blue.
    ///
    /// # Errors
    /// When something can't be set up.
    pub async fn new() -> anyhow::Result<Stage> {
        let mut stage = Stage::empty().await?;
        stage.listener(Leads::Color("blue")).await?;
        Ok(stage)
    }

    /// A stage with blue and green, and no listener yet.
    ///
    /// # Errors
    /// When something can't be set up.
    pub async fn empty() -> anyhow::Result<Stage> {
        Stage::bare().await?.with_colors().await
    }

    /// A stage as [`Stage::new`], whose nodes follow a change so much later than the API.
    ///
    /// # Errors
    /// When something can't be set up.
    pub async fn late(converge: Duration) -> anyhow::Result<Stage> {
        let mut stage = Stage::bare_with(converge).await?.with_colors().await?;
        stage.listener(Leads::Color("blue")).await?;
        Ok(stage)
    }

    /// A stage with a load balancer, and nothing behind it.
    ///
    /// # Errors
    /// When something can't be set up.
    pub async fn bare() -> anyhow::Result<Stage> {
        Stage::bare_with(Duration::ZERO).await
    }

    async fn bare_with(converge: Duration) -> anyhow::Result<Stage> {
        let config = Config {
            moto_python: repository().join(".tools/venv/bin/python"),
            health_interval_scale: 0.01,
            converge,
            // What lasts minutes on AWS lasts seconds here.
            pace: 10.0,
            ..Config::default()
        };
        let aws = Arc::new(LocalAws::start(config).await?);
        let client = Client::new(&aws.endpoint())?;
        Stage::on(aws, client).await
    }

    /// A stage with blue and green in another region of the same AWS, and one listener that leads to blue.
    ///
    /// # Errors
    /// When something can't be set up.
    pub async fn elsewhere(&self, region: &str) -> anyhow::Result<Stage> {
        let mut stage = Stage::on(self.aws.clone(), self.client.elsewhere(region)).await?.with_colors().await?;
        stage.listener(Leads::Color("blue")).await?;
        Ok(stage)
    }

    async fn with_colors(mut self) -> anyhow::Result<Stage> {
        for color in ["blue", "green"] {
            self.color(color).await?;
        }
        Ok(self)
    }

    async fn on(aws: Arc<LocalAws>, client: Client) -> anyhow::Result<Stage> {
        let load_balancer = make_load_balancer(&client, "web").await?;
        let (groups, apps) = (BTreeMap::new(), BTreeMap::new());
        Ok(Stage { aws, client, load_balancer, groups, apps, listeners: Vec::new() })
    }

    /// The VPC, and two subnets in it.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn network(&self) -> anyhow::Result<(String, [String; 2])> {
        let subnets = self.client.ec2("DescribeSubnets", &[]).await?;
        let (vpc, ids) = (element(&subnets, "vpcId")?.to_owned(), elements(&subnets, "subnetId"));
        let [first, second, ..] = ids.as_slice() else { anyhow::bail!("there are no two subnets") };
        Ok((vpc, [(*first).to_owned(), (*second).to_owned()]))
    }

    /// Adds a color: a target group and two servers.
    ///
    /// # Errors
    /// When it can't be made.
    pub async fn color(&mut self, color: &str) -> anyhow::Result<()> {
        self.color_with(color, None).await
    }

    /// Adds a color whose servers answer in their own way.
    ///
    /// # Errors
    /// When it can't be made.
    pub async fn color_with(&mut self, color: &str, handler: Option<Handler>) -> anyhow::Result<()> {
        let listen = [2, 3].map(|host| SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).to_vec();
        let app = App::start(AppConfig { listen, color: color.to_owned(), release: "1".to_owned(), handler }).await?;
        self.color_of(color, app.addresses()).await?;
        self.apps.insert(color.to_owned(), app);
        Ok(())
    }

    /// Adds a color of servers that run already.
    ///
    /// # Errors
    /// When it can't be made.
    pub async fn color_of(&mut self, color: &str, servers: &[SocketAddr]) -> anyhow::Result<()> {
        let group = make_group(&self.client, &format!("myapp-{color}")).await?;
        for address in servers {
            self.register(&group, *address).await?;
        }
        self.groups.insert(color.to_owned(), group);
        Ok(())
    }

    /// Registers a target.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn register(&self, group: &str, address: SocketAddr) -> anyhow::Result<()> {
        let (id, port) = (address.ip().to_string(), address.port().to_string());
        let target = [("TargetGroupArn", group), ("Targets.member.1.Id", &id), ("Targets.member.1.Port", &port)];
        self.client.elb("RegisterTargets", &target).await.map(drop)
    }

    /// Takes a target out.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn deregister(&self, group: &str, address: SocketAddr) -> anyhow::Result<()> {
        let id = address.ip().to_string();
        let target = [("TargetGroupArn", group), ("Targets.member.1.Id", &id)];
        self.client.elb("DeregisterTargets", &target).await.map(drop)
    }

    /// Adds a listener; the first has port 8080, the next 8081 and so on.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn listener(&mut self, default: Leads<'_>) -> anyhow::Result<String> {
        let load_balancer = self.load_balancer.clone();
        self.listener_of(load_balancer, default).await
    }

    /// The same, as AWS sees it with TLS: its nodes speak plain HTTP.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn secure_listener(&mut self, default: Leads<'_>) -> anyhow::Result<String> {
        let load_balancer = self.load_balancer.clone();
        let certificate = "arn:aws:iam::123456789012:server-certificate/web";
        let tls = [("Protocol", "HTTPS"), ("Certificates.member.1.CertificateArn", certificate)];
        self.listener_speaking(load_balancer, &tls, default).await
    }

    /// Adds another load balancer with a listener on the next port; where clients find it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn load_balancer(&mut self, name: &str, default: Leads<'_>) -> anyhow::Result<SocketAddr> {
        let (arn, port) = (make_load_balancer(&self.client, name).await?, self.port(self.listeners.len()));
        self.listener_of(arn.clone(), default).await?;
        let served = self.aws.load_balancers();
        let found = served.iter().find(|served| served.arn == arn).context("it isn't served")?;
        Ok(SocketAddr::from((found.address, port)))
    }

    async fn listener_of(&mut self, load_balancer: String, default: Leads<'_>) -> anyhow::Result<String> {
        self.listener_speaking(load_balancer, &[("Protocol", "HTTP")], default).await
    }

    async fn listener_speaking(
        &mut self,
        load_balancer: String,
        protocol: &[(&str, &str)],
        default: Leads<'_>,
    ) -> anyhow::Result<String> {
        let port = self.port(self.listeners.len()).to_string();
        let mut parameters = vec![("LoadBalancerArn".to_owned(), load_balancer), ("Port".to_owned(), port)];
        parameters.extend(protocol.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        parameters.extend(match default {
            Leads::Color(color) => forward(1, &[(self.group(color), 1)]),
            Leads::Unavailable => fixed(1, "503"),
            Leads::Actions(actions) => actions,
        });
        let arn = element(&self.call("CreateListener", &parameters).await?, "ListenerArn")?.to_owned();
        self.listeners.push(arn.clone());
        Ok(arn)
    }

    /// Adds a rule to a listener, for a path, that leads to a color.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn rule(&self, listener: usize, priority: u32, path: &str, color: &str) -> anyhow::Result<String> {
        let mut parameters = vec![
            ("ListenerArn".to_owned(), self.listeners[listener].clone()),
            ("Priority".to_owned(), priority.to_string()),
            ("Conditions.member.1.Field".to_owned(), "path-pattern".to_owned()),
            ("Conditions.member.1.Values.member.1".to_owned(), path.to_owned()),
        ];
        let actions = forward(1, &[(self.group(color), 1)]);
        parameters
            .extend(actions.into_iter().map(|(name, value)| (name.replacen("DefaultActions", "Actions", 1), value)));
        Ok(element(&self.call("CreateRule", &parameters).await?, "RuleArn")?.to_owned())
    }

    /// Moves a listener's weights by hand, as a pipeline would.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn set_weights(&self, listener: usize, weights: &[(&str, u32)]) -> anyhow::Result<()> {
        let groups: Vec<(&str, u32)> = weights.iter().map(|(color, weight)| (self.group(color), *weight)).collect();
        let mut parameters = vec![("ListenerArn".to_owned(), self.listeners[listener].clone())];
        parameters.extend(forward(1, &groups));
        self.call("ModifyListener", &parameters).await.map(drop)
    }

    async fn call(&self, action: &str, parameters: &[(String, String)]) -> anyhow::Result<String> {
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.client.elb(action, &parameters).await
    }

    /// A listener's default actions, as AWS words them.
    ///
    /// # Errors
    /// When it isn't there.
    pub async fn actions(&self, listener: usize) -> anyhow::Result<String> {
        let arn = self.listeners[listener].as_str();
        let xml = self.client.elb("DescribeListeners", &[("ListenerArns.member.1", arn)]).await?;
        Ok(element(&xml, "DefaultActions")?.to_owned())
    }

    /// A listener's weights by color.
    ///
    /// # Errors
    /// When it isn't there.
    pub async fn weights(&self, listener: usize) -> anyhow::Result<BTreeMap<String, u32>> {
        Ok(self.weights_in(&self.actions(listener).await?))
    }

    /// The weights of a rule's actions by color.
    ///
    /// # Errors
    /// When it isn't there.
    pub async fn rule_weights(&self, rule: &str) -> anyhow::Result<BTreeMap<String, u32>> {
        let xml = self.client.elb("DescribeRules", &[("RuleArns.member.1", rule)]).await?;
        Ok(self.weights_in(element(&xml, "Actions")?))
    }

    fn weights_in(&self, actions: &str) -> BTreeMap<String, u32> {
        let groups = elements(actions, "TargetGroups").join("");
        let weight = |member: &str| {
            let arn = element(member, "TargetGroupArn").ok()?.to_owned();
            let color = self.groups.iter().find(|(_, group)| **group == arn)?.0.clone();
            Some((color, element(member, "Weight").ok().and_then(|text| text.parse().ok()).unwrap_or(1)))
        };
        let mut weights: BTreeMap<String, u32> = elements(&groups, "member").into_iter().filter_map(weight).collect();
        if weights.is_empty() {
            let single = element(actions, "TargetGroupArn").unwrap_or_default();
            weights.extend(self.groups.iter().filter(|(_, arn)| *arn == single).map(|(color, _)| (color.clone(), 1)));
        }
        weights
    }

    /// The servers of a color as a list for `targets`.
    #[must_use]
    pub fn servers(&self, color: &str) -> String {
        let target = |at: &SocketAddr| format!("{{ id = \"{}\", port = {} }}", at.ip(), at.port());
        let targets: Vec<String> = self.apps[color].addresses().iter().map(target).collect();
        format!("[{}]", targets.join(", "))
    }

    /// The target group of a color; of one that isn't there, nothing.
    #[must_use]
    pub fn group(&self, color: &str) -> &str {
        self.groups.get(color).map_or("", String::as_str)
    }

    /// The port of a listener by its place.
    #[must_use]
    pub fn port(&self, listener: usize) -> u16 {
        FIRST_PORT + u16::try_from(listener).unwrap_or_default()
    }

    /// Where clients find a listener.
    ///
    /// # Errors
    /// When the load balancer isn't served.
    pub fn address(&self, listener: usize) -> anyhow::Result<SocketAddr> {
        let served = self.aws.load_balancers();
        let found = served.iter().find(|served| served.arn == self.load_balancer).context("it isn't served")?;
        Ok(SocketAddr::from((found.address, self.port(listener))))
    }

    /// The color that answers a request to a listener's path, once every node knows the last change.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn answers(&self, listener: usize, path: &str) -> anyhow::Result<String> {
        self.aws.settled().await?;
        let url = format!("http://{}{path}", self.address(listener)?);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let response = http.get(url).send().await?;
        let color = response.headers().get("x-color").and_then(|color| color.to_str().ok()).map(str::to_owned);
        Ok(color.unwrap_or_else(|| response.status().as_u16().to_string()))
    }

    /// A shell in which a person pastes commands for this stage.
    #[must_use]
    pub fn shell(&self) -> Shell<'static> {
        Shell { endpoint: self.aws.endpoint(), profiles: None }
    }

    /// Lets a configuration that takes region, credentials and endpoints from the environment find this stage.
    pub fn lend_to(&self, terraform: &mut Terraform) {
        terraform.set("AWS_REGION", REGION);
        terraform.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        terraform.set("AWS_SECRET_ACCESS_KEY", "testing");
        terraform.set("AWS_ENDPOINT_URL", &self.aws.endpoint());
    }

    /// An example as it stands, in the folder of this run, that finds the stage by the environment.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn example(&self, mut terraform: Terraform, name: &str) -> anyhow::Result<Terraform> {
        let example = repository().join("examples/stacks").join(name).join("main.tf");
        terraform.write(&std::fs::read_to_string(example)?)?;
        self.lend_to(&mut terraform);
        Ok(terraform)
    }

    /// An example that leads the first listener to one of two colors, with these variables: blue is live, and green is asked for next.
    ///
    /// # Errors
    /// When it can't be applied, or its plan is not empty afterwards.
    pub async fn example_on_blue(&self, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<Terraform> {
        let mut terraform = self.example(Terraform::new()?, name)?;
        terraform.set("TF_VAR_listener_arn", self.listeners.first().map_or("", String::as_str));
        terraform.set("TF_VAR_target_group_arns", &serde_json::to_string(&self.groups)?);
        for (name, value) in variables {
            terraform.set(&format!("TF_VAR_{name}"), value);
        }
        terraform.set("TF_VAR_active", "blue");
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        terraform.set("TF_VAR_active", "green");
        self.aws.clear_calls();
        Ok(terraform)
    }

    /// What providers are needed, and the provider block that leads to this stage.
    #[must_use]
    pub fn provider(&self) -> String {
        format!(
            "terraform {{\n  required_providers {{\n    bluegreen = {{ source = \"bluegreen/bluegreen\" }}\n  }}\n}}\n\n{}\n",
            self.provider_block()
        )
    }

    /// The provider block that leads to this stage, for an example that says itself what providers it needs.
    #[must_use]
    pub fn provider_block(&self) -> String {
        format!(
            "provider \"bluegreen\" {{\n  region       = \"{REGION}\"\n  access_key   = \"{ACCESS_KEY}\"\n  \
             secret_key   = \"testing\"\n  endpoint_url = \"{}\"\n}}\n",
            self.aws.endpoint()
        )
    }

    /// The colors as a map for `environments`.
    #[must_use]
    pub fn environments(&self) -> String {
        let mut text = "{\n".to_owned();
        for (color, group) in &self.groups {
            let _ = writeln!(text, "    {color} = {{ target_group_arn = \"{group}\" }}");
        }
        text + "  }"
    }

    /// A configuration with one switch over the first listener; `more` goes into the resource.
    #[must_use]
    pub fn switch(&self, active: Option<&str>, more: &str) -> String {
        let listener = self.listeners.first().map_or("", String::as_str);
        self.switch_over(active, &format!("[{{ listener_arn = \"{listener}\" }}]"), more)
    }

    /// A configuration with one switch over these routes.
    #[must_use]
    pub fn switch_over(&self, active: Option<&str>, routes: &str, more: &str) -> String {
        let active = active.map_or(String::new(), |color| format!("  active       = \"{color}\"\n"));
        format!(
            "{}resource \"bluegreen_switch\" \"app\" {{\n  name         = \"myapp\"\n{active}  environments = {}\n  \
             routes       = {routes}\n  parameter    = \"/myapp/current-live\"\n{more}\n}}\n\n\
             output \"live\" {{ value = bluegreen_switch.app.live }}\n",
            self.provider(),
            self.environments()
        )
    }

    /// Routes: the first listener, and on it a rule of the switch's own, for `/api/*` with priority 10.
    #[must_use]
    pub fn listener_and_own_rule(&self) -> String {
        let listener = self.listeners.first().map_or("", String::as_str);
        format!(
            "[{{ listener_arn = \"{listener}\" }}, {{ listener_arn = \"{listener}\", priority = 10, conditions = {{ \
             path_patterns = [\"/api/*\"] }} }}]"
        )
    }

    /// A configuration of fifty environments of instances, of which none runs.
    ///
    /// # Errors
    /// When the network can't be read.
    pub async fn fifty_environments(&self) -> anyhow::Result<String> {
        let (vpc, [subnet, _]) = self.network().await?;
        Ok(format!(
            r#"{}locals {{
  names = {{ for pair in setproduct(range(25), ["blue", "green"]) : "${{pair[0]}}-${{pair[1]}}" => pair }}
}}
resource "bluegreen_environment" "app" {{
  for_each     = local.names
  name         = "app-${{each.value[0]}}"
  color        = each.value[1]
  vpc_id       = "{vpc}"
  target_group = {{ port = 80 }}
  instances = {{
    image_id = "ami-12345678", instance_type = "t3.medium", subnet_ids = ["{subnet}"], min_size = 0, max_size = 1
  }}
}}
"#,
            self.provider()
        ))
    }

    /// Lets a color's servers fail, and waits until the load balancer knows.
    ///
    /// # Errors
    /// When it never does.
    pub async fn make_unhealthy(&self, color: &str) -> anyhow::Result<()> {
        if let Some(app) = self.apps.get(color) {
            app.set_failing(Some(503));
        }
        for _ in 0..600 {
            let health = self.client.elb("DescribeTargetHealth", &[("TargetGroupArn", self.group(color))]).await?;
            if !elements(&health, "State").contains(&"healthy") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        anyhow::bail!("{color} stays healthy")
    }

    /// The calls that changed something at the load balancer or the record, since the log was cleared; without those
    /// about the rollout's lock.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let calls = self.aws.calls();
        let asks = |call: &&local_aws::Call| !["lambda", "sns"].contains(&call.service.as_str());
        let changes = calls.iter().filter(asks).filter(|call| call.mutating && !is_about_lock(call));
        changes.map(|call| call.operation.clone()).collect()
    }

    /// Waits until a rollout has its lock.
    ///
    /// # Errors
    /// When none comes to it.
    pub async fn rollout_begins(&self) -> anyhow::Result<()> {
        self.until(|stage| stage.aws.calls().iter().any(|call| call.mutating && is_about_lock(call)), "begins").await
    }

    /// Waits until the provider, having begun its rollout, asks for the health of targets.
    ///
    /// # Errors
    /// When it never does.
    pub async fn waits_for_health(&self) -> anyhow::Result<()> {
        let waits = |stage: &Stage| {
            let calls = stage.aws.calls();
            let began = calls.iter().position(|call| call.mutating && is_about_lock(call));
            began.is_some_and(|began| calls[began..].iter().any(|call| call.operation == "DescribeTargetHealth"))
        };
        self.until(waits, "waits for health").await
    }

    /// Waits until something holds.
    ///
    /// # Errors
    /// When it never does.
    pub async fn until(&self, holds: impl Fn(&Stage) -> bool, what: &str) -> anyhow::Result<()> {
        for _ in 0..2400 {
            if holds(self) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        anyhow::bail!("it never {what}")
    }
}

/// Whether a call is about the parameter that keeps rollouts apart.
fn is_about_lock(call: &local_aws::Call) -> bool {
    call.params["Name"].as_str().is_some_and(|name| name.ends_with(".rollout"))
}

async fn make_load_balancer(client: &Client, name: &str) -> anyhow::Result<String> {
    let subnets = client.ec2("DescribeSubnets", &[]).await?;
    let subnets: Vec<String> = elements(&subnets, "subnetId").into_iter().map(str::to_owned).collect();
    let (first, second) = (subnets.first().context("no subnet")?, subnets.get(1).context("no second subnet")?);
    let parameters = [("Name", name), ("Subnets.member.1", first), ("Subnets.member.2", second)];
    Ok(element(&client.elb("CreateLoadBalancer", &parameters).await?, "LoadBalancerArn")?.to_owned())
}

async fn make_group(client: &Client, name: &str) -> anyhow::Result<String> {
    let vpcs = client.ec2("DescribeVpcs", &[]).await?;
    let vpc = element(&vpcs, "vpcId")?;
    let parameters = [
        ("Name", name),
        ("Protocol", "HTTP"),
        ("Port", "80"),
        ("VpcId", vpc),
        ("TargetType", "ip"),
        ("HealthCheckPath", "/health"),
        ("HealthCheckIntervalSeconds", "5"),
        ("HealthCheckTimeoutSeconds", "2"),
        ("HealthyThresholdCount", "2"),
        ("UnhealthyThresholdCount", "2"),
    ];
    Ok(element(&client.elb("CreateTargetGroup", &parameters).await?, "TargetGroupArn")?.to_owned())
}

/// The parameters of a forward action as the n-th default action.
#[must_use]
pub fn forward(n: usize, groups: &[(&str, u32)]) -> Vec<(String, String)> {
    let mut out = vec![(format!("DefaultActions.member.{n}.Type"), "forward".to_owned())];
    for (i, (arn, weight)) in groups.iter().enumerate() {
        let prefix = format!("DefaultActions.member.{n}.ForwardConfig.TargetGroups.member.{}", i + 1);
        out.push((format!("{prefix}.TargetGroupArn"), (*arn).to_owned()));
        out.push((format!("{prefix}.Weight"), weight.to_string()));
    }
    out
}

/// The parameters of a fixed response as the n-th default action.
#[must_use]
pub fn fixed(n: usize, status: &str) -> Vec<(String, String)> {
    let prefix = format!("DefaultActions.member.{n}");
    vec![
        (format!("{prefix}.Type"), "fixed-response".to_owned()),
        (format!("{prefix}.FixedResponseConfig.StatusCode"), status.to_owned()),
        (format!("{prefix}.FixedResponseConfig.ContentType"), "text/plain".to_owned()),
        (format!("{prefix}.FixedResponseConfig.MessageBody"), "not yet".to_owned()),
    ]
}
