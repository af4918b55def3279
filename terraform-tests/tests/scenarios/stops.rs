//! Ctrl-C and SIGTERM, once and twice, in each phase of a rollout.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, said};
use tokio::time::{Instant, sleep, timeout};

const LOCK: &str = "/myapp/current-live.rollout";

/// What a rollout is doing when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// It waits for a lock that somebody on another machine may still hold.
    Lock,
    /// The load balancer is being told.
    Shift,
    /// The record is being written.
    Record,
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
            Phase::Health | Phase::Lock | Phase::Shift | Phase::Record => String::new(),
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

    /// What it takes to find it there.
    async fn prepare(self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Phase::Health => stage.make_unhealthy("green").await,
            Phase::Lock => {
                let seconds = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
                let theirs = json!({
                    "version": 1, "run": "another", "holder": "me@elsewhere", "machine": "elsewhere", "pid": 1,
                    "since": "2026-01-01T00:00:00Z", "beat": 0, "renewed": seconds, "lease_seconds": 60,
                });
                let lock = json!({ "Name": LOCK, "Type": "String", "Value": theirs.to_string(), "Overwrite": true });
                stage.client.ssm("PutParameter", lock).await.map(drop)
            }
            Phase::Shift | Phase::Record => {
                let (operation, about) =
                    if self == Phase::Shift { ("ModifyListener", "") } else { ("PutParameter", "current-live\"") };
                let fault = json!({ "operation": operation, "about": about, "action": { "delay_ms": 2000 } });
                stage.aws.add_fault(serde_json::from_value(fault)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits until it is there.
    async fn comes(self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            // What is waited for is the very thing that the stop is to meet.
            Phase::Health => return stage.waits_for_health().await,
            // Whoever waits for it writes nothing, and looks once a second; plan and apply look a few times before that.
            Phase::Lock => {
                let looks = |call: &&local_aws::Call| call.operation == "GetParameter" && call.params["Name"] == LOCK;
                return stage
                    .until(|stage| stage.aws.calls().iter().filter(looks).count() > 6, "waits for the lock")
                    .await;
            }
            _ => stage.rollout_begins().await?,
        }
        let called = match self {
            Phase::Shift => Some("ModifyListener"),
            Phase::Record => Some("PutParameter"),
            _ => None,
        };
        if let Some(operation) = called {
            // What is being done is held up for two seconds, and stopped in the middle of that.
            stage.until(|stage| stage.changes().last().is_some_and(|last| last == operation), "comes to it").await?;
            return Ok(());
        }
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
    phase.prepare(&stage).await?;
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
    let said = timeout(Duration::from_secs(60), said(child)).await??;
    let took = stopped.elapsed();
    eprintln!("{phase:?} {signal:?} twice={twice} hold={hold}: ended after {took:?}");
    // Everything was verified by then: the record is written, and there is nothing to go back for.
    let arrives = phase == Phase::Record;
    ensure!(arrives || said.code == 1, "{phase:?}: {}", said.text);
    if !twice && arrives {
        ensure!(stage.weights(0).await?["green"] == 100, "{phase:?}: {}", said.text);
        ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("green"), "{}", said.text);
    } else if !twice {
        ensure!(took < Duration::from_secs(15), "{phase:?}: it took {took:?}");
        said.has(&["The run was interrupted"])?;
        let back = if hold { ["Traffic stays where it is"] } else { ["The record /myapp/current-live says blue."] };
        if phase == Phase::Lock {
            said.has(&["while it waited for the lock", "Nothing was changed."])?;
        } else {
            said.has(&back)?;
        }
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
    if phase == Phase::Lock {
        stage.client.ssm("DeleteParameter", json!({ "Name": LOCK })).await?;
    }
    // Whatever was left, the next apply comes right.
    stage.apps["green"].set_failing(None);
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    // Killed after the record was written there is nothing left to do: a dead lock waits for the next rollout then.
    let may_stay = phase == Phase::Record && twice;
    ensure!(may_stay || stage.client.lock("/myapp/current-live").await?.is_none(), "the lock is left");
    terraform.plan_is_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_the_lock() -> anyhow::Result<()> {
    stop(Phase::Lock, Signal::INT, false, false).await?;
    stop(Phase::Lock, Signal::TERM, true, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_call_is_under_way() -> anyhow::Result<()> {
    stop(Phase::Shift, Signal::INT, false, false).await?;
    stop(Phase::Shift, Signal::TERM, true, false).await?;
    stop(Phase::Record, Signal::TERM, false, false).await?;
    stop(Phase::Record, Signal::INT, true, false).await
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
