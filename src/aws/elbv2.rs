//! Elastic Load Balancing: where routes lead, and how to lead them elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, Listener, Rule, RulePriorityPair, Tag, TargetGroup, TargetHealthDescription,
};
use futures::future::{join_all, try_join_all};

use super::batch::Recent;
use super::connection::Connection;
use super::error::{call_error, or_if_gone};
use super::group_attributes;
use crate::arn::listener_of;
use crate::rollout::gate::TargetHealth;
use crate::rollout::{Conditions, Observed, Place, Processing, RouteSpec, Terminal};
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::rollout::ports::{GroupFacts, ListenerFacts, LoadBalancer};
use crate::stack;

mod actions;
mod conditions;
pub(super) mod describe;
mod processing;

/// What a load balancer's listeners do by default, by listener ARN.
type Listeners = Arc<HashMap<String, Observed>>;
/// A listener's rules.
type Rules = Arc<Vec<SeenRule>>;

struct SeenRule {
    priority: String,
    observed: Observed,
}

/// The load balancers of one account and region.
pub struct Elbv2 {
    connection: Arc<Connection>,
    listeners: Recent<String, Listeners>,
    rules: Recent<String, Rules>,
}

/// A change of a listener or of its rules; forgets what was read of them when it ends, also where it is given up.
struct Changing<'a> {
    of: &'a Elbv2,
    listener: String,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.of.listeners.forget(&load_balancer_of(&self.listener));
        self.of.rules.forget(&self.listener);
    }
}

/// The ARN of the load balancer that a listener belongs to.
fn load_balancer_of(listener: &str) -> String {
    let arn = listener.replacen(":listener/", ":loadbalancer/", 1);
    arn.rsplit_once('/').map_or(arn.clone(), |(load_balancer, _)| load_balancer.to_owned())
}

impl Elbv2 {
    /// Nothing is called before it is needed.
    pub fn new(connection: Arc<Connection>) -> Elbv2 {
        Elbv2 { connection, listeners: Recent::new(), rules: Recent::new() }
    }

    /// A call is about to change a listener or a rule: whatever comes of it, what was read before is not shared any more.
    fn changing(&self, arn: &str) -> Changing<'_> {
        let listener = if arn.contains(":listener-rule/") { listener_of(arn) } else { arn.to_owned() };
        Changing { of: self, listener }
    }

    async fn listeners(&self, load_balancer: String, age: Freshness) -> Result<Listeners, PortError> {
        let (connection, of) = (self.connection.clone(), load_balancer.clone());
        self.listeners.get(load_balancer, age, || read_listeners(connection, of)).await
    }

    async fn rules(&self, listener: String, age: Freshness) -> Result<Rules, PortError> {
        let (connection, of) = (self.connection.clone(), listener.clone());
        self.rules.get(listener, age, || read_rules(connection, of)).await
    }

    /// A listener as AWS has it now.
    async fn listener(&self, arn: &str) -> Result<Listener, PortError> {
        let answer = self.connection.elbv2().await?.describe_listeners().listener_arns(arn).send().await;
        let answer = answer.map_err(|error| call_error("elasticloadbalancing", "DescribeListeners", &error))?;
        let gone = || PortError::new(FailureKind::Gone, format!("{} is gone", RouteSpec::Listener(arn.to_owned())));
        answer.listeners().first().cloned().ok_or_else(gone)
    }

    /// The actions of a route as AWS has them now.
    async fn actions(&self, route: &RouteSpec, arn: &str) -> Result<Vec<Action>, PortError> {
        if let RouteSpec::Listener(_) = route {
            return Ok(self.listener(arn).await?.default_actions().to_vec());
        }
        let client = self.connection.elbv2().await?;
        let gone = || PortError::new(FailureKind::Gone, format!("{route} is gone"));
        let answer = client.describe_rules().rule_arns(arn).send().await;
        let answer = answer.map_err(|error| call_error("elasticloadbalancing", "DescribeRules", &error))?;
        answer.rules().first().map(|rule| rule.actions().to_vec()).ok_or_else(gone)
    }
}

impl Elbv2 {
    /// The load balancer tells the zones of addresses; those of instances, EC2 does.
    async fn add_zones(&self, targets: &mut [TargetHealth]) -> Result<(), PortError> {
        let instance = |target: &TargetHealth| {
            let id = target.target.split(':').next().unwrap_or_default().to_owned();
            (target.zone.is_none() && id.starts_with("i-")).then_some(id)
        };
        let ids: Vec<String> = targets.iter().filter_map(instance).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let answer = self.connection.ec2().await?.describe_instances().set_instance_ids(Some(ids)).send().await;
        let answer = answer.map_err(|error| call_error("ec2", "DescribeInstances", &error))?;
        let instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
        let zones: BTreeMap<&str, &str> = instances
            .filter_map(|instance| Some((instance.instance_id()?, instance.placement()?.availability_zone()?)))
            .collect();
        for target in targets {
            if let Some(id) = instance(target) {
                target.zone = zones.get(id.as_str()).map(|zone| (*zone).to_owned());
            }
        }
        Ok(())
    }
}

async fn read_listeners(connection: Arc<Connection>, load_balancer: String) -> Result<Listeners, PortError> {
    let pages = connection.elbv2().await?.describe_listeners().load_balancer_arn(load_balancer).into_paginator();
    let listeners = pages.items().send().collect::<Result<Vec<Listener>, _>>().await;
    let listeners = listeners.map_err(|error| call_error("elasticloadbalancing", "DescribeListeners", &error));
    let observed = |listener: &Listener| {
        let arn = listener.listener_arn()?.to_owned();
        let terminal = actions::terminal(listener.default_actions())?;
        let ahead = actions::ahead(listener.default_actions());
        let processing = processing::from_aws(listener.default_actions(), &[]);
        Some((arn.clone(), Observed { processing, ahead, ..Observed::leading(arn, terminal) }))
    };
    Ok(Arc::new(or_if_gone(listeners, Vec::new())?.iter().filter_map(observed).collect()))
}

async fn read_rules(connection: Arc<Connection>, listener: String) -> Result<Rules, PortError> {
    let client = connection.elbv2().await?;
    let mut rules: Vec<Rule> = Vec::new();
    let mut marker = None;
    loop {
        let answer = client.describe_rules().listener_arn(&listener).set_marker(marker).send().await;
        let answer = answer.map_err(|error| call_error("elasticloadbalancing", "DescribeRules", &error));
        let (page, next) = match answer {
            Err(error) if error.kind == FailureKind::Gone => break,
            Err(error) => return Err(error),
            Ok(answer) => (answer.rules().to_vec(), answer.next_marker().map(str::to_owned)),
        };
        rules.extend(page);
        marker = next.filter(|marker| !marker.is_empty());
        if marker.is_none() {
            break;
        }
    }
    let observed = |rule: &Rule| {
        let arn = rule.rule_arn()?.to_owned();
        let terminal = actions::terminal(rule.actions())?;
        let conditions = conditions::from_aws(rule.conditions());
        let processing = processing::from_aws(rule.actions(), rule.transforms());
        let ahead = actions::ahead(rule.actions());
        let observed = Observed { conditions, processing, ahead, ..Observed::leading(arn, terminal) };
        Some(SeenRule { priority: rule.priority()?.to_owned(), observed })
    };
    Ok(Arc::new(rules.iter().filter_map(observed).collect()))
}

/// A rule that is to be at a priority: the one that the switch made, wherever it stands, or else the one that stands there.
fn own_rule(rules: &[SeenRule], priority: i32, arn: Option<&str>) -> Option<Observed> {
    let there = rules.iter().find(|rule| rule.priority == priority.to_string());
    let known = arn.and_then(|arn| rules.iter().find(|rule| rule.observed.arn == arn));
    let rule = known.or(there)?;
    let other = there.filter(|there| there.observed.arn != rule.observed.arn);
    let place =
        Place { priority: rule.priority.parse().ok()?, taken_by: other.map(|other| other.observed.arn.clone()) };
    Some(Observed { place: Some(place), ..rule.observed.clone() })
}

fn described(target: &TargetHealthDescription) -> TargetHealth {
    let name = target.target().map_or_else(String::new, |target| {
        let id = target.id().unwrap_or_default();
        target.port().map_or_else(|| id.to_owned(), |port| format!("{id}:{port}"))
    });
    let health = target.target_health();
    let state = health.and_then(|health| health.state()).map_or("unknown", |state| state.as_str());
    let reason = health.and_then(|health| health.reason()).map(|reason| reason.as_str().to_owned());
    let description = health.and_then(|health| health.description()).map(str::to_owned);
    let reason = match (reason, description) {
        (Some(reason), Some(description)) => Some(format!("{reason}: {description}")),
        (reason, description) => reason.or(description),
    };
    let zone = target.target().and_then(|target| target.availability_zone()).filter(|zone| *zone != "all");
    TargetHealth { target: name, state: state.to_owned(), reason, zone: zone.map(str::to_owned) }
}

fn to_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

#[async_trait]
impl LoadBalancer for Elbv2 {
    async fn observe(&self, routes: &[RouteSpec], age: Freshness) -> Result<BTreeMap<String, Observed>, PortError> {
        let mut load_balancers = BTreeSet::new();
        let mut listeners = BTreeSet::new();
        for route in routes {
            match route {
                RouteSpec::Listener(arn) => drop(load_balancers.insert(load_balancer_of(arn))),
                RouteSpec::Rule(arn) => drop(listeners.insert(listener_of(arn))),
                RouteSpec::OwnRule { listener, .. } => drop(listeners.insert(listener.clone())),
            }
        }
        let of_listeners = load_balancers.into_iter().map(|arn| self.listeners(arn, age));
        let of_rules = listeners
            .into_iter()
            .map(|arn| async move { Ok::<_, PortError>((arn.clone(), self.rules(arn, age).await?)) });
        let (seen, rules) = futures::future::join(join_all(of_listeners), try_join_all(of_rules)).await;
        let seen = seen.into_iter().collect::<Result<Vec<Listeners>, _>>()?;
        let rules: HashMap<String, Rules> = rules?.into_iter().collect();
        let find = |route: &RouteSpec| match route {
            RouteSpec::Listener(arn) => seen.iter().find_map(|listeners| listeners.get(arn)).cloned(),
            RouteSpec::Rule(arn) => {
                let rule = rules.get(&listener_of(arn))?.iter().find(|rule| rule.observed.arn == *arn)?;
                Some(rule.observed.clone())
            }
            RouteSpec::OwnRule { listener, priority, arn, .. } => {
                own_rule(rules.get(listener)?, *priority, arn.as_deref())
            }
        };
        Ok(routes.iter().filter_map(|route| Some((route.key(), find(route)?))).collect())
    }

    async fn rules_of(&self, listener: &str) -> Result<Vec<Observed>, PortError> {
        let rules = self.rules(listener.to_owned(), Freshness::Now).await?;
        // The default rule has no priority.
        let stands = |rule: &SeenRule| Some(Place { priority: rule.priority.parse().ok()?, taken_by: None });
        let rule = |rule: &SeenRule| Some(Observed { place: Some(stands(rule)?), ..rule.observed.clone() });
        Ok(rules.iter().filter_map(rule).collect())
    }

    async fn listener_facts(&self, listener: &str) -> Result<ListenerFacts, PortError> {
        let listener = self.listener(listener).await?;
        let authentication = listener.default_actions().iter().find_map(actions::authentication);
        let protocol = listener.protocol().map(|protocol| protocol.as_str().to_owned());
        Ok(ListenerFacts { authentication, protocol })
    }

    async fn set_terminal(&self, route: &RouteSpec, arn: &str, terminal: &Terminal) -> Result<(), PortError> {
        let _changing = self.changing(arn);
        let actions = actions::with_terminal(self.actions(route, arn).await?, terminal);
        let client = self.connection.elbv2().await?;
        if let RouteSpec::Listener(_) = route {
            let result = client.modify_listener().listener_arn(arn).set_default_actions(Some(actions)).send().await;
            return result.map(drop).map_err(|error| call_error("elasticloadbalancing", "ModifyListener", &error));
        }
        let result = client.modify_rule().rule_arn(arn).set_actions(Some(actions)).send().await;
        result.map(drop).map_err(|error| call_error("elasticloadbalancing", "ModifyRule", &error))
    }

    async fn create_rule(
        &self,
        listener: &str,
        priority: i32,
        (conditions, processing): (&Conditions, &Processing),
        terminal: &Terminal,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, PortError> {
        let _changing = self.changing(listener);
        let call = self.connection.elbv2().await?.create_rule().listener_arn(listener).priority(priority);
        let call = call.set_conditions(Some(conditions::to_aws(conditions)));
        let before = processing.authentication.as_ref().map(processing::to_action);
        let call = call.set_actions(Some(actions::of(before, terminal)));
        let call = call.set_transforms(processing::to_transforms(processing));
        let tags = to_tags(tags);
        let result = call.set_tags((!tags.is_empty()).then_some(tags)).send().await;
        let answer = result.map_err(|error| call_error("elasticloadbalancing", "CreateRule", &error))?;
        let made = answer.rules().first().and_then(|rule| rule.rule_arn());
        let unsaid = || PortError::new(FailureKind::Other, "elasticloadbalancing CreateRule: the answer names no rule");
        made.map(str::to_owned).ok_or_else(unsaid)
    }

    async fn set_priority(&self, arn: &str, priority: i32) -> Result<(), PortError> {
        let _changing = self.changing(arn);
        let pair = RulePriorityPair::builder().rule_arn(arn).priority(priority).build();
        let result = self.connection.elbv2().await?.set_rule_priorities().rule_priorities(pair).send().await;
        result.map(drop).map_err(|error| call_error("elasticloadbalancing", "SetRulePriorities", &error))
    }

    async fn rule_tags(&self, arns: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>, PortError> {
        Ok(describe::tags(&self.connection, arns).await?.into_iter().collect())
    }

    async fn tag_rule(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        let call = self.connection.elbv2().await?.add_tags().resource_arns(arn).set_tags(Some(to_tags(tags)));
        call.send().await.map(drop).map_err(|error| call_error("elasticloadbalancing", "AddTags", &error))
    }

    async fn set_conditions(&self, arn: &str, conditions: &Conditions) -> Result<(), PortError> {
        let _changing = self.changing(arn);
        let call = self.connection.elbv2().await?.modify_rule().rule_arn(arn);
        let result = call.set_conditions(Some(conditions::to_aws(conditions))).send().await;
        result.map(drop).map_err(|error| call_error("elasticloadbalancing", "ModifyRule", &error))
    }

    async fn set_processing(&self, arn: &str, before: &Processing, after: &Processing) -> Result<(), PortError> {
        let _changing = self.changing(arn);
        // A call that changes nothing is refused.
        if before.changes(after).is_empty() {
            return Ok(());
        }
        let mut call = self.connection.elbv2().await?.modify_rule().rule_arn(arn);
        if before.asks_otherwise(after) {
            let actions = self.actions(&RouteSpec::Rule(arn.to_owned()), arn).await?;
            let unsaid = || PortError::new(FailureKind::Other, "elasticloadbalancing DescribeRules: it leads nowhere");
            let terminal = actions::terminal(&actions).ok_or_else(unsaid)?;
            let action = after.authentication.as_ref().map(processing::to_action);
            call = call.set_actions(Some(actions::of(action, &terminal)));
        }
        let (former, transforms) = (processing::to_transforms(before), processing::to_transforms(after));
        if former != transforms {
            call = call.set_reset_transforms(transforms.is_none().then_some(true)).set_transforms(transforms);
        }
        let result = call.send().await;
        result.map(drop).map_err(|error| call_error("elasticloadbalancing", "ModifyRule", &error))
    }

    async fn delete_rule(&self, arn: &str) -> Result<(), PortError> {
        let _changing = self.changing(arn);
        let result = self.connection.elbv2().await?.delete_rule().rule_arn(arn).send().await;
        let result = result.map(drop).map_err(|error| call_error("elasticloadbalancing", "DeleteRule", &error));
        or_if_gone(result, ())
    }

    async fn target_health(&self, group: &str, zones: bool) -> Result<Vec<TargetHealth>, PortError> {
        let seen = describe::health(&self.connection, group).await?;
        let mut targets: Vec<TargetHealth> = seen.iter().map(described).collect();
        if zones {
            self.add_zones(&mut targets).await?;
        }
        Ok(targets)
    }

    async fn group_facts(&self, group: &str) -> Result<GroupFacts, PortError> {
        Ok(group_attributes::facts(&describe::attributes(&self.connection, group).await?))
    }

    async fn speaking_grpc(&self, groups: &[String]) -> Result<BTreeSet<String>, PortError> {
        let seen = describe::target_groups(&self.connection, groups.to_vec()).await?;
        let speaking = seen.iter().filter(|group| group.protocol_version() == Some("GRPC"));
        Ok(speaking.filter_map(|group| group.target_group_arn()).map(str::to_owned).collect())
    }

    async fn mark_previews(&self, groups: &[String], former: &[String], routes: &[String]) -> Result<(), PortError> {
        let client = self.connection.elbv2().await?;
        // A group that is gone needs no note, and must not keep the others from theirs.
        for (arn, tags) in &describe::tags(&self.connection, groups).await? {
            let tag = |key: &str| tags.get(key).map(String::as_str);
            let before = tag(stack::PREVIEW_TAG).unwrap_or_default();
            let value = stack::preview_tag(before, former, routes);
            if tag(stack::TAG).is_none() || before == value {
                continue;
            }
            if value.is_empty() {
                let result = client.remove_tags().resource_arns(arn).tag_keys(stack::PREVIEW_TAG).send().await;
                result.map_err(|error| call_error("elasticloadbalancing", "RemoveTags", &error))?;
            } else {
                let tag = Tag::builder().key(stack::PREVIEW_TAG).value(&value).build();
                let result = client.add_tags().resource_arns(arn).tags(tag).send().await;
                result.map_err(|error| call_error("elasticloadbalancing", "AddTags", &error))?;
            }
        }
        Ok(())
    }

    async fn routes_of(
        &self,
        load_balancers: &[String],
        age: Freshness,
    ) -> Result<Vec<(RouteSpec, Observed)>, PortError> {
        let mut found = Vec::new();
        for load_balancer in load_balancers {
            let listeners = self.listeners(load_balancer.clone(), age).await?;
            for (arn, observed) in listeners.iter() {
                found.push((RouteSpec::Listener(arn.clone()), observed.clone()));
                // Gateway Load Balancers have none.
                if arn.contains(":listener/gwy/") {
                    continue;
                }
                for rule in self.rules(arn.clone(), age).await?.iter().filter(|rule| rule.priority != "default") {
                    found.push((RouteSpec::Rule(rule.observed.arn.clone()), rule.observed.clone()));
                }
            }
        }
        Ok(found)
    }

    async fn forwarding_routes(&self, age: Freshness) -> Result<Vec<(RouteSpec, Observed)>, PortError> {
        let client = self.connection.elbv2().await?;
        let pages = client.describe_load_balancers().into_paginator().items().send();
        let load_balancers = pages.collect::<Result<Vec<_>, _>>().await;
        let load_balancers =
            load_balancers.map_err(|error| call_error("elasticloadbalancing", "DescribeLoadBalancers", &error))?;
        let arns = load_balancers.iter().filter_map(|balancer| balancer.load_balancer_arn()).map(str::to_owned);
        let mut found = self.routes_of(&arns.collect::<Vec<_>>(), age).await?;
        found.retain(|(_, observed)| matches!(&observed.terminal, Terminal::Forward(_)));
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    async fn group_names(&self, arns: Vec<String>) -> Result<BTreeMap<String, String>, PortError> {
        let call = self.connection.elbv2().await?.describe_target_groups();
        let call = call.set_target_group_arns((!arns.is_empty()).then_some(arns));
        let groups = call.into_paginator().items().send().collect::<Result<Vec<TargetGroup>, _>>().await;
        let groups = groups.map_err(|error| call_error("elasticloadbalancing", "DescribeTargetGroups", &error))?;
        let pair =
            |group: &TargetGroup| Some((group.target_group_arn()?.to_owned(), group.target_group_name()?.to_owned()));
        Ok(groups.iter().filter_map(pair).collect())
    }
}
