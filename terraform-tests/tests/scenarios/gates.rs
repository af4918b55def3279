//! A color that is not fit gets no request.

use anyhow::ensure;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Said, Terraform};

const QUICK: &str = "  validation = { healthy = { timeout = \"2s\", interval = \"200ms\" } }";

/// Blue is live, green fails as told by `break_green`; apply must refuse before the first change.
async fn refused(more: &str, break_green: impl AsyncFnOnce(&Stage) -> anyhow::Result<()>) -> anyhow::Result<Said> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), more))?;
    terraform.apply().await?.ok()?;
    break_green(&stage).await?;
    stage.aws.clear_calls();
    terraform.write(&stage.switch(Some("green"), more))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    ensure!(stage.changes().is_empty(), "{:?}", stage.changes());
    ensure!(stage.weights(0).await?["blue"] == 100);
    ensure!(stage.answers(0, "/").await? == "blue");
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("blue"));
    said.has(&["Failed to switch myapp to green", "Nothing was changed.", "blue 100 %, green 0 %", "says blue"])?;
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["live"] == "blue" && state["last_rollout"]["status"] == "rolled_back", "{state}");
    terraform.plan().await?.has(&["~ active = \"blue\" -> \"green\""])?;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_healthy_target() -> anyhow::Result<()> {
    let said = refused(QUICK, async |stage| stage.make_unhealthy("green").await);
    let expected = "green has 0 healthy of 2 registered targets, 2 are needed (100 % of the live color's 2)";
    said.await?.has(&[
        expected,
        "127.0.0.2:",
        "unhealthy (Target.ResponseCodeMismatch: Health checks failed with these codes: [503])",
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_target_at_all() -> anyhow::Result<()> {
    let said = refused(QUICK, async |stage| {
        for address in stage.apps["green"].addresses() {
            stage.deregister(stage.group("green"), *address).await?;
        }
        Ok(())
    });
    said.await?.has(&["green has 0 healthy of 0 registered targets, 2 are needed"])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_targets() -> anyhow::Result<()> {
    let said = refused(QUICK, async |stage| {
        let first = stage.apps["green"].addresses()[0];
        stage.deregister(stage.group("green"), first).await?;
        // Nobody listens on this port.
        let dead = std::net::SocketAddr::new(first.ip(), 1);
        stage.register(stage.group("green"), dead).await
    });
    let expected = "green has 1 healthy of 2 registered targets, 2 are needed (100 % of the live color's 2)";
    said.await?.has(&[expected, "127.0.0.2:1: unhealthy (Target.FailedHealthChecks: Health checks failed)"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_on_the_check_url() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let addresses = |color: &str| stage.apps[color].addresses()[0];
    let terraform = Terraform::new()?;
    // The color stands in the address of the check, as it stands in the host name in the field.
    let more = |color: &str| {
        let url = format!("http://{}/health?key=a-secret&color={{color}}", addresses(color));
        format!(
            "  validation = {{ http = [{{ url = \"{url}\", body_matches = \"ok\", retries = 1, retry_delay = \"100ms\" }}] }}"
        )
    };
    terraform.write(&stage.switch(Some("blue"), &more("blue")))?;
    terraform.apply().await?.ok()?;
    // Health is told by the load balancer's own check; only the URL of the switch's check fails.
    let broken = local_aws::app::App::start(local_aws::app::AppConfig {
        listen: vec!["127.0.0.9:0".parse()?],
        color: "green".to_owned(),
        release: "2".to_owned(),
        handler: None,
    });
    let broken = broken.await?;
    broken.set_failing(Some(500));
    stage.aws.clear_calls();
    let url = format!("http://{}/of/{{color}}?key=a-secret", broken.addresses()[0]);
    let check = format!("  validation = {{ http = [{{ url = \"{url}\", retries = 1, retry_delay = \"100ms\" }}] }}");
    terraform.write(&stage.switch(Some("green"), &check))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&[
        "/of/green answered with status 500 instead of 200",
        "(2 tries)",
        "the body begins",
        "Nothing was changed.",
    ])?;
    ensure!(!terraform.state("bluegreen_switch.app").await?["runbook"].to_string().contains("a-secret"));
    ensure!(stage.changes().is_empty());
    ensure!(stage.answers(0, "/").await? == "blue");
    broken.set_failing(None);
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    Ok(())
}

/// Where nobody was served yet, a color that turns out unhealthy does not stay.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_color_is_proved_too() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    stage.listener(Leads::Unavailable).await?;
    stage.apps["blue"].set_failing(Some(500));
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), QUICK))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["blue has 0 healthy of 2 registered targets, 1 are needed", "a fixed 503 answer", "does not exist"])?;
    ensure!(stage.answers(0, "/").await? == "503");
    ensure!(terraform.state("bluegreen_switch.app").await?.is_null(), "nothing of ours is left, so nothing is tainted");
    stage.apps["blue"].set_failing(None);
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.answers(0, "/").await? == "blue");
    Ok(())
}
