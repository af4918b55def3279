//! Whether a color serves users, asked of the load balancer, and the way out of routes that it has no traffic in.

use std::collections::BTreeMap;

use crate::rollout::{Conditions, Forward, LAST_PRIORITY, Processing, RouteSpec, Stickiness, Terminal};
use crate::run::absence::{ages, believed};
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::stack::context::StackContext;
use crate::stack::{self, Lead, leads, live_by};

/// The routes that have this target group in them.
///
/// # Errors
/// When AWS can't be asked.
pub async fn leads_to(context: &StackContext, group: &str, age: Freshness) -> Result<Vec<Lead>, PortError> {
    // Where some load balancer has it, some route leads there, and a look that shows none is an old one.
    let of_look = ages(age);
    let has_all = |(leads, is_used): &(Vec<Lead>, bool)| !leads.is_empty() || !is_used;
    let (mut leads, _) = believed(|| look(context, group, of_look()), has_all, |later, _| later).await?;
    if leads.iter().any(Lead::is_live) {
        let tags = context.ports.target_groups.tags(group).await?;
        for lead in &mut leads {
            lead.preview = stack::is_preview(&tags, &lead.observed.arn);
        }
    }
    Ok(leads)
}

/// The routes that a look shows, and whether a load balancer has the group.
async fn look(context: &StackContext, group: &str, age: Freshness) -> Result<(Vec<Lead>, bool), PortError> {
    let find = || context.ports.target_groups.find(group);
    let Some(seen) = believed(find, Option::is_some, Option::or).await? else { return Ok((Vec::new(), false)) };
    let load_balancer = &context.load_balancer;
    if !seen.load_balancers.is_empty() {
        return Ok((leads(group, load_balancer.routes_of(&seen.load_balancers, age).await?), true));
    }
    if !is_used(context, group).await? {
        return Ok((Vec::new(), false));
    }
    // Which load balancers have a group is told late, and by some not at all; that its targets are checked says that one has it.
    Ok((leads(group, load_balancer.forwarding_routes(age).await?), true))
}

/// Whether a load balancer checks the group's targets, which it does where a listener or a rule has it.
async fn is_used(context: &StackContext, group: &str) -> Result<bool, PortError> {
    let health = match context.load_balancer.target_health(group, false).await {
        Err(error) if error.kind == FailureKind::Gone => return Ok(false),
        other => other?,
    };
    Ok(health.iter().any(|target| target.state != "unused" && target.state != "draining"))
}

/// The routes by which users get there, in words; none while nobody does.
///
/// # Errors
/// When AWS can't be asked.
pub async fn live(context: &StackContext, group: &str) -> Result<Option<String>, PortError> {
    Ok(live_by(&leads_to(context, group, Freshness::Now).await?))
}

/// Takes the group out of every route. Where it has weight 0 the others go on as they are. Where it serves, which only
/// happens when protection is off, nobody else is given traffic unchecked: the route answers 503.
///
/// # Errors
/// When a route can't be changed, or the color serves users though it is protected.
pub async fn detach(context: &StackContext, group: &str, protected: bool) -> Result<(), PortError> {
    // A route is read, changed and written as a whole: two colors that go at the same time would bring each other back.
    let _alone = context.routes.lock().await;
    let leads = leads_to(context, group, Freshness::Now).await?;
    if let Some(routes) = live_by(&leads).filter(|_| protected) {
        let text = format!("it got traffic in the meantime, by {routes}");
        return Err(PortError::new(FailureKind::Conflict, text));
    }
    for lead in &leads {
        if lead.nobody {
            context.load_balancer.delete_rule(&lead.observed.arn).await?;
            continue;
        }
        let after = lead.without(group).unwrap_or_else(|| Terminal::FixedResponse {
            status: "503".to_owned(),
            content_type: Some("text/plain".to_owned()),
            body: Some("Service Unavailable".to_owned()),
        });
        tracing::info!(route = %lead.route, group, "takes the target group out of a route");
        let done = context.load_balancer.set_terminal(&lead.route, &lead.observed.arn, &after).await;
        match done {
            // The route goes at the same time, as where everything is destroyed.
            Err(error) if error.kind == FailureKind::Gone => {}
            // A Network Load Balancer knows no fixed answers; what it has is deleted with its listener.
            Err(error) if matches!(&lead.route, RouteSpec::Listener(arn) if arn.contains("/net/")) => {
                tracing::warn!(%error, "the listener can't be led elsewhere");
            }
            other => other?,
        }
    }
    Ok(())
}

/// Lets every route that has the group beside others keep clients at a group, as shortly as can be: AWS wants that before a group
/// keeps them at a target. Weights stay.
///
/// # Errors
/// When a route can't be seen or changed.
pub async fn keep_clients(context: &StackContext, group: &str) -> Result<(), PortError> {
    let _alone = context.routes.lock().await;
    for lead in leads_to(context, group, Freshness::Now).await? {
        let Terminal::Forward(forward) = &lead.observed.terminal else { continue };
        if forward.groups.len() < 2 || forward.is_sticky() {
            continue;
        }
        tracing::info!(route = %lead.route, group, "lets a route keep clients at a group");
        let stickiness = Some(Stickiness::shortest(&lead.route));
        let after = Terminal::Forward(Forward { groups: forward.groups.clone(), stickiness });
        context.load_balancer.set_terminal(&lead.route, &lead.observed.arn, &after).await?;
    }
    Ok(())
}

/// How many priorities are tried from the lowest up.
const TRIES: i32 = 200;

/// Makes the group known to its load balancer by a rule that no request matches, and takes such rules of former listeners
/// away.
///
/// # Errors
/// When a rule can't be made or deleted.
pub async fn make_known(
    context: &StackContext,
    group: &str,
    (name, listener): (&str, Option<&str>),
    tags: &BTreeMap<String, String>,
) -> Result<(), PortError> {
    let load_balancer = &context.load_balancer;
    let leads = leads_to(context, group, Freshness::Now).await?;
    // A rule's ARN is its listener's, and one part more.
    let of = |lead: &&Lead, listener: &str| {
        lead.observed.arn.contains(&listener.replacen(":listener/", ":listener-rule/", 1))
    };
    let own = || leads.iter().filter(|lead| lead.makes_known(name));
    let known = listener.is_some_and(|listener| own().any(|lead| of(&lead, listener)));
    if let Some(listener) = listener.filter(|_| !known) {
        let forward = Forward { groups: vec![(group.to_owned(), 1)], stickiness: None };
        let (conditions, terminal) = (Conditions::nobody(name), Terminal::Forward(forward));
        let mut priority = LAST_PRIORITY;
        loop {
            match load_balancer
                .create_rule(listener, priority, (&conditions, &Processing::default()), &terminal, tags)
                .await
            {
                Err(error) if error.kind == FailureKind::Conflict && priority > LAST_PRIORITY - TRIES => priority -= 1,
                other => {
                    other?;
                    break;
                }
            }
        }
    }
    for lead in own() {
        if listener.is_none_or(|listener| !of(&lead, listener)) {
            load_balancer.delete_rule(&lead.observed.arn).await?;
        }
    }
    Ok(())
}
