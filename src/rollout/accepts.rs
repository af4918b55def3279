//! What texts and numbers the arguments of checks accept, where neither words nor a range can say it.

use std::time::Duration;

use crate::argument::Field as _;

/// An HTTP method.
pub(super) fn method(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(format!("{text:?} is no HTTP method: write it in capitals, such as \"GET\""))
}

pub(super) fn host_and_port(text: &str) -> Result<(), String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(()),
        _ => Err(format!("{text:?} is not host:port, such as \"web-123.eu-central-1.elb.amazonaws.com:443\"")),
    }
}

/// A program and its arguments; none where one isn't known yet.
pub(super) fn argv(items: &[Option<&str>]) -> Result<(), String> {
    match items {
        [] => Err("the program is missing".to_owned()),
        [Some(""), ..] => Err("the program has no name".to_owned()),
        [Some(only)] if only.contains(' ') => Err(format!(
            "{only:?} is one program's name: there is no shell to take it apart; write each argument as an element"
        )),
        _ => Ok(()),
    }
}

/// The name of an environment variable, or how several begin.
pub(super) fn variable(name: &str) -> Result<(), String> {
    let body = name.strip_suffix('*').unwrap_or(name);
    if name.is_empty() || body.contains(['=', '*', '\0']) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    Ok(())
}

/// A few words in one line.
pub(super) fn line(text: &str) -> Result<(), String> {
    if !text.trim().is_empty() && text.chars().count() <= 100 && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err("must be one line of 1 to 100 characters".to_owned())
}

/// A level of significance.
pub(super) fn level(number: f64) -> Result<(), String> {
    if number > 0.0 && number < 0.5 {
        Ok(())
    } else {
        Err("must be a level between 0 and 0.5, such as 0.01".to_owned())
    }
}

/// A percentage of requests: not of none, and not of all.
pub(super) fn percent_of_requests(number: f64) -> Result<(), String> {
    if number > 0.0 && number <= 50.0 {
        Ok(())
    } else {
        Err("must be a percentage above 0 and up to 50, such as 0.1".to_owned())
    }
}

/// CloudWatch's periods.
pub(super) fn period(text: &str) -> Result<(), String> {
    let Some(length) = Duration::read(&text.into()) else { return Ok(()) };
    let seconds = length.as_secs();
    if length.subsec_millis() == 0 && (matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds % 60 == 0)) {
        return Ok(());
    }
    Err("must be 1s, 5s, 10s, 20s, 30s or whole minutes, which is what CloudWatch knows".to_owned())
}

/// AWS's limit for each value of a condition.
const CONDITION_VALUE: usize = 128;

/// A value of a rule's condition, or a regular expression in AWS's syntax.
///
/// # Errors
/// That it is empty or too long.
pub fn condition_value(text: &str) -> Result<(), String> {
    match text.chars().count() {
        0 => Err("a value of a condition can't be empty".to_owned()),
        1..=CONDITION_VALUE => Ok(()),
        many => {
            Err(format!("{text:?} has {many} characters, and AWS allows {CONDITION_VALUE} in a value of a condition"))
        }
    }
}

/// How many wildcards a value of a condition has: `\\*` is a star.
pub fn wildcards(text: &str) -> usize {
    let mut escaped = false;
    let count = |c: char| {
        let counts = matches!(c, '*' | '?') && !escaped;
        escaped = c == '\\' && !escaped;
        counts
    };
    text.chars().map(count).filter(|counts| *counts).count()
}

/// A host name with wildcards.
pub(super) fn host_pattern(text: &str) -> Result<(), String> {
    condition_value(text)?;
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "-._*?".contains(c)) {
        return Ok(());
    }
    Err(format!("{text:?} is no host name: no scheme, no port and no path belong to it, such as \"app.example.com\""))
}

/// A path with wildcards.
pub(super) fn path_pattern(text: &str) -> Result<(), String> {
    condition_value(text)?;
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(format!("{text:?} is no path: it holds a character that no path has"));
    }
    if text.starts_with(['/', '*', '?']) {
        return Ok(());
    }
    Err(format!("{text:?} matches no request: every path begins with a slash"))
}

/// A method in a condition, which is compared to the letter.
pub(super) fn condition_method(text: &str) -> Result<(), String> {
    let fits = (1..=40).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_');
    if fits {
        return Ok(());
    }
    Err(format!("{text:?} is no HTTP method: 1 to 40 capitals, - and _, such as \"GET\", and no wildcards"))
}

/// A regular expression in a condition.
pub(super) fn condition_regex(text: &str) -> Result<(), String> {
    condition_value(text)?;
    regex(text)
}

/// AWS's limit for a regular expression of a transform, and for what stands in its place.
const REWRITE: usize = 1024;

/// A regular expression of a transform.
pub(super) fn rewritten(text: &str) -> Result<(), String> {
    some_at_most("a regular expression", text, REWRITE)?;
    regex(text)
}

/// What stands in place of what a transform found.
pub(super) fn replacement(text: &str) -> Result<(), String> {
    at_most(text, REWRITE)
}

fn some_at_most(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.is_empty() { Err(format!("{what} can't be empty")) } else { at_most(text, most) }
}

fn at_most(text: &str, most: usize) -> Result<(), String> {
    let many = text.chars().count();
    if many <= most { Ok(()) } else { Err(format!("{text:?} has {many} characters, and AWS allows {most}")) }
}

/// What no regular expression of a listener rule may have (user guide of Application Load Balancers, "Rule basics"): whatever else AWS
/// takes or refuses is its own.
fn regex(text: &str) -> Result<(), String> {
    let rest: Vec<char> = text.chars().collect();
    // What stands before: whether something that can be quantified is open, and where a class or a count began.
    let (mut at, mut class, mut count, mut quantified) = (0, None, None, false);
    while let Some(&c) = rest.get(at) {
        let begins = |what: &str| what.chars().enumerate().all(|(n, c)| rest.get(at + n) == Some(&c));
        let next = rest.get(at + 1).copied().unwrap_or_default();
        let unicode = c == '\\' && "pP".contains(next);
        let found = match (c, class) {
            _ if unicode => Some("a Unicode character class"),
            (_, Some(_)) => None,
            ('\\', _) if "123456789kg".contains(next) => Some("a backreference"),
            ('(', _) if begins("(?=") || begins("(?!") => Some("a lookahead"),
            ('(', _) if begins("(?<=") || begins("(?<!") => Some("a lookbehind"),
            ('(', _) if begins("(?>") => Some("an atomic group"),
            ('(', _) if ["(?R", "(?&", "(?P>", "(?+"].iter().any(|way| begins(way)) => {
                Some("recursion or a subroutine")
            }
            ('(', _) if begins("(?") && rest.get(at + 2).is_some_and(char::is_ascii_digit) => {
                Some("recursion or a subroutine")
            }
            ('+', _) if quantified => Some("a possessive quantifier"),
            _ => None,
        };
        if let Some(found) = found {
            return Err(format!("{text:?} has {found}, which AWS doesn't take in the regular expressions of a rule"));
        }
        let is_group = at > 0 && rest[at - 1] == '(' && c == '?';
        let is_count =
            c == '}' && count.is_some_and(|from| rest[from..at].iter().all(|c| c.is_ascii_digit() || *c == ','));
        quantified = class.is_none() && !quantified && ("*+?".contains(c) || is_count) && !is_group;
        let mut taken = if c == '\\' { 2 } else { 1 };
        match (c, class) {
            ('{', None) => count = Some(at + 1),
            ('}', None) => count = None,
            // A bracket right after the beginning is one of the class.
            ('[', None) => {
                let first = at + if next == '^' { 2 } else { 1 };
                taken = first - at + usize::from(rest.get(first) == Some(&']'));
                class = Some(at);
            }
            ('[', Some(_)) if next == ':' => {
                let end = (at..rest.len()).find(|n| rest[*n] == ':' && *n > at + 1 && rest.get(n + 1) == Some(&']'));
                taken = end.map_or(1, |end| end + 2 - at);
            }
            (']', Some(_)) => class = None,
            _ => {}
        }
        at += taken;
    }
    Ok(())
}

/// A time of whole seconds.
pub(super) fn whole_seconds(text: &str) -> Result<(), String> {
    // What is shorter than a second is told by the range.
    let fits = Duration::read(&text.into()).is_none_or(|time| time.as_secs() == 0 || time.subsec_millis() == 0);
    if fits { Ok(()) } else { Err(format!("{text:?} must be whole seconds")) }
}

/// The full URL of an endpoint of an identity provider.
pub(super) fn https(text: &str) -> Result<(), String> {
    let host = text.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if !host.is_empty() && !text.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(format!("{text:?} must be a full URL that begins with https://"))
}

/// AWS's limit for what it is told about tokens.
const OF_TOKEN: usize = 256;

/// The URL of the keys that tokens are signed with.
pub(super) fn jwks(text: &str) -> Result<(), String> {
    https(text)?;
    at_most(text, OF_TOKEN)
}

/// The issuer of tokens.
pub(super) fn issuer(text: &str) -> Result<(), String> {
    some_at_most("the issuer", text, OF_TOKEN)
}

/// The name of a claim.
pub(super) fn claim(text: &str) -> Result<(), String> {
    if ["exp", "iss", "nbf", "iat"].contains(&text) {
        return Err(format!("{text} is validated anyway, and AWS takes no further rule for it"));
    }
    some_at_most("the name of a claim", text, OF_TOKEN)
}

/// A value of a claim.
pub(super) fn claim_value(text: &str) -> Result<(), String> {
    some_at_most("the value of a claim", text, OF_TOKEN)
}

/// The ARN of a Cognito user pool.
pub(super) fn user_pool(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let is_pool = |resource: &str| resource.strip_prefix("userpool/").is_some_and(|id| !id.is_empty());
    if matches!(parts.as_slice(), ["arn", _, "cognito-idp", _, _, resource] if is_pool(resource)) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no ARN of a user pool, such as \"arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_abc\""
    ))
}

/// The name of a header in a condition.
///
/// # Errors
/// Why AWS would not take it.
pub fn condition_header(text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("host") {
        return Err("the header Host has a condition of its own: host_headers".to_owned());
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=40).contains(&text.len()) && text.bytes().all(is_token) {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no name of a header that AWS takes: 1 to 40 letters, digits and marks such as -, without spaces"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_takes_no_regular_expression_that_looks_around_or_back() {
        for good in [
            "^/v[0-9]+/(.*)$",
            r"a\+\+",
            "[*+]+x",
            "(?i)mobile",
            "(?:a|b)?c",
            "a{2,3}",
            "(?<name>x)",
            "a+?b*?",
            r"[\]+]",
            "a}+",
            "[[:alpha:]*+]",
            "[]*+]",
            "[^]*+]",
            "[[]+",
            r"\{2}+",
        ] {
            assert_eq!(regex(good), Ok(()), "{good}");
        }
        for (bad, what) in [
            ("a(?=b)", "lookahead"),
            ("a(?!b)", "lookahead"),
            ("(?<=a)b", "lookbehind"),
            ("(?<!a)b", "lookbehind"),
            (r"(a)\1", "backreference"),
            (r"(?<n>a)\k<n>", "backreference"),
            ("(?>a)b", "atomic"),
            ("a++b", "possessive"),
            ("a{2}+", "possessive"),
            ("(a(?R)?b)", "recursion"),
            ("(a)(?1)", "subroutine"),
            (r"\p{L}+", "Unicode"),
            (r"[\p{L}]", "Unicode"),
        ] {
            assert!(regex(bad).unwrap_err().contains(what), "{bad}");
        }
    }

    #[test]
    fn a_full_url_has_a_host() {
        assert!(https("https://id.example.com/o/token").is_ok() && https("https://id.example.com").is_ok());
        for bad in ["http://id.example.com/x", "https://", "https:///x", "id.example.com", "https://a b/"] {
            assert!(https(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcards_are_counted_unless_they_are_escaped() {
        assert_eq!(["/a*/b?", r"/a\*/b", r"/a\\*", "/a"].map(wildcards), [2, 0, 1, 0]);
    }
}
