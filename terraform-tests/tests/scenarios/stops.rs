//! Ctrl-C and SIGTERM, once and twice, in each phase of a rollout.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, said};
use tokio::time::{Instant, sleep, timeout};

/// What a rollout is doing when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// It waits for targets to be healthy.
    Health,
    /// A request hangs.
    Http,
    /// A command runs.
    Command,
    /// It gives the nodes time at 10 %.
    Settle,
    /// It holds at 10 %.
    Hold,
    /// It verifies at 100 %.
    Verification,
}

impl Phase {
    fn arguments(self, stage: &Stage) -> anyhow::Result<String> {
        let address = stage.apps["green"].addresses()[0];
        Ok(match self {
            Phase::Health => String::new(),
            Phase::Http => format!(
                "  validation = {{ http = [{{ url = \"http://{address}/slow?ms=60000\", timeout = \"90s\" }}] }}"
            ),
            Phase::Command => {
                format!("  validation = {{ command = [{{ argv = [\"sleep\", \"91.{}\"] }}] }}", address.port())
            }
            Phase::Settle => {
                "  strategy = { canary = { percent = 10, interval = \"1s\" }, settle = \"90s\" }".to_owned()
            }
            Phase::Hold => "  strategy = { canary = { percent = 10, interval = \"90s\" }, settle = \"0s\" }".to_owned(),
            Phase::Verification => {
                "  verification = { duration = \"90s\", healthy = {} }\n  strategy = { settle = \"0s\" }".to_owned()
            }
        })
    }

    /// Waits until it is there.
    async fn comes(self, stage: &Stage) -> anyhow::Result<()> {
        stage.rollout_begins().await?;
        let share = match self {
            Phase::Hold | Phase::Settle => 10,
            Phase::Verification => 100,
            _ => 0,
        };
        for _ in 0..2400 {
            if stage.weights(0).await?["green"] == share {
                break;
            }
            sleep(Duration::from_millis(25)).await;
        }
        // From the call to what comes after it.
        sleep(Duration::from_millis(700)).await;
        Ok(())
    }
}

async fn stop(phase: Phase, signal: Signal, twice: bool, hold: bool) -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let on_interrupt = if hold { "\n  on_interrupt = \"hold\"" } else { "" };
    let more = format!("{}{on_interrupt}", phase.arguments(&stage)?);
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    if phase == Phase::Health {
        stage.make_unhealthy("green").await?;
    }
    stage.aws.clear_calls();
    terraform.write(&stage.switch(Some("green"), &more))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    phase.comes(&stage).await?;
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else {
        anyhow::bail!("terraform has ended")
    };
    kill_process(pid, signal)?;
    let stopped = Instant::now();
    if twice {
        sleep(Duration::from_millis(20)).await;
        let _ = kill_process(pid, signal);
    }
    let said = timeout(Duration::from_secs(20), said(child)).await??;
    let took = stopped.elapsed();
    eprintln!("{phase:?} {signal:?} twice={twice} hold={hold}: ended after {took:?}");
    ensure!(said.code == 1, "{phase:?}: {}", said.text);
    if !twice {
        ensure!(took < Duration::from_secs(5), "{phase:?}: it took {took:?}");
        said.has(&["The run was interrupted."])?;
        let back = if hold { ["It stays where it is"] } else { ["The record /myapp/current-live says blue."] };
        said.has(&back)?;
        let green = stage.weights(0).await?["green"];
        let expected = match (hold, phase) {
            (true, Phase::Hold | Phase::Settle) => 10,
            (true, Phase::Verification) => 100,
            _ => 0,
        };
        ensure!(green == expected, "{phase:?}: green has {green}");
    }
    if phase == Phase::Command {
        // Nobody can end it after a kill but whoever started it all.
        let port = stage.apps["green"].addresses()[0].port();
        let found = std::process::Command::new("pgrep").args(["-f", &format!("sleep 91.{port}")]).output()?;
        let found = String::from_utf8(found.stdout)?;
        ensure!(twice || found.is_empty(), "the command is still there");
        for pid in found.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    // Whatever was left, the next apply comes right.
    stage.apps["green"].set_failing(None);
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    ensure!(stage.client.parameter("/myapp/current-live.rollout").await?.is_none(), "the lock is left");
    terraform.plan_is_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_health() -> anyhow::Result<()> {
    stop(Phase::Health, Signal::TERM, false, false).await?;
    stop(Phase::Health, Signal::INT, false, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_request_hangs() -> anyhow::Result<()> {
    stop(Phase::Http, Signal::INT, false, false).await?;
    stop(Phase::Http, Signal::TERM, true, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_command_runs() -> anyhow::Result<()> {
    stop(Phase::Command, Signal::INT, false, false).await?;
    stop(Phase::Command, Signal::TERM, false, false).await?;
    stop(Phase::Command, Signal::INT, true, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_nodes_follow() -> anyhow::Result<()> {
    stop(Phase::Settle, Signal::INT, false, false).await?;
    stop(Phase::Settle, Signal::TERM, false, true).await?;
    stop(Phase::Settle, Signal::TERM, true, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_hold() -> anyhow::Result<()> {
    stop(Phase::Hold, Signal::INT, false, false).await?;
    stop(Phase::Hold, Signal::TERM, false, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_verifies() -> anyhow::Result<()> {
    stop(Phase::Verification, Signal::TERM, false, false).await?;
    stop(Phase::Verification, Signal::INT, false, true).await
}

/// Terraform does not wait for a provider after the second one: what is left is as after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn twice() -> anyhow::Result<()> {
    for (phase, signal) in
        [(Phase::Health, Signal::INT), (Phase::Hold, Signal::INT), (Phase::Verification, Signal::TERM)]
    {
        stop(phase, signal, true, false).await?;
    }
    Ok(())
}
