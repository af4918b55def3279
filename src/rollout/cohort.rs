//! The users who get the target color before anybody else: which requests are theirs, and the rules that lead them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::route::{Conditions, HeaderCondition, QueryCondition, QueryValue, RouteSpec};
use crate::argument::{Arguments, rules};

/// AWS's quota of condition values per rule.
pub const MOST_VALUES: usize = 5;
/// AWS's quota of wildcards in the conditions of a rule.
pub const MOST_WILDCARDS: usize = 6;

/// Users who get the new color before the first step.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Cohort {
    /// What a request must match to be one of the cohort, besides the conditions of its route: a header, a cookie (the header
    /// `Cookie`, such as `*cohort=testers*`), a query parameter, or the network of an office.
    #[argument(required)]
    pub conditions: Conditions,
    /// Time that the cohort has the new color alone, before the first step.
    #[argument(required, text = rules::some_time)]
    pub hold: Duration,
}

impl Cohort {
    /// What a request of a route must match, and be one of the cohort.
    ///
    /// # Errors
    /// Why AWS takes no such rule.
    pub fn of_route(&self, route: &Conditions) -> Result<Conditions, String> {
        let own = self.conditions.clone().normal();
        let mut joined = route.clone();
        // AWS takes one condition of each of these kinds in a rule.
        let single = [
            (
                "for the host",
                vec![
                    (&mut joined.host_headers, own.host_headers),
                    (&mut joined.host_header_regex_values, own.host_header_regex_values),
                ],
            ),
            (
                "for the path",
                vec![
                    (&mut joined.path_patterns, own.path_patterns),
                    (&mut joined.path_pattern_regex_values, own.path_pattern_regex_values),
                ],
            ),
            ("for the method", vec![(&mut joined.http_request_methods, own.http_request_methods)]),
            ("for networks", vec![(&mut joined.source_ips, own.source_ips)]),
        ];
        for (kind, lists) in single {
            if lists.iter().any(|(of_route, _)| !of_route.is_empty()) && lists.iter().any(|(_, own)| !own.is_empty()) {
                return Err(format!("it has a condition {kind} itself, and AWS takes one in a rule"));
            }
            lists.into_iter().for_each(|(of_route, own)| of_route.extend(own));
        }
        let plain = own.http_headers.into_iter();
        let plain = plain.map(|(name, values)| HeaderCondition { name, values, regex_values: Vec::new() });
        joined.http_header_conditions.extend(plain.chain(own.http_header_conditions));
        let queries = own.query_strings.into_iter().map(|(key, value)| vec![QueryValue { key: Some(key), value }]);
        let queries = queries.map(|values| QueryCondition { values });
        joined.query_string_conditions.extend(queries.chain(own.query_string_conditions));
        let joined = joined.normal();
        let (values, wildcards) = joined.counts();
        let quotas = [(values, "values", MOST_VALUES), (wildcards, "wildcards", MOST_WILDCARDS)];
        match quotas.into_iter().find(|(count, _, most)| count > most) {
            Some((count, what, most)) => Err(format!(
                "together with its own, the conditions would have {count} {what}, and AWS allows {most} in a rule"
            )),
            None => Ok(joined),
        }
    }
}

/// The rules by which a cohort is led.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CohortRules {
    /// By the keys of the routes that they go before; or why there can be none.
    #[serde(skip)]
    pub places: BTreeMap<String, Result<RouteSpec, String>>,
    /// Those that an earlier rollout left, for a cohort that is no longer the one that is configured.
    #[serde(skip)]
    pub left: Vec<RouteSpec>,
    /// The keys of those that an earlier rollout noted to make, and of which it is not known that they are gone.
    pub noted: Vec<String>,
}

impl CohortRules {
    /// All of them, whether they are there or are to be made.
    pub fn rules(&self) -> impl Iterator<Item = &RouteSpec> {
        self.places.values().filter_map(|place| place.as_ref().ok()).chain(&self.left)
    }

    /// Those that were noted, by their places.
    pub fn noted_rules(&self) -> impl Iterator<Item = RouteSpec> {
        self.noted.iter().filter_map(|key| RouteSpec::own(key))
    }

    /// Whether a route is one of them.
    pub fn has(&self, route: &RouteSpec) -> bool {
        self.rules().any(|rule| rule.key() == route.key())
    }
}
