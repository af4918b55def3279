//! The end of a color.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::plan::{harms_by_going, is_left_to_another};
use super::private_state::PrivateState;
use super::{Shared, diagnostics, limit, model};
use crate::run::ports::PortError;
use crate::run::stack::{Build, Seen, live_guard, observe};
use crate::stack::{Ids, Spec};
use crate::tf_provider::{DestroyRequest, Diagnostics, Stored};

pub(super) async fn destroy(shared: &Shared, request: &DestroyRequest, diagnostics: &mut Diagnostics) -> Stored {
    let prior = &request.prior;
    let before = Stored { state: Some(prior.clone()), private: request.private.clone() };
    let Some(spec) = model::spec(prior).map(Spec::with_defaults) else { return before };
    let mut memory = PrivateState::read(&request.private);
    let ids = model::ids(prior);
    let name = memory.name_of(prior, &spec);
    // Its heir may be on its way at the same time: one of them decides first what it has.
    let gate = shared.stack.objects.gate(&name).await;
    let seen = match look(shared, &spec, &ids, &mut memory).await {
        Ok((_, Some(routes))) => {
            diagnostics::destroys_live(&spec, &routes, true, diagnostics);
            return before;
        }
        Ok((seen, None)) => seen,
        Err(error) => {
            diagnostics::unreadable(&spec.id(), &error, diagnostics);
            return before;
        }
    };
    let mut build = Build {
        context: &shared.stack,
        spec: &spec,
        name: &name,
        owner: &memory.owner,
        tags: &BTreeMap::new(),
        gone: &[],
        gone_from_instances: &[],
        seen: &seen,
        live: false,
        ids,
        deadline: Instant::now() + limit(prior, "delete"),
        is_limited: true,
        cancel: &request.cancel,
        progress: memory.progress(),
        former_failures: None,
    };
    build.note_families(&spec);
    if let Some(kept) = build.let_go() {
        diagnostics::let_go(&spec, &kept, diagnostics);
    }
    let going = !build.ids.is_empty() && shared.stack.objects.begin(&name, &memory.owner);
    drop(gate);
    let destroyed = build.destroy().await;
    if going {
        shared.stack.objects.end(&name, &memory.owner);
    }
    match destroyed {
        Ok(used) => {
            diagnostics::still_used(&spec, &used, diagnostics);
            Stored::default()
        }
        Err(error) => {
            let mut state = prior.clone();
            model::set_ids(&mut state, &build.ids);
            diagnostics::failed("destroy", &spec, &error, &build.ids, None, diagnostics);
            Stored { state: Some(state), private: request.private.clone() }
        }
    }
}

/// What is there, and the routes by which users get to it, if it is kept from harm.
async fn look(
    shared: &Shared,
    spec: &Spec,
    ids: &Ids,
    memory: &mut PrivateState,
) -> Result<(Seen, Option<String>), PortError> {
    let seen = observe(&shared.stack.ports, spec, ids).await?;
    memory.learn(&seen);
    let Some(group) = ids.target_group.as_ref().filter(|_| harms_by_going(spec) && spec.is_protected()) else {
        return Ok((seen, None));
    };
    let routes = live_guard::live(&shared.stack, group).await?;
    let routes = routes.filter(|_| !is_left_to_another(&seen, memory));
    Ok((seen, routes))
}
