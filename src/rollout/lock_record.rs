//! What a rollout writes down while it runs, beside the record: who runs it, and what was there before. It keeps a second
//! one out, and tells the next one what a killed one left.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::intent::{Environment, label, labeled};
use super::route::{Forward, Observed, Stickiness, Terminal};

/// The format's version; a lock record of another one is not read further.
pub const VERSION: u32 = 1;
/// How the name of every lock ends.
pub const SUFFIX: &str = ".rollout";
/// Parameter Store's limit for a standard parameter.
pub const MOST_BYTES: usize = 4096;

/// The lock record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LockRecord {
    /// The format's version.
    pub version: u32,
    /// The rollout's id.
    pub run: String,
    /// The switch's name.
    #[serde(default)]
    pub switch: String,
    /// What it is, in words, where it is something else that keeps rollouts out; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// Who runs it, for people.
    #[serde(default)]
    pub holder: String,
    /// The machine that the process id is of, as far as that can be told.
    #[serde(default)]
    pub machine: String,
    /// The process.
    #[serde(default)]
    pub pid: u32,
    /// The process that started it: one Terraform run.
    #[serde(default)]
    pub parent: u32,
    /// Since when (RFC 3339).
    #[serde(default)]
    pub since: String,
    /// How often it was renewed: as long as this grows, the holder lives.
    #[serde(default)]
    pub beat: u64,
    /// When it was renewed, in seconds since 1970.
    #[serde(default)]
    pub renewed: u64,
    /// So long after that the holder counts as dead.
    #[serde(default)]
    pub lease_seconds: u64,
    /// Whether somebody runs it, or how it ended without coming to an end.
    #[serde(default)]
    pub status: Status,
    /// The color that was live.
    #[serde(default)]
    pub from: Option<String>,
    /// The color to go live.
    #[serde(default)]
    pub to: Option<String>,
    /// What it was doing last, in words.
    #[serde(default)]
    pub phase: String,
    /// What the record said.
    #[serde(default)]
    pub record: Option<String>,
    /// The run whose dead lock was taken over, or that left it free, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_over: Option<String>,
    /// Where it led: the parts of the color to go live in tenths of a percent, each written down before it was led there.
    /// None in what an older version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led: Option<Vec<u32>>,
    /// Whose word it waits for, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The sizes that it raised, by color.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, Raised>,
    /// The keys of the rules that were to be made for a cohort, by the names of the switches: also once it is free, until they are
    /// known to be gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cohort: BTreeMap<String, Vec<String>>,
    /// Where the routes led, those that led alike together.
    #[serde(default)]
    pub origins: Vec<Origin>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Somebody runs it, or was killed.
    #[default]
    Running,
    /// It stopped in place, on purpose.
    Held,
    /// It came as far as it was to, and waits for a person.
    Waiting,
    /// It failed, and so did the way back.
    Stuck,
    /// It failed, and a call that was not answered may still have its effect.
    Unknown,
    /// Nobody runs one, and nothing is left: the parameter is kept, since AWS says nothing of reads after a deletion.
    Free,
}

/// What a rollout waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The part that the color has meanwhile, in percent.
    pub percent: f64,
    /// Whose word it is, where somebody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when (RFC 3339).
    pub since: String,
    /// Until when (RFC 3339), where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What an apply does then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<String>,
}

impl Waiting {
    /// Since when, as far as that can be read.
    pub fn began(&self) -> Option<SystemTime> {
        OffsetDateTime::parse(&self.since, &Rfc3339).ok().map(SystemTime::from)
    }

    /// Since when and for whom, in words: `with 10 % for the web team since 2026-03-01T09:00:00Z`.
    pub fn summary(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" for {by}")).unwrap_or_default();
        format!("with {} %{by} since {}", self.percent, self.since)
    }
}

/// A size that a rollout raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// How many there were to be before.
    pub before: i32,
    /// How many there were to be then.
    pub raised: i32,
}

/// Where some routes led.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The ends of their keys, which tell them apart.
    pub routes: Vec<String>,
    /// Weights by color, or by ARN where a group is no color's; none where the routes did not forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<String, u32>>,
    /// Seconds of group stickiness, if it was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<i32>,
    /// What else they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Terminal>,
}

/// The end of a route's key: the id of a listener or rule, with the priority of a rule to make.
fn end(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

impl LockRecord {
    /// What a lock says of itself.
    ///
    /// # Errors
    /// Why it is no lock record, or none of this version.
    pub fn read(value: &str) -> Result<LockRecord, String> {
        let lock_record: LockRecord = serde_json::from_str(value).map_err(|error| error.to_string())?;
        if lock_record.version == VERSION {
            Ok(lock_record)
        } else {
            Err(format!("it has version {}", lock_record.version))
        }
    }

    /// What is left when nobody runs a rollout, and none is unfinished.
    #[must_use]
    pub fn freed(&self) -> LockRecord {
        LockRecord {
            version: self.version,
            run: self.run.clone(),
            switch: self.switch.clone(),
            holder: self.holder.clone(),
            since: self.since.clone(),
            beat: self.beat,
            renewed: self.renewed,
            status: Status::Free,
            cohort: self.cohort.clone(),
            ..LockRecord::default()
        }
    }

    /// What it says of a rollout; nothing where it is free.
    pub fn unless_free(self) -> Option<LockRecord> {
        (self.status != Status::Free).then_some(self)
    }

    /// As it is written down.
    ///
    /// # Errors
    /// When it has more bytes than a parameter holds.
    pub fn text(&self) -> Result<String, String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        if text.len() > MOST_BYTES {
            return Err(format!(
                "the rollout's lock record would have {} bytes, and a parameter holds {MOST_BYTES}: the routes lead to too many different places",
                text.len()
            ));
        }
        Ok(text)
    }

    /// Notes where the routes lead and what the record says. A route that a rollout which is being gone on with found is
    /// noted as that one found it.
    pub fn note_origins<'w>(
        &mut self,
        routes: impl IntoIterator<Item = (String, &'w Observed)>,
        environments: &BTreeMap<String, Environment>,
    ) {
        let earlier = self.origins.clone();
        let known = |key: &str| earlier.iter().find(|origin| origin.routes.iter().any(|route| route == end(key)));
        let mut origins: Vec<Origin> = Vec::new();
        for (key, observed) in routes {
            let mut origin = match known(&key) {
                Some(origin) => Origin { routes: Vec::new(), ..origin.clone() },
                None if earlier.is_empty() => Origin::of(&observed.terminal, environments),
                // The earlier rollout made it.
                None => continue,
            };
            match origins.iter_mut().find(|other| other.leads_like(&origin)) {
                Some(same) => same.routes.push(end(&key).to_owned()),
                None => {
                    origin.routes.push(end(&key).to_owned());
                    origins.push(origin);
                }
            }
        }
        self.origins = origins;
    }

    /// Where a route led before the rollout; none if it wasn't there.
    pub fn origin(&self, key: &str, environments: &BTreeMap<String, Environment>) -> Option<Terminal> {
        let origin = self.origins.iter().find(|origin| origin.routes.iter().any(|route| route == end(key)))?;
        Some(origin.terminal(environments))
    }

    /// Notes the rules that a switch is to make for a cohort, by the keys of these routes.
    pub fn note_cohort(&mut self, switch: &str, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            let noted = self.cohort.entry(switch.to_owned()).or_default();
            if !noted.contains(&key) {
                noted.push(key);
            }
        }
    }

    /// What is left of it, in words.
    pub fn summary(&self) -> String {
        if !self.what.is_empty() {
            return format!("{} that {} began at {}", self.what, self.holder, self.since);
        }
        format!("the rollout {}that {} began at {}", self.way(), self.holder, self.since)
    }

    /// From where to where it goes, in words, with a space at the end: `from blue to green `.
    pub fn way(&self) -> String {
        let from = self.from.as_deref().map(|from| format!("from {from} ")).unwrap_or_default();
        format!("{from}to {} ", self.to.as_deref().unwrap_or("another color"))
    }
}

impl Origin {
    fn leads_like(&self, other: &Origin) -> bool {
        (&self.weights, self.sticky, &self.other) == (&other.weights, other.sticky, &other.other)
    }

    fn of(terminal: &Terminal, environments: &BTreeMap<String, Environment>) -> Origin {
        let routes = Vec::new();
        let Terminal::Forward(forward) = terminal else {
            return Origin { routes, weights: None, sticky: None, other: Some(terminal.clone()) };
        };
        let name = |arn: &String| label(environments, arn).unwrap_or_else(|| arn.clone());
        let weights = forward.groups.iter().map(|(arn, weight)| (name(arn), *weight)).collect();
        let on = forward.stickiness.as_ref().filter(|stickiness| stickiness.enabled);
        let sticky = on.map(|stickiness| stickiness.duration_seconds.unwrap_or(1));
        Origin { routes, weights: Some(weights), sticky, other: None }
    }

    fn terminal(&self, environments: &BTreeMap<String, Environment>) -> Terminal {
        if let Some(other) = &self.other {
            return other.clone();
        }
        let arn = |name: &String| labeled(environments, name).map_or_else(|| name.clone(), str::to_owned);
        let groups = self.weights.iter().flatten().map(|(name, weight)| (arn(name), *weight)).collect();
        let stickiness = Stickiness { enabled: self.sticky.is_some(), duration_seconds: self.sticky };
        Terminal::Forward(Forward { groups, stickiness: Some(stickiness) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one switch noted of its cohort is still its own when another one frees the lock they share.
    #[test]
    fn notes_of_a_cohort_keep_their_owner() {
        let mut lock_record = LockRecord { version: VERSION, switch: "b".to_owned(), ..LockRecord::default() };
        for (switch, key) in [("a", "web#1"), ("b", "web#2"), ("a", "web#1")] {
            lock_record.note_cohort(switch, [key.to_owned()]);
        }
        let text = lock_record.freed().text().unwrap();
        let freed = LockRecord::read(&text).unwrap();
        assert_eq!(freed.status, Status::Free);
        assert_eq!((&freed.cohort["a"], &freed.cohort["b"]), (&vec!["web#1".to_owned()], &vec!["web#2".to_owned()]));
        assert!(!LockRecord::default().text().unwrap().contains("cohort"), "a lock without any says nothing of it");
    }
}
