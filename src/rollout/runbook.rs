//! The steps of one apply: what each does, when it holds, how it is undone, and how it reads.

use super::capacity::{self, Capacity, Scalable};
use super::intent::{Conditions, HealthyPolicy, HttpCheck, RouteSpec, short};
use super::journal::StepId;
use super::world::{Observed, Terminal, World};

/// Stages in order; the steps of a stage are carried out together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runbook {
    /// The stages.
    pub stages: Vec<Stage>,
    /// What happens when a step can't be done.
    pub on_failure: OnFailure,
}

/// What happens when a step can't be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// What was done is undone.
    #[default]
    Rollback,
    /// It stays as it is then.
    Hold,
}

/// Steps that are carried out together: all of them, or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step: an effect that may be repeated, with a postcondition that can be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Wait until enough targets of a colour are healthy.
    CheckHealthy {
        /// The colour to go live.
        color: String,
        /// Its target group.
        group: String,
        /// The target group of the live colour to measure it by, unless nothing is live.
        live: Option<String>,
        /// How many are enough.
        policy: HealthyPolicy,
    },
    /// Make a request to a colour and judge the answer.
    CheckHttp {
        /// Its place in the configuration, from 0.
        index: usize,
        /// The colour to go live.
        color: String,
        /// The request.
        check: HttpCheck,
    },
    /// Make a route lead somewhere. A rule of our own that isn't there is created.
    Route {
        /// Which route.
        route: RouteSpec,
        /// How it was; none if it isn't there yet.
        before: Option<Observed>,
        /// Where it shall lead.
        after: Terminal,
        /// In words, where it shall lead.
        words: String,
    },
    /// Change the conditions of a rule of our own.
    Conditions {
        /// Which route.
        route: RouteSpec,
        /// The conditions before.
        before: Conditions,
        /// The conditions to be.
        after: Conditions,
    },
    /// Delete a rule of our own.
    Remove {
        /// Which route.
        route: RouteSpec,
        /// How it was.
        before: Observed,
    },
    /// Give a colour another size.
    Capacity {
        /// The colour.
        color: String,
        /// What keeps its instances or tasks.
        scalable: Scalable,
        /// Its size before.
        before: Capacity,
        /// Its size to be.
        after: Capacity,
    },
    /// Write the record, or delete it.
    Record {
        /// The parameter's name.
        parameter: String,
        /// Its value before; none if it doesn't exist.
        before: Option<String>,
        /// Its value to be; none to delete it.
        after: Option<String>,
    },
}

impl Step {
    /// Whether the world already is as the step would make it. Checks never hold in advance.
    pub fn holds(&self, world: &World) -> bool {
        match self {
            Step::CheckHealthy { .. } | Step::CheckHttp { .. } => false,
            Step::Route { route, after, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| same_terminal(&observed.terminal, after))
            }
            Step::Conditions { route, after, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| observed.conditions.as_ref() == Some(after))
            }
            Step::Remove { route, .. } => !world.routes.contains_key(&route.key()),
            Step::Record { after, .. } => world.record == *after,
            Step::Capacity { color, before, after, .. } => {
                world.capacities.get(color).is_some_and(|now| now.is_reached(*before, *after))
            }
        }
    }

    /// Whether the world is as it was before the step.
    pub fn is_undone(&self, world: &World) -> bool {
        match self {
            Step::CheckHealthy { .. } | Step::CheckHttp { .. } => true,
            Step::Route { route, before, after, .. } => match (world.routes.get(&route.key()), before) {
                (None, None) => true,
                (Some(now), Some(before)) => same_terminal(&now.terminal, &before.terminal),
                // What stands there and is not what the step makes, somebody else made: it is not ours to delete.
                (Some(now), None) => !is_made_by(now, route, after),
                (None, Some(_)) => false,
            },
            Step::Conditions { route, before, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| observed.conditions.as_ref() == Some(before))
            }
            Step::Remove { route, .. } => world.routes.contains_key(&route.key()),
            Step::Record { before: None, after, .. } => world.record != *after,
            Step::Record { before, .. } => world.record == *before,
            Step::Capacity { color, before, after, .. } => {
                world.capacities.get(color).is_some_and(|now| now.is_reached(*after, *before))
            }
        }
    }

    /// Lets the world be as it will be after the step.
    pub(super) fn foresee(&self, world: &mut World) {
        match self {
            Step::Route { route, after, before, .. } => {
                let arn = before.as_ref().map(|before| before.arn.clone()).unwrap_or_default();
                let conditions = match (before, route) {
                    (Some(before), _) => before.conditions.clone(),
                    (None, RouteSpec::OwnRule { conditions, .. }) => Some(conditions.clone()),
                    (None, _) => None,
                };
                world.routes.insert(route.key(), Observed { arn, terminal: after.clone(), conditions });
            }
            Step::Conditions { route, after, .. } => {
                if let Some(observed) = world.routes.get_mut(&route.key()) {
                    observed.conditions = Some(after.clone());
                }
            }
            Step::Remove { route, .. } => drop(world.routes.remove(&route.key())),
            Step::Record { after, .. } => world.record.clone_from(after),
            Step::Capacity { color, after, .. } => {
                world.capacities.insert(color.clone(), *after);
            }
            Step::CheckHealthy { .. } | Step::CheckHttp { .. } => {}
        }
    }

    /// Whether the step only looks.
    pub fn is_check(&self) -> bool {
        matches!(self, Step::CheckHealthy { .. } | Step::CheckHttp { .. })
    }

    /// The step in words, as a plan shows it.
    pub fn words(&self) -> String {
        match self {
            Step::CheckHealthy { color, policy, live, .. } => {
                let relative = match live {
                    Some(_) => format!(" and {} % of the live colour's", policy.min_percent_of_live),
                    None => String::new(),
                };
                let plural = if policy.min_count == 1 { "" } else { "s" };
                format!("check that {color} has at least {} healthy target{plural}{relative}", policy.min_count)
            }
            Step::CheckHttp { color, check, .. } => format!("check {color}: {} {}", check.method, check.shown_url()),
            Step::Route { route, before, words, .. } => {
                let verb = if before.is_none() { "create" } else { "set" };
                format!("{verb} {route}: {words}")
            }
            Step::Conditions { route, .. } => format!("change the conditions of {route}"),
            Step::Remove { route, .. } => format!("delete {route}"),
            Step::Capacity { color, before, after, .. } => capacity::words(color, *before, *after),
            Step::Record { parameter, before, after } => match (before, after) {
                (Some(before), Some(after)) => format!("write {parameter}: {before} → {after}"),
                (None, Some(after)) => format!("create {parameter}: {after}"),
                (_, None) => format!("delete {parameter}"),
            },
        }
    }
}

/// Whether a rule is what a step that makes this route would leave.
pub(super) fn is_made_by(now: &Observed, route: &RouteSpec, after: &Terminal) -> bool {
    let RouteSpec::OwnRule { conditions, .. } = route else { return false };
    same_terminal(&now.terminal, after) && now.conditions.as_ref() == Some(conditions)
}

/// Equal as far as requests can tell: the same groups with the same shares; weights 1/0 are weights 100/0.
fn same_terminal(a: &Terminal, b: &Terminal) -> bool {
    match (a, b) {
        (Terminal::Forward(x), Terminal::Forward(y)) => {
            x.groups.len() == y.groups.len()
                && x.groups.iter().all(|(arn, _)| b.mentions(arn) && (a.share(arn) - b.share(arn)).abs() < 0.001)
        }
        _ => a == b,
    }
}

impl Runbook {
    /// Adds a stage, unless it would have no step.
    pub(super) fn push(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.stages.push(Stage { steps });
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// All steps with their ids, in order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = (StepId, &Step)> {
        self.stages.iter().enumerate().flat_map(|(stage, steps)| {
            steps.steps.iter().enumerate().map(move |(step, value)| (StepId { stage, step }, value))
        })
    }

    /// A step by id.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.stages.get(id.stage)?.steps.get(id.step)
    }

    /// The steps in words.
    pub fn words(&self) -> Vec<String> {
        self.steps().map(|(_, step)| step.words()).collect()
    }
}

/// A terminal action in words; colours are named where they are known.
pub fn terminal_words<'a>(terminal: &Terminal, color_of: impl Fn(&str) -> Option<&'a str>) -> String {
    match terminal {
        Terminal::Forward(forward) => {
            let part = |(arn, _): &(String, u32)| {
                let name = color_of(arn).map_or_else(|| short(arn), str::to_owned);
                format!("{name} {:.0} %", terminal.share(arn))
            };
            forward.groups.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Terminal::FixedResponse { status, .. } => format!("a fixed {status} answer"),
        Terminal::Redirect(_) => "a redirect".to_owned(),
    }
}
