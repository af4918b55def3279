//! The region of an object: what it shares with others there, and what a plan says of it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Context, Shared, shell};
use crate::argument::rules;
use crate::arn;
use crate::platform::{Adapters, Regions};
use crate::run::stack::StackContext;
use crate::tf_provider::{ApplyRequest, Diagnostics, PlanRequest, Stored, Value};

/// What each region has.
pub struct Places {
    regions: Box<dyn Regions>,
    home: Shared,
    elsewhere: BTreeMap<String, Shared>,
}

/// What is in an import id before a region, and the region.
fn of_import(id: &str) -> (&str, Option<&str>) {
    match id.rsplit_once('@') {
        Some((id, region)) if rules::region(region).is_ok() => (id, Some(region)),
        _ => (id, None),
    }
}

/// The region that the first ARN names, of several between commas.
fn of_arns(id: &str) -> Option<&str> {
    id.split(',').filter_map(|part| arn::region(part.trim())).find(|region| rules::region(region).is_ok())
}

/// The region that an object is in. A state of a former release doesn't say it, but for the ARNs in it.
fn of_state(state: &Value) -> Option<&str> {
    let routes = state.get("routes").as_list().unwrap_or_default();
    let arns = routes.iter().flat_map(|route| [route.get("listener_arn"), route.get("rule_arn")]);
    let arns = [state.get("target_group_arn"), state.get("service_arn")].into_iter().chain(arns);
    state.get("region").as_str().or_else(|| arns.filter_map(Value::as_str).find_map(of_arns))
}

/// What to do where something is in another region than it is looked for.
pub(super) fn cure(other: &str) -> String {
    format!("Set region = \"{other}\" here, or use a provider of that region (provider = bluegreen.<alias>).")
}

fn share(adapters: Adapters, region: Option<String>) -> Shared {
    let Adapters { platform, ports, stacks, databases } = adapters;
    let stack = StackContext {
        ports: stacks,
        load_balancer: ports.load_balancer.clone(),
        routes: Arc::default(),
        objects: Arc::default(),
        shell: shell(platform.as_ref(), region.clone()),
    };
    Shared { region, told: None, platform, ports, stack, databases, switches: Arc::default() }
}

impl Places {
    fn of(&mut self, region: Option<&str>) -> Shared {
        let Some(region) = region.filter(|region| self.home.is_in() != Some(region)) else {
            return self.home.clone();
        };
        let share = || share(self.regions.elsewhere(region), Some(region.to_owned()));
        self.elsewhere.entry(region.to_owned()).or_insert_with(share).clone()
    }
}

impl Context {
    /// Takes what is in each region; `region`: the provider's own, where it is known.
    pub(super) fn configure(&self, regions: Box<dyn Regions>, home: Adapters, region: Option<String>) {
        let places = Places { home: share(home, region), regions, elsewhere: BTreeMap::new() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(places);
    }

    /// What is shared in a region, or in the provider's own where none is named; an error that there is nothing yet.
    pub(super) async fn shared(&self, region: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Shared> {
        // Of one region there is one world: that it is the provider's own, only the instance may know on which this runs.
        let places = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let home = places().as_ref().map(|places| places.home.clone());
        if let Some(home) = home.filter(|home| home.is_in().is_none() && home.platform.is_known())
            && let Ok(told) = home.platform.region_in_use().await
            && let Some(places) = places().as_mut()
        {
            places.home.told = Some(told);
        }
        self.shared_unasked(region, diagnostics)
    }

    /// The same for who may have nothing to do with AWS: nobody is asked which region is the provider's own.
    pub(super) fn shared_unasked(&self, region: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Shared> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.is_none() {
            diagnostics.error("The provider is not configured", "Terraform asked before it configured the provider.");
        }
        places.as_mut().map(|places| places.of(region))
    }

    /// What is shared where an object is, by its state.
    pub(super) async fn shared_by(&self, state: &Value, diagnostics: &mut Diagnostics) -> Option<Shared> {
        self.shared(of_state(state), diagnostics).await
    }

    /// What is shared where an object is while it is planned: one that goes elsewhere is still where it was.
    pub(super) async fn shared_in_plan(&self, request: &PlanRequest, diagnostics: &mut Diagnostics) -> Option<Shared> {
        let before = request.prior.as_ref().and_then(of_state);
        self.shared(before.or_else(|| request.config.get("region").as_str()), diagnostics).await
    }

    /// What is shared where a planned object is to be, which is written into the plan where only an apply can tell it.
    pub(super) async fn shared_in_apply(
        &self,
        request: &mut ApplyRequest,
        diagnostics: &mut Diagnostics,
    ) -> Option<Shared> {
        if let Some(planned) = request.planned.get("region").as_str() {
            return self.shared(Some(planned), diagnostics).await;
        }
        let shared = self.shared(request.config.get("region").as_str(), diagnostics).await?;
        shared.set_region(&mut request.planned);
        Some(shared)
    }

    /// What is shared in the region that an import id names, and the id without it: `myapp/blue@eu-west-1`, as hashicorp/aws has
    /// it, or by an ARN in it.
    pub(super) async fn shared_by_import<'i>(
        &self,
        id: &'i str,
        diagnostics: &mut Diagnostics,
    ) -> (&'i str, Option<Shared>) {
        let (id, region) = of_import(id);
        let region = region.or_else(|| of_arns(id));
        let shared = self.shared(region, diagnostics).await;
        let home =
            self.wanted(&Value::Null).filter(|home| shared.is_some() && region.is_some_and(|region| region != home));
        if let Some((region, home)) = region.zip(home) {
            let detail = format!(
                "{id} is imported from {region}. Its configuration needs region = \"{region}\": without it, the region is the provider's, {home}, and a plan would destroy what was imported and make it anew there."
            );
            diagnostics.warning(format!("{id} is in another region than the provider's"), detail);
        }
        (id, shared)
    }

    /// The region that a configuration asks for: what is written, or else the provider's. None where that isn't known, as with a
    /// region that only the instance knows on which this runs.
    pub(super) fn wanted(&self, config: &Value) -> Option<String> {
        let home = || self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.home.region.clone();
        match config.get("region") {
            Value::Null => home(),
            written => written.as_str().map(str::to_owned),
        }
    }

    /// The region in a plan: where nobody knows it, that of the state, and without one what the apply will tell.
    pub(super) fn planned_region(&self, config: &Value, prior: Option<&Value>) -> Value {
        let before = || prior.and_then(of_state).filter(|_| config.get("region").is_null()).map(str::to_owned);
        self.wanted(config).or_else(before).map_or(Value::UNKNOWN, Value::from)
    }

    /// A configuration that leaves the region out where it is the provider's anyway.
    pub(super) fn without_usual_region(&self, mut config: Value) -> Value {
        if self.wanted(&Value::Null).as_deref() == config.get("region").as_str() {
            config.set("region", Value::Null);
        }
        config
    }

    /// Whether the object is to be in another region than it is in.
    pub(super) fn moves(&self, config: &Value, prior: Option<&Value>) -> bool {
        let before = prior.and_then(of_state);
        before.zip(self.wanted(config)).is_some_and(|(before, wanted)| before != wanted)
    }
}

impl Shared {
    /// An object with its region, which a state of a former release lacks.
    pub(super) fn with_region(&self, mut stored: Stored) -> Stored {
        if let Some(state) = &mut stored.state {
            self.set_region(state);
        }
        stored
    }

    /// The region, as far as it is known.
    fn is_in(&self) -> Option<&str> {
        self.region.as_deref().or(self.told.as_deref())
    }

    /// Writes down which region it is, as far as it is known, where nothing says it.
    pub(super) fn set_region(&self, state: &mut Value) {
        if !state.get("region").is_set() {
            state.set("region", Value::from(self.is_in()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_id_may_end_with_a_region() {
        assert_eq!(of_import("myapp/blue"), ("myapp/blue", None));
        assert_eq!(of_import("myapp/blue@eu-west-1"), ("myapp/blue", Some("eu-west-1")));
        assert_eq!(of_import("myapp/blue,asg:web@home"), ("myapp/blue,asg:web@home", None));
        let listener = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2";
        assert_eq!(of_arns(&format!("/myapp/live, {listener}")), Some("eu-central-1"));
        assert_eq!(of_arns("/myapp/live"), None);
    }
}
