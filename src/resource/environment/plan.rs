//! What an apply would do, and whom it would hurt.

use std::collections::BTreeSet;

use super::diagnostics::{self, Harm};
use super::private_state::PrivateState;
use super::{Shared, defaults, model, set_mirror, tags_all, validate};
use crate::run::ports::{Freshness, PortError};
use crate::run::stack::survey::{Survey, names, survey};
use crate::run::stack::{Seen, live_guard, observe};
use crate::stack::{self, Change, Part, Spec, live_by};
use crate::tf_provider::{DestroyRequest, Diagnostics, Path, PlanRequest, Planned, Value};

/// Plans an environment. `region`: the one that is wanted, as far as it is known; it is shared where the object is now.
pub(super) async fn plan(
    shared: &Shared,
    request: PlanRequest,
    region: Option<String>,
    diagnostics: &mut Diagnostics,
) -> Planned {
    let PlanRequest { prior, proposed, config, private, .. } = request;
    let mut memory = PrivateState::read(&private);
    shared.stack.objects.note(&memory.owner);
    if let Some(region) = region.as_ref().filter(|_| config.get("region").is_null()) {
        validate::is_in(region, &config, diagnostics);
    }
    match group_beside(&config, prior.as_ref()) {
        None => {}
        Some(Beside::Gone) => diagnostics::group_gone(&config, false, diagnostics),
        Some(Beside::Another) => validate::two_groups(diagnostics),
    }
    let mut state = proposed;
    let wish = model::spec(&config).filter(|_| shared.platform.is_known());
    let before = prior.as_ref().and_then(model::spec).map(Spec::with_defaults);
    if let Some(before) = &before {
        shared.stack.objects.note_there(&before.id());
    }
    let Some(wish) = wish.map(|wish| Spec { region: region.clone(), ..wish.with_defaults() }) else {
        plan_unknown(&mut state, &config, prior.as_ref());
        let known = (&config, region);
        let mut replace = plan_known_part(shared, known, prior.as_ref(), &memory, diagnostics).await;
        // A group that isn't known yet is another one: the ARN of one that stays is known.
        if config.get("target_group_arn").is_unknown()
            && prior.as_ref().is_some_and(|prior| prior.get("target_group").is_null())
        {
            replace.push(Path::attribute("target_group_arn"));
        }
        return Planned { state: Some(state), replace, private };
    };
    memory.note_planned(&wish);
    check_name(shared, &wish, diagnostics);
    let Some((prior, before)) = prior.zip(before) else {
        set_computed(shared, &mut state, &wish);
        plan_ids(&mut state, &config, &Value::Null, (&wish, &names(&wish)[0], &[]));
        if !plan_create(shared, &wish, diagnostics).await {
            // Whoever has the usual name may go before this one comes, or after.
            let adopted = wish.target_group.is_none();
            for name in NAMES.into_iter().filter(|name| !(adopted && *name == "target_group_name")) {
                if !state.get(name).is_null() {
                    state.set(name, Value::UNKNOWN);
                }
            }
        }
        return Planned { state: Some(state), replace: Vec::new(), private: memory.bytes() };
    };
    let compared = compare(shared, (&prior, &before), &wish, &memory, diagnostics).await;
    for path in &compared.kept {
        model::keep(&mut state, &prior, path);
    }
    // What it is compared by is what is wished, whatever others did.
    set_computed(shared, &mut state, &wish);
    let name = memory.name_of(&prior, &wish);
    plan_ids(&mut state, &config, &prior, (&wish, &name, &compared.changes));
    Planned { state: Some(state), replace: compared.replaced, private: memory.bytes() }
}

/// What an ARN beside `target_group` is, where it isn't that of the group which that made, as in a configuration that Terraform before 1.14
/// generated for an import.
pub(super) enum Beside {
    /// That of a group that was there: one that is made again has another ARN.
    Gone,
    /// That of any other group.
    Another,
}

/// What stands there, by what the state knows. A plan that fails keeps people from a destroy, too: where a destroy has taken the group
/// away before it failed, it doesn't.
pub(super) fn group_beside(config: &Value, prior: Option<&Value>) -> Option<Beside> {
    let written = config.get("target_group_arn");
    if !config.get("target_group").is_set() || !written.is_set() {
        return None;
    }
    match prior.map(|prior| prior.get("target_group_arn")) {
        Some(known) if known == written => None,
        Some(Value::Null) if prior.is_some_and(|prior| prior.get("target_group").is_set()) => Some(Beside::Gone),
        _ => Some(Beside::Another),
    }
}

fn set_computed(shared: &Shared, state: &mut Value, wish: &Spec) {
    state.set("id", Value::from(wish.id()));
    set_mirror(state, wish);
    state.set("tags_all", tags_all(wish, &defaults(shared)));
}

/// The parts that a state has. A target group without its name is one that nothing is attached to.
pub(super) fn there(state: &Value) -> BTreeSet<Part> {
    model::ids(state).parts(!state.get("target_group_name").is_null())
}

/// Another environment may not have the same name in AWS: `a-b` and `c` are called like `a` and `b-c`.
fn check_name(shared: &Shared, wish: &Spec, diagnostics: &mut Diagnostics) {
    let makes = wish.target_group.is_some() || wish.instances.is_some() || wish.service.is_some();
    let [name, _] = names(wish);
    if let Some(other) = makes.then(|| shared.stack.objects.name(&name, &wish.id())).flatten() {
        diagnostics::same_name(wish, &other, &name, diagnostics);
    }
}

/// What a plan comes to.
struct Compared {
    /// What makes everything anew.
    replaced: Vec<Path>,
    /// What else there is to do.
    changes: Vec<Change>,
    /// The attributes that stay as they are for now, since a color that serves users isn't hurt for what others did.
    kept: Vec<String>,
}

/// Whether it depends on what runs now if the change hurts.
pub(super) fn sizes(change: &Change) -> bool {
    matches!(change, Change::Resize { .. } | Change::Scale(_))
}

/// What an apply would do; whom it would hurt is told, if there is anybody.
async fn compare(
    shared: &Shared,
    (prior, before): (&Value, &Spec),
    wish: &Spec,
    memory: &PrivateState,
    diagnostics: &mut Diagnostics,
) -> Compared {
    let mut before = before.clone();
    if let Some(service) = &mut before.service {
        service.running = memory.running.clone().filter(|_| service.task_definition.is_none());
    }
    let replaced = stack::replaced(&before, wish);
    let (mut changes, mut kept) = (Vec::new(), Vec::new());
    if memory.spared && wish.is_protected() {
        let asked = memory.asked(wish);
        let (left, paths) = stack::kept_back(wish, &before, &asked);
        let (stay, _) = stack::spared(stack::changes(&before, &left, &there(prior)), &asked, None);
        changes.extend(stay.into_iter().filter(|change| !change.is_left_over()));
        kept = paths;
    } else {
        changes = stack::changes(&before, wish, &there(prior));
    }
    if replaced.is_empty() {
        diagnostics::unfit(wish, &changes, &memory.unfit, diagnostics);
    }
    let matters = |change: &Change| change.harm(None).is_some() || change.risk().is_some() || sizes(change);
    if !replaced.is_empty() || changes.iter().any(matters) {
        let harm = Harm { before: &before, spec: wish, replaced: &replaced, changes: &changes };
        guard(shared, prior, harm, memory, diagnostics).await;
    }
    Compared { replaced: replaced.iter().map(|steps| model::path(steps)).collect(), changes, kept }
}

/// Looks who would be hurt, and tells. What can't be read is an error: nobody may be hurt by mistake.
async fn guard(shared: &Shared, prior: &Value, harm: Harm<'_>, memory: &PrivateState, diagnostics: &mut Diagnostics) {
    let ids = model::ids(prior);
    let Some(group) = ids.target_group.clone().or_else(|| harm.spec.target_group_arn.clone()) else { return };
    let leads = match live_guard::leads_to(&shared.stack, &group, Freshness::Shared).await {
        Ok(leads) => leads,
        Err(error) => return diagnostics::unreadable(&harm.spec.id(), &error, diagnostics),
    };
    let Some(routes) = live_by(&leads) else { return };
    let running = if harm.changes.iter().any(sizes) {
        match observe(&shared.stack.ports, harm.spec, &ids).await {
            Ok(seen) => seen.running(),
            Err(error) => return diagnostics::unreadable(&harm.spec.id(), &error, diagnostics),
        }
    } else {
        None
    };
    let asked = memory.asked(harm.spec);
    let changes: Vec<Change> = match harm.spec.is_protected() {
        // What others did since the last refresh bars nobody from anything: the apply leaves it as it is.
        true => stack::spared(harm.changes.to_vec(), &asked, running).0,
        false => harm.changes.to_vec(),
    };
    Harm { changes: &changes, ..harm }.tell(&routes, running, diagnostics);
}

/// Whether the usual name is to be had. A new environment must not take the place of one that serves users, which is what
/// replacing it comes to, nor the name of something else.
async fn plan_create(shared: &Shared, wish: &Spec, diagnostics: &mut Diagnostics) -> bool {
    match name_to_have(shared, wish, diagnostics).await {
        Ok(usual) => usual,
        Err(error) => {
            diagnostics::unreadable(&wish.id(), &error, diagnostics);
            true
        }
    }
}

async fn name_to_have(shared: &Shared, wish: &Spec, diagnostics: &mut Diagnostics) -> Result<bool, PortError> {
    let now = crate::clock::seconds();
    let [usual, second] = names(wish);
    let found = survey(&shared.stack, wish, (&usual, ""), Freshness::Shared).await?;
    let is_there = shared.stack.objects.is_there(&wish.id());
    if is_there && found.is_free() {
        let beside = survey(&shared.stack, wish, (&second, ""), Freshness::Shared).await?;
        if let Some(routes) = beside.live_by() {
            diagnostics::exists_live(wish, &routes, diagnostics);
        }
    }
    if let Some(arn) = wish.target_group_arn.as_ref().filter(|_| is_there) {
        // Nothing need carry its name: fixed targets in a group of somebody else's.
        if let Some(routes) = live_by(&live_guard::leads_to(&shared.stack, arn, Freshness::Shared).await?) {
            diagnostics::exists_live(wish, &routes, diagnostics);
            return Ok(found.is_free());
        }
    }
    if found.is_for_taking(&shared.stack, wish, now).await? {
        // What was just made may have been left behind, or be another object's that goes for this one: the apply sees.
        if !found.is_unfinished() && !is_ours_to_replace(shared, &found).await {
            diagnostics::taken_over(wish, &found, diagnostics);
        }
        return Ok(found.is_unfinished());
    }
    if let Some(thing) = found.foreign() {
        diagnostics::taken(thing.what, &usual, &thing.id, wish, diagnostics);
        return Ok(true);
    }
    if let Some(routes) = found.live_by() {
        diagnostics::exists_live(wish, &routes, diagnostics);
        if wish.is_protected() {
            return Ok(true);
        }
    }
    // Terraform doesn't say whether one of its own goes for this one, nor, while it applies, which ones it has.
    let other = survey(&shared.stack, wish, (&second, ""), Freshness::Shared).await?;
    let room = other.is_for_taking(&shared.stack, wish, now).await?;
    if !room || !is_ours_to_replace(shared, &found).await {
        diagnostics::exists(wish, &found, room.then_some(second.as_str()), diagnostics);
    }
    Ok(false)
}

/// Whether everything of a name belongs to objects that the states of this run have: one of them goes for this one.
async fn is_ours_to_replace(shared: &Shared, found: &Survey) -> bool {
    for owner in found.owners() {
        if !shared.stack.objects.is_known(&owner).await {
            return false;
        }
    }
    true
}

/// Tells whom a destroy would hurt.
pub(super) async fn plan_destroy(shared: &Shared, request: &DestroyRequest, diagnostics: &mut Diagnostics) {
    let memory = &PrivateState::read(&request.private);
    shared.stack.objects.note(&memory.owner);
    let Some(spec) = &model::spec(&request.prior).map(Spec::with_defaults) else { return };
    let ids = model::ids(&request.prior);
    let Some(group) = ids.target_group.clone() else { return };
    if !shared.platform.is_known() || !harms_by_going(spec) {
        return;
    }
    let hurt = async {
        let Some(routes) = live_by(&live_guard::leads_to(&shared.stack, &group, Freshness::Shared).await?) else {
            return Ok(None);
        };
        let seen = observe(&shared.stack.ports, spec, &ids).await?;
        Ok::<_, PortError>((!is_left_to_another(&seen, memory)).then_some(routes))
    };
    match hurt.await {
        Ok(Some(routes)) => diagnostics::destroys_live(spec, &routes, spec.is_protected(), diagnostics),
        Ok(None) => {}
        Err(error) => diagnostics::unreadable(&spec.id(), &error, diagnostics),
    }
}

/// Whether nothing of a color would go: another object has it all by now, as the one that replaced it.
pub(super) fn is_left_to_another(seen: &Seen, memory: &PrivateState) -> bool {
    let tagged = seen.tagged();
    !tagged.is_empty() && tagged.iter().all(|tags| !stack::is_own(tags, &memory.owner, &memory.heir_of))
}

/// A group of somebody else's with nothing of ours behind it is only let go of.
pub(super) fn harms_by_going(spec: &Spec) -> bool {
    spec.target_group.is_some() || spec.instances.is_some() || spec.service.is_some() || spec.targets.is_some()
}

/// Every id that only an apply can tell.
pub(super) const IDS: [&str; 6] = [
    "target_group_arn",
    "security_group_id",
    "launch_template_id",
    "launch_template_version",
    "service_arn",
    "task_definition_arn",
];

/// Names that mostly are known before.
pub(super) const NAMES: [&str; 2] = ["target_group_name", "autoscaling_group_name"];

/// Whether an environment of this configuration has such a thing.
fn has(config: &Value, name: &str) -> bool {
    match name {
        "target_group_arn" | "target_group_name" => true,
        "service_arn" | "task_definition_arn" => !config.get("service").is_null(),
        _ => !config.get("instances").is_null(),
    }
}

fn plan_ids(state: &mut Value, config: &Value, prior: &Value, (wish, name, changes): (&Spec, &str, &[Change])) {
    let versioned = |change: &Change| match change {
        Change::Roll(_) | Change::Version | Change::Repoint => true,
        Change::Create(part) => *part == Part::LaunchTemplate,
        _ => false,
    };
    let rolls = changes.iter().any(versioned);
    let deploys = changes.iter().any(|change| matches!(change, Change::Deploy(_) | Change::Create(Part::Service)));
    let left_over = !prior.is_null() && !rolls;
    for name in IDS {
        let again = match name {
            "launch_template_version" => rolls,
            "task_definition_arn" => deploys,
            _ => false,
        };
        let known = prior.get(name);
        // A version that is null only tells of instances of a former one, which may have to stay for now.
        let stays = name == "launch_template_version" && left_over;
        let value = match (has(config, name), known.is_null() && !stays || again) {
            (false, _) => Value::Null,
            (true, true) => Value::UNKNOWN,
            (true, false) => known.clone(),
        };
        state.set(name, value);
    }
    if let (None, Some(arn)) = (&wish.target_group, &wish.target_group_arn) {
        state.set("target_group_arn", Value::from(arn.as_str()));
    }
    if wish.target_group.is_some() && config.get("target_group_arn").is_set() {
        state.set("target_group_arn", config.get("target_group_arn").clone());
    }
    let own = wish.target_group.as_ref().map(|_| name);
    let group = match (prior.get("target_group_name"), own) {
        (Value::Null, Some(name)) if prior.get("target_group_arn").is_null() => Value::from(name),
        (Value::Null, Some(_)) => {
            prior.get("target_group_arn").as_str().map_or(Value::UNKNOWN, |arn| crate::rollout::short(arn).into())
        }
        (Value::Null, None) => {
            wish.target_group_arn.as_deref().map_or(Value::UNKNOWN, |arn| crate::rollout::short(arn).into())
        }
        (known, _) => known.clone(),
    };
    state.set("target_group_name", group);
    let scaling = match (has(config, "autoscaling_group_name"), prior.get("autoscaling_group_name")) {
        (false, _) => Value::Null,
        (true, Value::Null) => Value::from(name),
        (true, known) => known.clone(),
    };
    state.set("autoscaling_group_name", scaling);
}

/// What of the part of a configuration that is known already makes everything anew; whom it would hurt is told.
async fn plan_known_part(
    shared: &Shared,
    (config, region): (&Value, Option<String>),
    prior: Option<&Value>,
    memory: &PrivateState,
    diagnostics: &mut Diagnostics,
) -> Vec<Path> {
    let Some((prior, before)) = prior.and_then(|prior| Some((prior, model::spec(prior)?.with_defaults()))) else {
        return Vec::new();
    };
    let known = model::spec(&model::known_part(config, prior)).filter(|_| shared.platform.is_known());
    let Some(wish) = known.map(|wish| Spec { region, ..wish.with_defaults() }) else { return Vec::new() };
    compare(shared, (prior, &before), &wish, memory, diagnostics).await.replaced
}

/// Not everything is known: what may change is for the apply to tell. What is there already keeps its ids: an update never
/// makes them others, so that whatever depends on them needn't be made anew.
fn plan_unknown(state: &mut Value, config: &Value, prior: Option<&Value>) {
    let prior = prior.unwrap_or(&Value::Null);
    let known = |names: &[&str]| names.iter().all(|name| config.get(name).is_wholly_known());
    let may_change = ["mirror", "mirror_verbatim", "tags_all", "launch_template_version", "task_definition_arn"];
    let names = IDS.iter().chain(&NAMES).chain(&["id"]).chain(&may_change);
    for name in names {
        let configured = *name == "target_group_arn" && !config.get("target_group_arn").is_null();
        if configured {
            continue;
        }
        let wanted = ["id", "mirror", "mirror_verbatim", "tags_all"].contains(name) || has(config, name);
        let own = prior.get(name);
        let stays = match *name {
            "id" => known(&["name", "color"]),
            name => !may_change.contains(&name),
        };
        let value = match wanted {
            false => Value::Null,
            true if own.is_null() || !stays => Value::UNKNOWN,
            true => own.clone(),
        };
        state.set(name, value);
    }
}
