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

/// A level of significance.
pub(super) fn level(number: f64) -> Result<(), String> {
    if number > 0.0 && number < 0.5 {
        Ok(())
    } else {
        Err("must be a level between 0 and 0.5, such as 0.01".to_owned())
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
    fn wildcards_are_counted_unless_they_are_escaped() {
        assert_eq!(["/a*/b?", r"/a\*/b", r"/a\\*", "/a"].map(wildcards), [2, 0, 1, 0]);
    }
}
