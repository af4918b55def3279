//! What happens in a rollout, told as it happens: a line in the log, and a message to a topic where one is named.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock;
use crate::rollout::{Environment, RouteSpec, Terminal};
use crate::run::rollout::ports::Ports;
use crate::secrets;

/// What a rollout is about.
#[derive(Clone, Debug, Default)]
pub struct RolloutContext {
    /// Its id.
    pub id: String,
    /// The switch's name.
    pub switch: String,
    /// The color that was live.
    pub from: Option<String>,
    /// The color to go live.
    pub to: Option<String>,
    /// What runs there.
    pub release: Option<String>,
    /// The colors by name.
    pub environments: BTreeMap<String, Environment>,
    /// The names of the target groups that routes lead to, by the keys of the routes.
    pub names: BTreeMap<String, String>,
    /// The routes that users come by.
    pub routes: Vec<RouteSpec>,
    /// The rules that lead a cohort.
    pub cohort: Vec<RouteSpec>,
    /// The topic that is told.
    pub topic: Option<String>,
}

impl RolloutContext {
    /// Whether users come by a route, be they only a cohort.
    pub fn has_users(&self, route: &RouteSpec) -> bool {
        self.routes.contains(route) || self.leads_cohort(route)
    }

    /// Whether a route is a rule that leads a cohort.
    pub fn leads_cohort(&self, route: &RouteSpec) -> bool {
        self.cohort.iter().any(|rule| rule.key() == route.key())
    }

    /// How much of a route a color gets by the target group that it has for it.
    pub fn share(&self, route: &RouteSpec, color: &str, terminal: &Terminal) -> f64 {
        let name = self.names.get(&route.key()).map(String::as_str);
        let group = self.environments.get(color).and_then(|one| one.group(name));
        group.map_or(0.0, |group| terminal.share(group))
    }
}

/// A phase of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins.
    Started,
    /// The color passed its checks.
    Validated,
    /// Traffic moved.
    Shifted,
    /// A hold ended, and all was well.
    Watched,
    /// Something failed; it goes back.
    RollingBack,
    /// Everything is as it shall be.
    Completed,
    /// It came as far as it was to, and waits for a person.
    Waiting,
    /// Everything is as it was.
    RolledBack,
    /// It stays where it is.
    Held,
    /// A person is needed.
    Stuck,
    /// A call that was not answered may still have its effect.
    Unknown,
}

/// A message: its fields don't change their meaning.
#[derive(Clone, Debug, Serialize)]
struct Message<'a> {
    version: u32,
    rollout: &'a str,
    switch: &'a str,
    phase: Phase,
    from: Option<&'a str>,
    to: Option<&'a str>,
    release: Option<&'a str>,
    /// Percent of traffic by color, as far as it was seen.
    weights: &'a BTreeMap<String, u32>,
    detail: &'a str,
    at: String,
}

/// A time as states and messages have it.
pub fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time).replace_nanosecond(0).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Tells phases in their order, without holding the rollout up.
pub struct EventSink {
    about: RolloutContext,
    messages: Option<mpsc::UnboundedSender<(String, String)>>,
    task: Option<JoinHandle<()>>,
}

/// How long the end of a rollout waits for its messages to be out.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl EventSink {
    /// A sink for the events of one rollout.
    pub fn new(ports: &Ports, about: &RolloutContext) -> EventSink {
        let Some(topic) = about.topic.clone() else {
            return EventSink { about: about.clone(), messages: None, task: None };
        };
        let (messages, mut inbox) = mpsc::unbounded_channel::<(String, String)>();
        let notifier = ports.notifier.clone();
        let task = tokio::spawn(async move {
            while let Some((subject, text)) = inbox.recv().await {
                if let Err(error) = notifier.publish(&topic, &subject, &text).await {
                    tracing::warn!(%error, topic, "nobody could be told");
                }
            }
        });
        EventSink { about: about.clone(), messages: Some(messages), task: Some(task) }
    }

    /// Tells a phase.
    pub fn emit(&self, phase: Phase, weights: &BTreeMap<String, u32>, detail: &str) {
        let (about, detail) = (&self.about, secrets::masked(detail));
        let detail = detail.as_str();
        let (from, to) = (about.from.as_deref(), about.to.as_deref());
        tracing::info!(rollout = about.id, switch = about.switch, ?phase, from, to, ?weights, detail, "rollout");
        let Some(messages) = &self.messages else { return };
        let message = Message {
            version: 1,
            rollout: &about.id,
            switch: &about.switch,
            phase,
            from,
            to,
            release: about.release.as_deref(),
            weights,
            detail,
            at: rfc3339(clock::wall()),
        };
        let Ok(text) = serde_json::to_string(&message) else { return };
        let word = serde_json::to_value(phase).ok().and_then(|word| word.as_str().map(|word| word.replace('_', " ")));
        // A subject has at most 100 characters, none of them a line break.
        let subject: String = format!("{}: {}", about.switch, word.unwrap_or_default()).chars().take(100).collect();
        drop(messages.send((subject, text)));
    }

    /// Gives the last messages a moment to get out. That nobody could be told stops no rollout.
    pub async fn finish(mut self) {
        self.messages = None;
        if let Some(task) = self.task.take() {
            let abort = task.abort_handle();
            if timeout(LAST_WORDS, task).await.is_err() {
                abort.abort();
            }
        }
    }
}
