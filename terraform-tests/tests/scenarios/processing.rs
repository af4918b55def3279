//! What a rule of the switch's own does with a request before it forwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use local_aws::app::Handler;
use reqwest::{Client, redirect};
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, said};

/// Two colors behind a listener with TLS, which answer with what they are asked for.
async fn echoing() -> anyhow::Result<Stage> {
    let mut stage = Stage::bare().await?;
    for color in ["blue", "green"] {
        let echo: Handler = Arc::new(|_, path| Box::pin(async move { (path != "/health").then_some((200, path)) }));
        stage.color_with(color, Some(echo)).await?;
    }
    stage.secure_listener(Leads::Color("blue")).await?;
    Ok(stage)
}

const COHORT: &str = "  strategy = { settle = \"0s\", cohort = { conditions = { http_headers = { X-Tester = [\"1\"] } }, hold = \"6s\" } }";

/// A switch over one rule of its own that does this.
fn switch(stage: &Stage, active: &str, rule: &str) -> String {
    let listener = &stage.listeners[0];
    let paths = "path_pattern_regex_values = [\"^/api/v[0-9]/\"]";
    let routes = format!("[{{ listener_arn = \"{listener}\", priority = 10, conditions = {{ {paths} }}, {rule} }}]");
    stage.switch_over(Some(active), &routes, COHORT)
}

const TOKENS: &str = r#"
  jwt_validation = {
    issuer            = "https://id.example.com"
    jwks_endpoint     = "https://id.example.com/keys"
    additional_claims = [{ name = "scope", format = "space-separated-values", values = ["write", "read"] }]
  }
  url_rewrite         = { regex = "^/api/(.*)$", replace = "/$1" }
  host_header_rewrite = { regex = "^.*$", replace = "inner.example.com" }
"#;

fn sign_in(secret: &str) -> String {
    format!(
        r#"
  authenticate_oidc = {{
    issuer                 = "https://id.example.com"
    authorization_endpoint = "https://id.example.com/authorize"
    token_endpoint         = "https://id.example.com/token"
    user_info_endpoint     = "https://id.example.com/user"
    client_id              = "web"
    client_secret          = "{secret}"
  }}
"#
    )
}

/// What users are told once every node knows the last change: the status, the color and what it was asked for.
async fn ask(stage: &Stage, headers: &[(&str, &str)]) -> anyhow::Result<(u16, String, String)> {
    stage.aws.settled().await?;
    ask_now(stage.address(0)?, headers).await
}

/// What users are told now, maybe by a node that is late.
async fn ask_now(address: SocketAddr, headers: &[(&str, &str)]) -> anyhow::Result<(u16, String, String)> {
    let http =
        Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(Duration::from_secs(10)).build()?;
    let call = http.get(format!("http://{address}/api/v1/users?page=2"));
    let answer = headers.iter().fold(call, |call, (name, value)| call.header(*name, *value)).send().await?;
    let of = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, to) = (answer.status().as_u16(), of("x-color").or_else(|| of("location")));
    Ok((status, to.unwrap_or_default(), answer.text().await?))
}

const TOKEN: (&str, &str) = ("authorization", "Bearer a.b.c");
const TESTER: (&str, &str) = ("x-tester", "1");

/// A rule lets in who brings a token, and rewrites; so does the one that is made for a cohort.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_asks_for_a_token_and_rewrites() -> anyhow::Result<()> {
    let stage = echoing().await?;
    let terraform = Terraform::new()?;
    terraform.write(&switch(&stage, "blue", TOKENS))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(ask(&stage, &[]).await?.0 == 401);
    let (status, color, path) = ask(&stage, &[TOKEN]).await?;
    ensure!((status, color.as_str()) == (200, "blue") && path.starts_with("/v1/users"), "{status} {color} {path}");
    terraform.write(&switch(&stage, "green", TOKENS))?;
    terraform.plan().await?.has(&["create rule 9 of listener", "for the cohort of rule 10 of listener"])?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let (status, color, path) = ask_now(stage.address(0)?, &[TOKEN, TESTER]).await?;
        ensure!(status == 200 && path.starts_with("/v1/users"), "{status} {path}");
        if color == "green" {
            break;
        }
        ensure!(tokio::time::Instant::now() < deadline, "nobody is led to green");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(ask_now(stage.address(0)?, &[TESTER]).await?.0 == 401);
    said(child).await?.ok()?;
    terraform.plan_is_empty().await?;
    terraform.destroy().await?.ok()?;
    Ok(())
}

/// The secret of an identity provider is told to AWS and to nobody else, and another one is a change.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_lets_users_sign_in() -> anyhow::Result<()> {
    let stage = echoing().await?;
    let terraform = Terraform::new()?;
    let (first, second) = (sign_in("the-first-secret"), sign_in("the-second-secret"));
    for (rule, secret, changed) in [
        (first.as_str(), "the-first-secret", "rule 10 of listener"),
        (second.as_str(), "the-second-secret", "change the authentication of rule 10 of listener"),
        (
            TOKENS,
            "the-second-secret",
            "change the authentication, add the host_header_rewrite, add the url_rewrite of rule 10",
        ),
        (
            second.as_str(),
            "the-second-secret",
            "change the authentication, remove the host_header_rewrite, remove the url_rewrite of rule 10",
        ),
    ] {
        terraform.write(&switch(&stage, "blue", rule))?;
        let plan = terraform.plan().await?;
        plan.has(&[changed])?;
        ensure!(!plan.text.contains(secret), "{}", plan.text);
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
    }
    let (status, to, _) = ask(&stage, &[]).await?;
    ensure!((status, to.as_str()) == (302, "https://id.example.com/authorize"), "{status} {to}");
    let signed_in = ("cookie", "AWSELBAuthSessionCookie-0=x");
    let (status, color, path) = ask(&stage, &[signed_in]).await?;
    ensure!((status, color.as_str()) == (200, "blue") && path.starts_with("/api/v1/users"), "{status} {color} {path}");
    // It moves with all the rest.
    terraform.write(&switch(&stage, "green", &sign_in("the-second-secret")))?;
    terraform.apply().await?.ok()?;
    ensure!(ask(&stage, &[signed_in]).await?.1 == "green");
    terraform.destroy().await?.ok()?;
    Ok(())
}
