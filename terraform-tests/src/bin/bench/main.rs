//! `make bench`: start-up and plan cost beside a floor and a peer, measured in the same run and told as ratios. A figure
//! beyond its reach is marked, and fails nothing: machines are shared.

mod backfill;
mod plans;
mod process;
mod startup;

use std::process::ExitCode;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match bench().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All of it, or the part that is named: `bench backfill`.
async fn bench() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("backfill") {
        return backfill::run().await;
    }
    startup::run().await?;
    plans::run().await?;
    plans::calls_of_a_switch().await?;
    plans::calls_of_environments().await?;
    backfill::run().await
}

/// A figure with what it should reach.
#[expect(clippy::print_stdout, reason = "what the benchmark has to say")]
fn tell(what: &str, figure: &str, reached: Option<bool>) {
    let mark = match reached {
        Some(true) => "  (within reach)",
        Some(false) => "  (BEYOND REACH)",
        None => "",
    };
    println!("{what:<66} {figure}{mark}");
}
