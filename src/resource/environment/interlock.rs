//! Whether a colour serves users, asked of the load balancer, and the way out of routes that it has no traffic in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::resource::Shared;
use crate::rollout::{Forward, RouteSpec, Terminal};
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::stack::{self, Lead, leads};

/// The routes that have this target group in them.
pub(super) async fn leads_to(shared: &Shared, group: &str, age: Freshness) -> Result<Vec<Lead>, PortError> {
    let Some(seen) = shared.services.target_groups.find(group).await? else { return Ok(Vec::new()) };
    let routes = shared.ports.load_balancer.routes_of(&seen.load_balancers, age).await?;
    let mut leads = leads(group, routes);
    if leads.iter().any(Lead::is_live) {
        let tags = shared.services.target_groups.tags(group).await?;
        for lead in &mut leads {
            lead.preview = stack::is_preview(&tags, &lead.observed.arn);
        }
    }
    Ok(leads)
}

/// The routes by which users get to the colour, in words; none if there are none.
pub(super) fn live_by(leads: &[Lead]) -> Option<String> {
    let mut words = String::new();
    for lead in leads.iter().filter(|lead| lead.is_live()) {
        let share = if lead.alone { 100.0 } else { lead.share };
        let _ = write!(words, "{}{} ({share:.0} %)", if words.is_empty() { "" } else { ", " }, lead.route);
    }
    (!words.is_empty()).then_some(words)
}

/// Takes the group out of every route. Where it has weight 0 the others go on as they are. Where it serves, which only
/// happens when protection is off, nobody else is given traffic unchecked: the route answers 503.
///
/// # Errors
/// When a route can't be changed, or the colour serves users though it is protected.
pub(super) async fn detach(shared: &Shared, group: &str, protected: bool) -> Result<(), PortError> {
    // A route is read, changed and written as a whole: two colours that go at the same time would bring each other back.
    let _alone = shared.services.routes.lock().await;
    let leads = leads_to(shared, group, Freshness::Now).await?;
    if let Some(routes) = live_by(&leads).filter(|_| protected) {
        let text = format!("it got traffic in the meantime, by {routes}");
        return Err(PortError::new(FailureKind::Conflict, text));
    }
    for lead in &leads {
        if lead.nobody {
            shared.ports.load_balancer.delete_rule(&lead.observed.arn).await?;
            continue;
        }
        let after = lead.without(group).unwrap_or_else(|| Terminal::FixedResponse {
            status: "503".to_owned(),
            content_type: Some("text/plain".to_owned()),
            body: Some("Service Unavailable".to_owned()),
        });
        tracing::info!(route = %lead.route, group, "takes the target group out of a route");
        let done = shared.ports.load_balancer.set_terminal(&lead.route, &lead.observed.arn, &after).await;
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

/// The lowest of all priorities: no rule of a listener comes after it.
const LAST: i32 = 50_000;
/// How many priorities are tried from the lowest up.
const TRIES: i32 = 200;

/// Makes the group known to its load balancer by a rule that no request matches, and takes such rules of former listeners
/// away.
///
/// # Errors
/// When a rule can't be made or deleted.
pub(super) async fn make_known(
    shared: &Shared,
    group: &str,
    (name, listener): (&str, Option<&str>),
    tags: &BTreeMap<String, String>,
) -> Result<(), PortError> {
    let load_balancer = &shared.ports.load_balancer;
    let leads = leads_to(shared, group, Freshness::Now).await?;
    // A rule's ARN is its listener's, and one part more.
    let of = |lead: &&Lead, listener: &str| {
        lead.observed.arn.contains(&listener.replacen(":listener/", ":listener-rule/", 1))
    };
    let known =
        listener.is_some_and(|listener| leads.iter().filter(|lead| lead.nobody).any(|lead| of(&lead, listener)));
    if let Some(listener) = listener.filter(|_| !known) {
        let forward = Forward { groups: vec![(group.to_owned(), 1)], stickiness: None };
        let (conditions, terminal) = (stack::nobody(name), Terminal::Forward(forward));
        let mut priority = LAST;
        loop {
            match load_balancer.create_rule(listener, priority, &conditions, &terminal, tags).await {
                Err(error) if error.kind == FailureKind::Conflict && priority > LAST - TRIES => priority -= 1,
                other => {
                    other?;
                    break;
                }
            }
        }
    }
    for lead in leads.iter().filter(|lead| lead.nobody) {
        if listener.is_none_or(|listener| !of(&lead, listener)) {
            load_balancer.delete_rule(&lead.observed.arn).await?;
        }
    }
    Ok(())
}
