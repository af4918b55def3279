//! What a plan tells of a migration: what a refresh saw, or what holds whatever is there.

use super::state::PrivateState;
use super::{Ledger, diagnostics, look, model, text};
use crate::migration::{Intent, Phase, Step, lint, outline};
use crate::resource::Shared;
use crate::run::migration::contraction;
use crate::run::migration::migrator::Seen;
use crate::tf_provider::{Cancel, Diagnostics, PlanRequest, Planned, Schema, Value};

/// Plans a migration: what of it the ledger has not.
pub(super) async fn plan(
    shared: &Shared,
    schema: &Schema,
    request: PlanRequest,
    diagnostics: &mut Diagnostics,
) -> Planned {
    let PlanRequest { prior, proposed, config, private, cancel } = request;
    let mut state = proposed;
    let planned = |state, private| Planned { state: Some(state), private, ..Planned::default() };
    state.set("id", config.get("name").clone());
    let renamed = |prior: &&Value| !config.get("name").is_unknown() && prior.get("name") != config.get("name");
    if let Some(prior) = prior.as_ref().filter(renamed) {
        diagnostics::renamed(text(prior, "name"), diagnostics);
        return planned(state, private);
    }
    let Some(intent) = model::parse(&config) else {
        for name in ["runbook", "phases", "contracted_for"] {
            state.set(name, Value::UNKNOWN);
        }
        return planned(state, private);
    };
    // A refresh has looked right before, unless it had no URL to look with, or looked elsewhere.
    let same = prior.as_ref().is_some_and(|prior| prior.get("database") == config.get("database"));
    let refreshed = same && !config.get("database").get("url").is_null();
    let seen = match PrivateState::read(&private).seen.filter(|_| refreshed) {
        Some(seen) => Some(seen),
        None => look_for_plan(shared, &config, &cancel, diagnostics).await,
    };
    let kept = schema.without_write_only(state.clone());
    let changed = prior.as_ref().is_some_and(|prior| kept != *prior);
    let draft = Draft { shared, config: &config, prior: prior.as_ref(), intent: &intent, refreshed, changed };
    draft.fill(&mut state, seen.as_ref(), diagnostics).await;
    planned(state, private)
}

/// A look at the database for a plan that has none from a refresh. A plan that can't look is still one: runners that only
/// plan often have no way to the database.
async fn look_for_plan(
    shared: &Shared,
    config: &Value,
    cancel: &Cancel,
    diagnostics: &mut Diagnostics,
) -> Option<Seen> {
    match look(shared, config, cancel).await? {
        Ok(seen) => Some(seen),
        Err(error) => {
            diagnostics::unseen_by_plan(config, &error, diagnostics);
            None
        }
    }
}

/// A plan in the making.
struct Draft<'a> {
    shared: &'a Shared,
    config: &'a Value,
    prior: Option<&'a Value>,
    intent: &'a Intent,
    /// Whether what was seen stays the same while Terraform plans a second time.
    refreshed: bool,
    /// Whether anything of the configuration differs from the state before.
    changed: bool,
}

impl Draft<'_> {
    async fn fill(&self, state: &mut Value, seen: Option<&Seen>, diagnostics: &mut Diagnostics) {
        let under_way = seen.and_then(|seen| seen.holder.as_deref());
        if let Some(holder) = under_way {
            diagnostics::under_way(holder, diagnostics);
        }
        // What somebody is just running has neither run nor died: the apply waits, and looks again.
        let seen = seen.filter(|_| under_way.is_none()).map(|seen| &seen.ledger);
        let known = self.prior.and_then(|prior| Phase::parse(text(prior, "phase")));
        let missing = |phase: &Phase| *phase <= self.intent.phase && known.is_none_or(|known| *phase > known);
        // What the state alone tells: the same whenever Terraform plans, whatever somebody else runs in between.
        let expected = Phase::ALL.into_iter().any(|phase| missing(&phase));
        let steps = match seen {
            Some(ledger) => match crate::migration::plan(self.intent, ledger) {
                Ok(steps) => steps,
                Err(refusal) => return diagnostics::refused(self.config, self.intent, ledger, &refusal, diagnostics),
            },
            None => Phase::ALL.into_iter().filter(missing).map(Step::Run).collect(),
        };
        self.warn(&steps, seen, diagnostics);
        if self.prior.is_some() && steps.is_empty() && (self.refreshed || !expected) {
            // An apply that has nothing to run still reads what is there, which only a refresh could have told.
            if !self.refreshed && self.changed {
                state.set("phases", Value::UNKNOWN);
                state.set("contracted_for", Value::UNKNOWN);
            }
            if self.intent.resolve.is_some() {
                diagnostics::resolved(self.config, diagnostics);
            }
            return;
        }
        // What is seen while a migration is made may be another thing when Terraform plans again.
        let runbook = if self.refreshed && under_way.is_none() {
            Value::from(steps.iter().map(|step| self.summary(*step)).collect::<Vec<String>>())
        } else if expected || self.prior.is_none() {
            Value::from(outline(self.intent, known))
        } else {
            Value::UNKNOWN
        };
        state.set("runbook", runbook);
        state.set("phases", Value::UNKNOWN);
        state.set("contracted_for", Value::UNKNOWN);
        let contracts = steps.contains(&Step::Run(Phase::Contract));
        if let Some(guard) = self.intent.guard.as_ref().filter(|_| contracts && self.shared.platform.is_known())
            && let Err(barred) = contraction::check(&self.shared.ports, guard).await
        {
            diagnostics::barred(&barred, guard, &self.shared.shell(None), diagnostics);
        }
        if contracts && self.intent.guard.is_none() {
            diagnostics::unguarded(diagnostics);
        }
    }

    fn summary(&self, step: Step) -> String {
        let script = |phase: Phase| {
            let script = self.intent.scripts.get(&phase);
            script.map(|script| script.summary(phase, self.intent.guard.as_ref())).unwrap_or_default()
        };
        match step {
            Step::Resolve(phase, resolve) => format!("{phase}: write down that it was {resolve}"),
            Step::Resume(phase) => format!("{phase}: go on where it was interrupted"),
            Step::Run(phase) => script(phase),
        }
    }

    /// What is doubtful about the phases that have not run yet.
    fn warn(&self, steps: &[Step], seen: Option<&Ledger>, diagnostics: &mut Diagnostics) {
        for step in steps {
            if let Step::Resolve(phase, resolve) = step {
                let entry = seen.and_then(|ledger| ledger.get(phase));
                diagnostics::resolves(*phase, *resolve, entry, diagnostics);
            }
        }
        for (phase, script) in &self.intent.scripts {
            let ran = seen.is_some_and(|ledger| ledger.contains_key(phase));
            if !ran {
                diagnostics::concerns(*phase, &lint(script, *phase), text(self.config, phase.name()), diagnostics);
            }
        }
    }
}
