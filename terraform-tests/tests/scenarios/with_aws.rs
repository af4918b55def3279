//! In one configuration with the hashicorp/aws provider: its network, load balancer, listener and target groups beside
//! our environments and switch, and the ready-made module.

use anyhow::{Context as _, ensure};
use terraform_tests::client::{ACCESS_KEY, REGION, element, elements};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, binaries, repository};

/// Both providers in one filesystem mirror, as teams have them.
fn mirrored(terraform: &Terraform) -> anyhow::Result<()> {
    let mirror = terraform.folder().join("mirror");
    let version = env!("CARGO_PKG_VERSION");
    let ours = mirror.join(format!("registry.terraform.io/bluegreen/bluegreen/{version}/linux_amd64"));
    std::fs::create_dir_all(&ours)?;
    let binary = "terraform-provider-bluegreen";
    std::os::unix::fs::symlink(binaries().join(binary), ours.join(format!("{binary}_v{version}")))?;
    // Terraform follows links to files here, not to folders.
    let place = "registry.terraform.io/hashicorp/aws/3.39.0/linux_amd64";
    let program = "terraform-provider-aws_v3.39.0_x5";
    std::fs::create_dir_all(mirror.join(place))?;
    let installed = repository().join(".tools/mirror").join(place).join(program);
    std::os::unix::fs::symlink(installed, mirror.join(place).join(program))?;
    terraform.file(
        "terraform.rc",
        &format!("provider_installation {{\n  filesystem_mirror {{\n    path = {mirror:?}\n  }}\n}}\n"),
    )
}

fn providers(stage: &Stage) -> String {
    let endpoint = stage.aws.endpoint();
    format!(
        r#"{}
provider "aws" {{
  region                      = "{REGION}"
  access_key                  = "{ACCESS_KEY}"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  endpoints {{
    ec2 = "{endpoint}"
    elb = "{endpoint}"
  }}
}}

resource "aws_vpc" "this" {{
  cidr_block = "10.7.0.0/16"
}}

resource "aws_subnet" "this" {{
  for_each          = {{ a = "10.7.1.0/24", b = "10.7.2.0/24" }}
  vpc_id            = aws_vpc.this.id
  cidr_block        = each.value
  availability_zone = "{REGION}${{each.key}}"
}}
"#,
        stage.provider().replace(
            "    bluegreen = { source = \"bluegreen/bluegreen\" }",
            "    bluegreen = { source = \"bluegreen/bluegreen\" }\n    aws       = { source = \"hashicorp/aws\" }"
        )
    )
}

/// From a VPC that is only known in the same apply to a DNS name, a release and a switch, and nothing left of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_module_gives_everything() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let terraform = Terraform::new()?;
    mirrored(&terraform)?;
    for file in ["main.tf", "variables.tf", "outputs.tf"] {
        let text = std::fs::read_to_string(repository().join("examples/modules/instances").join(file))?;
        terraform.file(&format!("module/{file}"), &text)?;
    }
    let root = |active: &str, green: &str, protect: bool| {
        format!(
            r#"{}
module "app" {{
  source                   = "./module"
  name                     = "shop"
  active                   = "{active}"
  releases                 = {{ blue = "1", green = "{green}" }}
  images                   = {{ blue = "ami-12345678", green = "ami-0000{green}" }}
  user_data                = {{ for color in ["blue", "green"] : color => "export COLOR=${{color}}\n" }}
  vpc_id                   = aws_vpc.this.id
  load_balancer_subnet_ids = [for subnet in aws_subnet.this : subnet.id]
  instance_subnet_ids      = [for subnet in aws_subnet.this : subnet.id]
  health_check             = {{ interval = 5, timeout = 2 }}
  protect_live             = {protect}
  tags                     = {{ team = "shop" }}
}}
output "live" {{ value = module.app.live }}
output "dns_name" {{ value = module.app.dns_name }}
"#,
            providers(&stage)
        )
    };
    terraform.write(&root("blue", "1", true))?;
    terraform.run(&["init", "-no-color", "-input=false"]).await?.ok()?;
    terraform.apply().await?.ok()?.has(&["live = \"blue\"", "dns_name = \"shop"])?;
    terraform.plan_is_empty().await?;
    terraform.write(&root("blue", "2", true))?;
    terraform.apply().await?.ok()?;
    terraform.write(&root("green", "2", true))?;
    terraform.apply().await?.ok()?.has(&["live = \"green\""])?;
    terraform.plan_is_empty().await?;
    stage.aws.settled().await?;
    let served = stage.aws.load_balancers();
    let shop = served.iter().find(|balancer| balancer.arn.contains("/shop/")).context("it isn't served")?;
    let answer = reqwest::get(format!("http://{}:80/", shop.address)).await;
    // Port 80 is not everybody's to listen on; where it is, green answers.
    if let Ok(answer) = answer {
        ensure!(answer.headers().get("x-color").is_some_and(|color| color == "green"));
    }
    terraform.write(&root("green", "2", false))?;
    terraform.apply().await?.ok()?;
    terraform.destroy().await?.ok()?;
    let groups = stage.client.elb("DescribeTargetGroups", &[]).await?;
    ensure!(elements(&groups, "TargetGroupArn").is_empty(), "{groups}");
    let vpcs = stage.client.ec2("DescribeVpcs", &[]).await?;
    ensure!(!vpcs.contains("10.7.0.0/16"));
    ensure!(stage.client.parameter("/shop/current-live").await?.is_none());
    Ok(())
}

/// Their load balancer, listener and target groups; our environments adopt the groups, one has targets of its own.
#[tokio::test(flavor = "multi_thread")]
async fn their_groups_are_adopted() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let terraform = Terraform::new()?;
    mirrored(&terraform)?;
    let root = |active: &str| {
        format!(
            r#"{}
resource "aws_lb" "this" {{
  name    = "theirs"
  subnets = [for subnet in aws_subnet.this : subnet.id]
}}
resource "aws_lb_target_group" "this" {{
  for_each    = toset(["blue", "green"])
  name        = "theirs-${{each.key}}"
  port        = 8080
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = aws_vpc.this.id
}}
resource "aws_lb_listener" "this" {{
  load_balancer_arn = aws_lb.this.arn
  port              = 8099
  protocol          = "HTTP"
  default_action {{
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["blue"].arn
  }}
  lifecycle {{
    ignore_changes = [default_action]
  }}
}}
resource "bluegreen_environment" "app" {{
  for_each         = aws_lb_target_group.this
  name             = "theirs"
  color            = each.key
  target_group_arn = each.value.arn
  targets          = [{{ id = each.key == "blue" ? "127.0.0.2" : "127.0.0.3", port = 8080 }}]
}}
resource "bluegreen_switch" "app" {{
  name         = "theirs"
  active       = "{active}"
  environments = bluegreen_environment.app
  routes       = [{{ listener_arn = aws_lb_listener.this.arn }}]
  parameter    = "/theirs/current-live"
  validation   = {{ healthy = {{ min_count = 0, min_percent_of_live = 0 }} }}
}}
"#,
            providers(&stage)
        )
    };
    terraform.write(&root("blue"))?;
    terraform.run(&["init", "-no-color", "-input=false"]).await?.ok()?;
    for active in ["blue", "green"] {
        terraform.write(&root(active))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
    }
    let groups = stage.client.elb("DescribeTargetGroups", &[("Names.member.1", "theirs-green")]).await?;
    let health = [("TargetGroupArn", element(&groups, "TargetGroupArn")?)];
    ensure!(stage.client.elb("DescribeTargetHealth", &health).await?.contains("127.0.0.3"));
    Ok(())
}

/// The example of a stack that a pipeline has moved so far: it is imported as it is, and drifts for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_stack_is_adopted() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let terraform = Terraform::new()?;
    mirrored(&terraform)?;
    let example = |file: &str| std::fs::read_to_string(repository().join("examples/stacks/adopt-a-stack").join(file));
    let providers = providers(&stage);
    // The network is there already.
    terraform.write(providers.split("resource \"aws_vpc\"").next().unwrap_or_default())?;
    terraform.file("before.tf", &example("before.tf")?)?;
    terraform.file("terraform.tfvars.json", &{
        let (vpc, _) = stage.network().await?;
        serde_json::json!({ "vpc_id": vpc, "load_balancer_arn": stage.load_balancer }).to_string()
    })?;
    terraform.run(&["init", "-no-color", "-input=false"]).await?.ok()?;
    terraform.apply().await?.ok()?;

    // The pipeline has moved the traffic since.
    let find = |xml: String| element(&xml, "TargetGroupArn").map(str::to_owned);
    let group = async |color: &str| {
        let name = format!("shop-{color}");
        find(stage.client.elb("DescribeTargetGroups", &[("Names.member.1", &name)]).await?)
    };
    let (blue, green) = (group("blue").await?, group("green").await?);
    let listener = terraform.state("aws_lb_listener.http").await?["arn"].as_str().context("no listener")?.to_owned();
    let mut parameters = vec![("ListenerArn".to_owned(), listener)];
    parameters.extend(terraform_tests::stage::forward(1, &[(&blue, 0), (&green, 100)]));
    let pairs: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    stage.client.elb("ModifyListener", &pairs).await?;
    let record = serde_json::json!({ "Name": "/shop/current-live", "Type": "String", "Value": "green" });
    stage.client.ssm("PutParameter", record).await?;
    terraform.plan_is_empty().await?;

    terraform.file("switch.tf", &example("switch.tf")?)?;
    stage.aws.clear_calls();
    let said = terraform.apply().await?.ok()?;
    said.has(&["1 to import, 0 to add", "live = \"green\""])?;
    ensure!(stage.changes().is_empty(), "{:?}", stage.changes());
    terraform.plan_is_empty().await
}
