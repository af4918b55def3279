//! `make demo`: a real terraform moves real HTTP traffic between blue and green, under load, without an AWS account.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use terraform_tests::client::{ACCESS_KEY, REGION};
use terraform_tests::load::{Load, Seen};
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, engine, repository};
use tokio::time::Instant;

/// The demo switches this often.
const SWITCHES: usize = 8;
const CLIENTS: usize = 8;
/// Each client rests this long between requests: enough load to notice anything, and cores left for terraform.
const PAUSE: Duration = Duration::from_millis(4);
/// How long clients may take to see what terraform said is done.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// How long a color is watched before the next switch.
const WATCH: Duration = Duration::from_millis(1500);
const BAR_CELLS: usize = 40;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let run = tokio::select! {
        run = demo() => run,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Plays it; whether every switch was seen and no request failed.
async fn demo() -> anyhow::Result<bool> {
    let view = View::new();
    view.say("Starting a local AWS: a load balancer, two target groups, two app servers for each color …");
    let mut stage = Stage::empty().await?;
    stage.listener(Leads::Color("green")).await?;
    let terraform = prepare(&stage)?;
    let address = stage.address(0)?;
    view.say(&format!("The app is at http://{address}/ (green answers); {CLIENTS} clients keep asking."));
    let load = Load::start(address, CLIENTS, PAUSE)?;
    let mut switches = 0;
    let mut complete = true;
    for n in 1..=SWITCHES {
        let active = if n % 2 == 1 { "blue" } else { "green" };
        let begun = Instant::now();
        let variable = format!("active={active}");
        let arguments = ["apply", "-auto-approve", "-input=false", "-no-color", "-var", &variable];
        let what = format!("terraform apply -var {variable}");
        let applied = view.while_running(&load, &what, terraform.run(&arguments)).await?;
        if applied.code != 0 {
            bail!("terraform apply failed:\n{}", applied.text);
        }
        let took = begun.elapsed();
        let seen = view.while_running(&load, &format!("clients move to {active}"), until_seen(&load, active)).await;
        let steps = steps(&terraform).await?;
        view.switched(n, active, took, seen, &steps);
        switches += usize::from(seen);
        complete &= seen;
        view.while_running(&load, &format!("{active} is live"), tokio::time::sleep(WATCH)).await;
        complete &= view.only(active, &load).await;
    }
    let seen = load.stop().await;
    view.finish();
    if let Some(failure) = &seen.first_failure {
        view.say(&format!("The first request that failed: {failure}"));
    }
    view.say(&format!("demo: {switches} switches, {} requests, {} failed", seen.requests, seen.failed));
    Ok(complete && seen.failed == 0 && switches == SWITCHES)
}

/// The example that users are given, applied as they would: everything else comes from the environment.
fn prepare(stage: &Stage) -> anyhow::Result<Terraform> {
    let mut terraform = Terraform::on(engine("any").context("no engine: run `make demo`")?)?;
    let example = repository().join("examples/stacks/existing-load-balancer/main.tf");
    terraform.write(&std::fs::read_to_string(&example).with_context(|| example.display().to_string())?)?;
    let groups: BTreeMap<&str, &str> = ["blue", "green"].map(|color| (color, stage.group(color))).into();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", stage.aws.endpoint()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
        ("TF_VAR_listener_arn", stage.listeners[0].clone()),
        ("TF_VAR_target_group_arns", serde_json::to_string(&groups)?),
    ] {
        terraform.set(name, &value);
    }
    Ok(terraform)
}

async fn steps(terraform: &Terraform) -> anyhow::Result<Vec<String>> {
    let said = terraform.run(&["output", "-json", "steps"]).await?.ok()?;
    Ok(serde_json::from_str(&said.stdout)?)
}

async fn until_seen(load: &Load, color: &str) -> bool {
    let end = Instant::now() + SEEN_WITHIN;
    while Instant::now() < end {
        if load.seen().last.as_deref() == Some(color) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

/// What a person sees: bars that move on a terminal, plain lines elsewhere.
struct View {
    bars: Option<(MultiProgress, ProgressBar, ProgressBar)>,
}

impl View {
    fn new() -> View {
        if !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
            return View { bars: None };
        }
        let bars = MultiProgress::new();
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let traffic = bars.add(ProgressBar::new_spinner().with_style(style("\n  {msg}")));
        let work = bars.add(ProgressBar::new_spinner().with_style(style("  {spinner:.cyan} {msg} {elapsed:.dim}\n")));
        work.enable_steady_tick(Duration::from_millis(100));
        View { bars: Some((bars, traffic, work)) }
    }

    /// A line that stays.
    #[expect(clippy::print_stdout, reason = "what the demo has to say")]
    fn say(&self, line: &str) {
        match &self.bars {
            Some((bars, ..)) if !bars.is_hidden() => drop(bars.println(line)),
            _ => println!("{line}"),
        }
    }

    /// Shows who answers while something runs.
    async fn while_running<T>(&self, load: &Load, what: &str, work: impl Future<Output = T>) -> T {
        if let Some((_, _, bar)) = &self.bars {
            bar.reset_elapsed();
            bar.set_message(what.to_owned());
        }
        tokio::pin!(work);
        let (mut before, mut since) = (load.seen(), Instant::now());
        let every = if self.bars.is_some() { Duration::from_millis(200) } else { Duration::from_secs(1) };
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = tokio::time::sleep(every) => {
                    let now = load.seen();
                    self.traffic(&before, &now, since.elapsed());
                    (before, since) = (now, Instant::now());
                }
            }
        }
    }

    fn traffic(&self, before: &Seen, now: &Seen, elapsed: Duration) {
        let count = |seen: &Seen, color: &str| seen.colors.get(color).copied().unwrap_or_default();
        let (blue, green) = (count(now, "blue") - count(before, "blue"), count(now, "green") - count(before, "green"));
        let rate = (now.requests - before.requests) as f64 / elapsed.as_secs_f64().max(0.001);
        let share = if blue + green == 0 { 0.0 } else { blue as f64 / (blue + green) as f64 };
        match &self.bars {
            Some((_, bar, _)) => {
                let cells = (share * BAR_CELLS as f64).round() as usize;
                let (left, right) = ("█".repeat(cells), "█".repeat(BAR_CELLS - cells));
                bar.set_message(format!(
                    "blue {:>3.0} % \x1b[34m{left}\x1b[32m{right}\x1b[0m {:>3.0} % green   {rate:>5.0} requests/s   {}",
                    share * 100.0,
                    (1.0 - share) * 100.0,
                    failures(now.failed),
                ));
            }
            None => self.say(&format!(
                "  blue {:>3.0} %, green {:>3.0} %, {rate:.0} requests/s, {} failed",
                share * 100.0,
                100.0 - share * 100.0,
                now.failed
            )),
        }
    }

    fn switched(&self, n: usize, active: &str, took: Duration, seen: bool, steps: &[String]) {
        let (mark, ansi) = match (seen, active) {
            (false, _) => ("✗", "31"),
            (true, "blue") => ("✓", "34"),
            (true, _) => ("✓", "32"),
        };
        let text = format!("{mark} {n}/{SWITCHES} {active} is live, {:.1} s", took.as_secs_f64());
        if self.bars.is_some() {
            self.say(&format!("  \x1b[{ansi}m{text}\x1b[0m"));
            steps.iter().for_each(|step| self.say(&format!("      \x1b[2m{step}\x1b[0m")));
        } else {
            self.say(&text);
            steps.iter().for_each(|step| self.say(&format!("    {step}")));
        }
    }

    /// Whether nobody but this color answers any more.
    async fn only(&self, active: &str, load: &Load) -> bool {
        let others = |seen: Seen| seen.colors.iter().filter(|(color, _)| *color != active).map(|(_, n)| n).sum::<u64>();
        let before = others(load.seen());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let after = others(load.seen());
        if before != after {
            self.say(&format!("✗ {} requests were answered by another color than {active}", after - before));
        }
        before == after
    }

    fn finish(&self) {
        if let Some((bars, traffic, work)) = &self.bars {
            traffic.finish_and_clear();
            work.finish_and_clear();
            drop(bars.clear());
            bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
    }
}

fn failures(count: u64) -> String {
    if count == 0 { "\x1b[32m0 failed\x1b[0m".to_owned() } else { format!("\x1b[31m{count} failed\x1b[0m") }
}
