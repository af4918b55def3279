//! The end of a color.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::memory::Memory;
use super::plan::{harms_by_going, who_is_hurt};
use super::{Shared, limit, model, story};
use crate::run::ports::PortError;
use crate::run::stack::{Build, Seen, observe};
use crate::stack::{Ids, Spec, live_by};
use crate::tf_provider::{ApplyRequest, Diagnostics, Stored, Value};

pub(super) async fn destroy(
    shared: &Shared,
    prior: &Value,
    request: &ApplyRequest,
    diagnostics: &mut Diagnostics,
) -> Stored {
    let before = Stored { state: Some(prior.clone()), private: request.private.clone() };
    let Some(spec) = model::spec(prior).map(Spec::settled) else { return before };
    let mut memory = Memory::read(&request.private);
    let ids = model::ids(prior);
    let name = super::apply::name_of(&memory, prior, &spec);
    // Its heir may be on its way at the same time: one of them decides first what it has.
    let gate = shared.stack.objects.gate(&name).await;
    let seen = match look(shared, &spec, &ids, &mut memory).await {
        Ok((_, Some(routes))) => {
            story::destroys_live(&spec, &routes, true, diagnostics);
            return before;
        }
        Ok((seen, None)) => seen,
        Err(error) => {
            story::unreadable(&spec.id(), &error, diagnostics);
            return before;
        }
    };
    let mut build = Build {
        context: &shared.stack,
        spec: &spec,
        name: &name,
        owner: &memory.owner,
        tags: &BTreeMap::new(),
        seen: &seen,
        live: false,
        ids,
        deadline: Instant::now() + limit(prior, "delete"),
        cancel: &request.cancel,
        progress: memory.progress(),
        former_failures: None,
    };
    build.note_families(&spec);
    story::let_go(&spec, &build.let_go(), diagnostics);
    let going = !build.ids.is_empty() && shared.stack.objects.begin(&name, &memory.owner);
    drop(gate);
    let destroyed = build.destroy().await;
    if going {
        shared.stack.objects.end(&name, &memory.owner);
    }
    match destroyed {
        Ok(used) => {
            story::still_used(&spec, &used, diagnostics);
            Stored::default()
        }
        Err(error) => {
            let mut state = prior.clone();
            let adopted = state.get("target_group_arn").clone();
            model::set_ids(&mut state, &build.ids);
            if spec.target_group.is_none() {
                state.set("target_group_arn", adopted);
            }
            story::failed("destroy", &spec, &error, &build.ids, None, diagnostics);
            Stored { state: Some(state), private: request.private.clone() }
        }
    }
}

/// What is there, and the routes by which users get to it, if it is kept from harm.
async fn look(
    shared: &Shared,
    spec: &Spec,
    ids: &Ids,
    memory: &mut Memory,
) -> Result<(Seen, Option<String>), PortError> {
    let seen = observe(&shared.stack.ports, spec, ids).await?;
    memory.learn(&seen);
    let Some(group) = ids.target_group.as_ref().filter(|_| harms_by_going(spec) && spec.is_protected()) else {
        return Ok((seen, None));
    };
    let leads = who_is_hurt(shared, spec, ids, group, memory).await?;
    Ok((seen, live_by(&leads)))
}
