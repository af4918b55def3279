//! Whether the credentials last as long as a rollout, and its way back: one whose calls are refused in the midst is stuck there.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::Shared;
use crate::clock;
use crate::duration::shown;
use crate::platform::{Lifetime, Renewal};
use crate::rollout::Runbook;
use crate::run::rollout::events::rfc3339;
use crate::run::rollout::ports::Lasting;
use crate::tf_provider::Diagnostics;

/// How long before their end a run is on its way back: what that takes, with its looks and the calls that are made again.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// STS gives out no session that is shorter: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
const SHORTEST_SESSION: Duration = Duration::from_secs(15 * 60);

/// Tells while planning that the credentials may end in the midst. The apply may have others, so that nothing is refused yet.
pub(super) async fn warn(shared: &Shared, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    let (least, parts) = runbook.least_duration();
    if least.is_zero() {
        return;
    }
    let takes = takes(least, &parts);
    match lifetime(shared).await {
        Some(Lifetime::Until(end, renewal)) if is_short(end, least) => {
            let then = match renewal {
                Renewal::Never => "An apply with the same ones is refused before anything moves.".to_owned(),
                Renewal::ByFile(file) => {
                    format!("They last longer only if the token in {file} is written anew by then.")
                }
            };
            let detail = format!("{takes} The credentials of this run end {}. {then} {ADVICE}", when(end));
            diagnostics.warning("The credentials end before the rollout would", detail);
        }
        Some(Lifetime::Unknown) if least + MARGIN > SHORTEST_SESSION => {
            let detail = format!(
                "{takes} The credentials are those of a session, and nothing tells until when: where they end in the midst, traffic stays split until the next apply. {ADVICE} Where they come from the environment, set AWS_CREDENTIAL_EXPIRATION, too, as `aws configure export-credentials --format env` prints it; then it is held against the rollout."
            );
            diagnostics.warning("It is not known how long the credentials last", detail);
        }
        _ => {}
    }
}

/// Whether the credentials surely end before the rollout would; then that is told.
pub(super) async fn are_too_short(shared: &Shared, runbook: &Runbook, diagnostics: &mut Diagnostics) -> bool {
    let (least, parts) = runbook.least_duration();
    // What is done at once is not kept from anybody, least of all a way back.
    if least.is_zero() {
        return false;
    }
    let Some(Lifetime::Until(end, Renewal::Never)) = lifetime(shared).await else { return false };
    if !is_short(end, least) {
        return false;
    }
    let detail = format!(
        "{} The credentials of this run end {}, and with the way back, {}, that is too early: it would be stuck with split traffic. Nothing was changed.\n\nNext: {ADVICE}",
        takes(least, &parts),
        when(end),
        shown(MARGIN)
    );
    diagnostics.error("The credentials end before the rollout would", detail);
    true
}

/// The credentials of a run under way.
pub(super) struct Bound<'a>(pub &'a Shared);

#[async_trait]
impl Lasting for Bound<'_> {
    async fn left(&self) -> Option<Duration> {
        // Asked again when it is near: a token that is written anew makes it later.
        match lifetime(self.0).await? {
            Lifetime::Until(end, _) => Some(left(end).saturating_sub(MARGIN)),
            Lifetime::Renewed | Lifetime::Unknown => None,
        }
    }
}

const ADVICE: &str = "Use credentials that last longer (duration in assume_role or assume_role_with_web_identity, and the maximum session duration of the role; a role that is assumed by another role has an hour at most) or that are renewed (a profile, an instance or container role, a token file), or hold for a shorter time.";

async fn lifetime(shared: &Shared) -> Option<Lifetime> {
    let lifetime = shared.platform.lifetime().await;
    lifetime.inspect_err(|error| tracing::warn!(%error, "it can't be seen how long the credentials last")).ok()
}

fn is_short(end: SystemTime, least: Duration) -> bool {
    left(end) < least + MARGIN
}

fn left(end: SystemTime) -> Duration {
    end.duration_since(clock::wall()).unwrap_or_default()
}

fn when(end: SystemTime) -> String {
    format!("at {}, in {}", rfc3339(end), shown(Duration::from_secs(left(end).as_secs())))
}

fn takes(least: Duration, parts: &[String]) -> String {
    format!("The rollout takes at least {}: {}.", shown(least), parts.join(" + "))
}
