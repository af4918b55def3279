//! The region of an object: what it shares with others there, and what a plan says of it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Context, Shared, shell};
use crate::argument::rules;
use crate::platform::{Adapters, Regions};
use crate::run::stack::StackContext;
use crate::tf_provider::{ApplyRequest, Diagnostics, PlanRequest, Stored, Value};

/// What each region has.
pub struct Places {
    regions: Box<dyn Regions>,
    home: Shared,
    /// The provider's own region, where only a call told it. No plan goes by it: the one that Terraform makes once more may not know it.
    told: Option<String>,
    elsewhere: BTreeMap<String, Shared>,
}

/// What is in an import id before a region, and the region.
fn of_import(id: &str) -> (&str, Option<&str>) {
    match id.rsplit_once('@') {
        Some((id, region)) if rules::region(region).is_ok() => (id, Some(region)),
        _ => (id, None),
    }
}

/// The region that an ARN in an import id names.
fn of_arns(id: &str) -> Option<&str> {
    let arns = id.split(',').map(str::trim).filter(|part| part.starts_with("arn:"));
    arns.filter_map(|arn| arn.split(':').nth(3)).find(|region| rules::region(region).is_ok())
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
    Shared { region, platform, ports, stack, databases, switches: Arc::default() }
}

impl Places {
    fn of(&mut self, region: Option<&str>) -> Shared {
        let home = self.home.region.as_ref().or(self.told.as_ref());
        let Some(region) = region.filter(|region| home.is_none_or(|home| home != region)) else {
            return self.home.clone();
        };
        let share = || share(self.regions.elsewhere(region), Some(region.to_owned()));
        self.elsewhere.entry(region.to_owned()).or_insert_with(share).clone()
    }
}

impl Context {
    /// Takes what is in each region; `region`: the provider's own, where it is known.
    pub(super) fn configure(&self, regions: Box<dyn Regions>, home: Adapters, region: Option<String>) {
        let places = Places { home: share(home, region), told: None, regions, elsewhere: BTreeMap::new() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(places);
    }

    /// What is shared in a region, or in the provider's own where none is named; an error that there is nothing yet.
    pub(super) async fn shared(&self, region: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Shared> {
        let places = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(home) = places().as_ref().map(|places| places.home.clone()) else {
            diagnostics.error("The provider is not configured", "Terraform asked before it configured the provider.");
            return None;
        };
        // Of one region there is one world: that it is the provider's own, only a call may tell.
        let is_open = region.is_some() && home.region.is_none() && home.platform.is_known();
        let told = if is_open { home.platform.region_in_use().await.ok() } else { None };
        places().as_mut().map(|places| {
            places.told = places.told.take().or(told);
            places.of(region)
        })
    }

    /// What is shared where an object is, by its state.
    pub(super) async fn shared_by(&self, state: &Value, diagnostics: &mut Diagnostics) -> Option<Shared> {
        self.shared(state.get("region").as_str(), diagnostics).await
    }

    /// What is shared where an object is while it is planned: one that goes elsewhere is still where it was.
    pub(super) async fn shared_in_plan(&self, request: &PlanRequest, diagnostics: &mut Diagnostics) -> Option<Shared> {
        let before = request.prior.as_ref().and_then(|prior| prior.get("region").as_str());
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
        shared.set_region(&mut request.planned).await;
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
        (id, self.shared(region.or_else(|| of_arns(id)), diagnostics).await)
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

    /// The region in a plan: where nobody knows it, that of the state, and for a new object what its apply will tell.
    pub(super) fn planned_region(&self, config: &Value, prior: Option<&Value>) -> Value {
        match (self.wanted(config), prior) {
            (Some(region), _) => Value::from(region),
            (None, Some(prior)) if config.get("region").is_null() => prior.get("region").clone(),
            (None, _) => Value::UNKNOWN,
        }
    }

    /// Whether the object is to be in another region than it is in.
    pub(super) fn moves(&self, config: &Value, prior: Option<&Value>) -> bool {
        let before = prior.and_then(|prior| prior.get("region").as_str());
        before.zip(self.wanted(config)).is_some_and(|(before, wanted)| before != wanted)
    }
}

impl Shared {
    /// An object with its region, where a state of a former release has none, or only the calls told which one it is.
    pub(super) async fn with_region(&self, mut stored: Stored) -> Stored {
        if let Some(state) = stored.state.as_mut().filter(|state| state.get("region").as_str().is_none()) {
            self.set_region(state).await;
        }
        stored
    }

    /// Writes down which region it is, as far as it is known.
    pub(super) async fn set_region(&self, state: &mut Value) {
        let region = match &self.region {
            Some(region) => Some(region.clone()),
            None if self.platform.is_known() => self.platform.region_in_use().await.ok(),
            None => None,
        };
        state.set("region", Value::from(region));
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
