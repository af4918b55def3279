//! Pure routing as an application load balancer does it: which rule matches, which group is chosen, where a redirect goes.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE};

use crate::core::wildcard::wildcard_in_any_case;
use crate::node::config::{Action, Condition, Forward, Rule};

/// What a rule can look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub method: &'a str,
    /// Without the port.
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub client: IpAddr,
}

/// The first rule that matches; rules come by priority, the default rule last.
pub(crate) fn matching_rule<'r>(rules: &'r [Rule], seen: &Seen<'_>) -> Option<&'r Rule> {
    rules.iter().find(|rule| rule.conditions.iter().all(|condition| holds(condition, seen)))
}

/// The action that ends the list.
pub(crate) fn final_action(rule: &Rule) -> Option<&Action> {
    rule.actions.iter().find(|action| !matches!(action, Action::Token | Action::Cookie { .. } | Action::Open))
}

/// What whoever asks is told instead, where it isn't known who that is: the status, and where to sign in.
pub(crate) fn turned_away<'r>(rule: &'r Rule, headers: &HeaderMap) -> Option<(u16, Option<&'r str>)> {
    let text = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    rule.actions.iter().find_map(|action| match action {
        Action::Token => {
            let has_token = text(AUTHORIZATION).any(|value| value.starts_with("Bearer "));
            (!has_token).then_some((401, None))
        }
        Action::Cookie { name, sign_in } => {
            // The name is the first part: a session may take several cookies.
            let mut cookies = text(COOKIE).flat_map(|line| line.split(';')).map(str::trim);
            let is_known = cookies.any(|cookie| cookie.starts_with(&format!("{name}-")));
            (!is_known).then_some((if sign_in.is_some() { 302 } else { 401 }, sign_in.as_deref()))
        }
        _ => None,
    })
}

/// The host, and path and query, as a rule rewrites them; none where it leaves them.
pub(crate) fn rewritten(rule: &Rule, host: &str, url: &str) -> (Option<String>, Option<String>) {
    let of = |of_host: bool, text: &str| {
        let mut transforms = rule.transforms.iter().filter(|transform| transform.of_host == of_host);
        transforms.find_map(|transform| transform.expression.replaced(text, &transform.replace))
    };
    (of(true, host), of(false, url))
}

fn holds(condition: &Condition, seen: &Seen<'_>) -> bool {
    match condition {
        Condition::Host(patterns) => patterns.iter().any(|pattern| pattern.matches_in_any_case(seen.host)),
        Condition::Path(patterns) => patterns.iter().any(|pattern| pattern.matches(seen.path)),
        Condition::Method(methods) => methods.iter().any(|method| method == seen.method),
        Condition::SourceIp(blocks) => blocks.iter().any(|block| in_block(block, seen.client)),
        Condition::Header(name, patterns) => {
            let values = seen.headers.iter().filter(|(header, _)| header.as_str().eq_ignore_ascii_case(name));
            values
                .filter_map(|(_, value)| value.to_str().ok())
                .any(|value| patterns.iter().any(|pattern| pattern.matches_in_any_case(value)))
        }
        Condition::Query(pairs) => form_urlencoded::parse(seen.query.as_bytes()).any(|(key, value)| {
            pairs.iter().any(|(wanted_key, wanted)| {
                wanted_key.as_ref().is_none_or(|wanted| wildcard_in_any_case(wanted, &key))
                    && wildcard_in_any_case(wanted, &value)
            })
        }),
        Condition::Unknown => false,
    }
}

fn in_block(block: &str, client: IpAddr) -> bool {
    let (base, bits) = block.split_once('/').unwrap_or((block, "128"));
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (base, client) {
        (IpAddr::V4(base), IpAddr::V4(client)) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            base.to_bits() & mask == client.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(client)) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            base.to_bits() & mask == client.to_bits() & mask
        }
        _ => false,
    }
}

/// The group for one request. `draw(n)` gives a number below n; no group when all weights are zero.
pub(crate) fn weighted_group(forward: &Forward, draw: impl FnOnce(u64) -> u64) -> Option<&str> {
    let total: u64 = forward.groups.iter().map(|group| u64::from(group.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut left = draw(total).min(total - 1);
    for group in &forward.groups {
        match left.checked_sub(u64::from(group.weight)) {
            Some(rest) => left = rest,
            None => return Some(&group.arn),
        }
    }
    None
}

/// What the `#{…}` of a redirect stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original<'a> {
    pub protocol: &'a str,
    pub host: &'a str,
    pub port: u16,
    pub path: &'a str,
    pub query: &'a str,
}

/// The status and the Location of a redirect action, `None` for other actions.
pub(crate) fn redirect_location(action: &Action, original: &Original<'_>) -> Option<(u16, String)> {
    let Action::Redirect { status, protocol, host, port, path, query } = action else { return None };
    let fill = |text: &str| {
        text.replace("#{protocol}", original.protocol)
            .replace("#{host}", original.host)
            .replace("#{port}", &original.port.to_string())
            .replace("#{path}", original.path.trim_start_matches('/'))
            .replace("#{query}", original.query)
    };
    let (query, scheme) = (fill(query), fill(protocol).to_lowercase());
    let mark = if query.is_empty() { "" } else { "?" };
    Some((*status, format!("{scheme}://{}:{}{}{mark}{query}", fill(host), fill(port), fill(path))))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use crate::core::wildcard::wildcard;

    use super::*;
    use crate::node::config::GroupWeight;
    use crate::node::pattern::{Expression, Pattern};

    fn seen<'a>(host: &'a str, path: &'a str, query: &'a str, headers: &'a HeaderMap) -> Seen<'a> {
        Seen { method: "GET", host, path, query, headers, client: IpAddr::from([127, 0, 0, 1]) }
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("/img/*", "/img/a/b.png", true),
            ("/img/*", "/im", false),
            ("/a?c", "/abc", true),
            ("/a?c", "/ac", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("", "x", false),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn all_conditions_must_hold_and_one_value_each() {
        let mut headers = HeaderMap::new();
        headers.insert("x-canary", HeaderValue::from_static("Yes-1"));
        let request = seen("App.Example.com", "/api/v1", "v=2&flag", &headers);
        let strings = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        let patterns = |values: &[&str]| strings(values).into_iter().map(Pattern::Wildcards).collect::<Vec<_>>();
        let regex = |text: &str| vec![Pattern::Expression(Expression::new(text.to_owned()))];
        let host = Condition::Host(patterns(&["other", "app.*"]));
        for (condition, expected) in [
            (Condition::Path(patterns(&["/api/*"])), true),
            (Condition::Path(patterns(&["/API/*"])), false),
            (Condition::Path(regex("^/api/v[0-9]$")), true),
            (Condition::Path(regex("^/api/v[0-9][0-9]$")), false),
            (Condition::Header("X-Canary".to_owned(), patterns(&["yes-?"])), true),
            (Condition::Header("x-other".to_owned(), patterns(&["*"])), false),
            (Condition::Method(strings(&["POST"])), false),
            (Condition::Query(vec![(Some("v".to_owned()), "2".to_owned())]), true),
            (Condition::Query(vec![(None, "3".to_owned())]), false),
            (Condition::SourceIp(strings(&["127.0.0.0/8"])), true),
            (Condition::SourceIp(strings(&["10.0.0.0/8"])), false),
            (Condition::SourceIp(strings(&["nonsense/99"])), false),
            (Condition::Unknown, false),
        ] {
            let rule = rule(vec![host.clone(), condition.clone()], Vec::new());
            assert_eq!(matching_rule(&[rule], &request).is_some(), expected, "{condition:?}");
        }
    }

    fn rule(conditions: Vec<Condition>, actions: Vec<Action>) -> Rule {
        Rule { priority: Some(1), conditions, actions, transforms: Vec::new() }
    }

    #[test]
    fn whoever_is_not_known_is_turned_away() {
        let headers = |name: hyper::header::HeaderName, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            headers
        };
        let cookie =
            |sign_in: Option<&str>| Action::Cookie { name: "Session".to_owned(), sign_in: sign_in.map(str::to_owned) };
        let away = |action: Action, headers: &HeaderMap| {
            let rule = rule(Vec::new(), vec![action]);
            turned_away(&rule, headers).map(|(status, to)| (status, to.map(str::to_owned)))
        };
        let nothing = HeaderMap::new();
        assert_eq!(away(Action::Token, &nothing), Some((401, None)));
        assert_eq!(away(Action::Token, &headers(AUTHORIZATION, "Bearer a.b.c")), None);
        let sign_in = Some("https://id".to_owned());
        assert_eq!(away(cookie(Some("https://id")), &nothing), Some((302, sign_in)));
        assert_eq!(away(cookie(None), &headers(COOKIE, "a=b")), Some((401, None)));
        assert_eq!(away(cookie(None), &headers(COOKIE, "a=b; Session-0=x")), None);
        assert_eq!(away(Action::Open, &nothing), None);
    }

    #[test]
    fn weights_bound_the_choice() {
        let group = |arn: &str, weight| GroupWeight { arn: arn.to_owned(), weight };
        let forward = Forward { groups: vec![group("a", 0), group("b", 3), group("c", 1)], sticky: None };
        let chosen: Vec<_> = (0..5).map(|draw| weighted_group(&forward, |_| draw)).collect();
        assert_eq!(chosen, [Some("b"), Some("b"), Some("b"), Some("c"), Some("c")]);
        let forward = Forward { groups: vec![group("a", 0)], sticky: None };
        assert_eq!(weighted_group(&forward, |_| 0), None);
    }

    #[test]
    fn redirects_fill_their_blanks() {
        let text = str::to_owned;
        let action = Action::Redirect {
            status: 301,
            protocol: text("HTTPS"),
            host: text("#{host}"),
            port: text("443"),
            path: text("/new/#{path}"),
            query: text("#{query}"),
        };
        let original = Original { protocol: "http", host: "x.org", port: 80, path: "/a", query: "b=1" };
        let expected = (301, "https://x.org:443/new/a?b=1".to_owned());
        assert_eq!(redirect_location(&action, &original), Some(expected));
    }
}
