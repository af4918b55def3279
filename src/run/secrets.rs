//! What this process was told in confidence, and the text of others without it: output of commands, answers of servers.

use std::collections::BTreeSet;

use crate::rollout::{Check, HttpCheck, Runbook, Step, fill};

/// Shorter values are struck out only where they stand as words of their own: everywhere else they are parts of others.
const SHORT: usize = 4;
/// What stands in the place of a secret.
const STRUCK: &str = "***";
/// Names of variables whose values are secrets.
const TELLING: [&str; 6] = ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "ACCESS_KEY"];
/// More of a text than a person reads is not shown.
const MOST_CHARS: usize = 4000;

/// The secrets that are known, the longest first, so that one that holds another is struck out whole.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

/// In what the provider says itself, values shorter than this are words of its own.
const OWN_WORDS: usize = 6;

impl Secrets {
    /// Everything secret in a runbook's checks and in this process's environment, and these.
    pub fn of(runbook: &Runbook, more: impl IntoIterator<Item = String>) -> Secrets {
        let mut values: BTreeSet<String> = more.into_iter().collect();
        let mut public = BTreeSet::new();
        for (_, step) in runbook.steps() {
            let checks = match step {
                Step::Check(checking) => std::slice::from_ref(checking),
                Step::Watch(watch) => watch.checks.as_slice(),
                _ => &[],
            };
            for checking in checks {
                let subject = &checking.subject;
                let colors = [Some(&subject.color), subject.live_color.as_ref()];
                public.extend(colors.into_iter().flatten().cloned());
                for value in of_check(&checking.check) {
                    values.extend(colors.into_iter().flatten().map(|color| fill(&value, color)));
                    values.insert(value);
                }
            }
        }
        values.extend(std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            // An input variable may be a count or a word as well.
            let plain = name.starts_with("TF_VAR_") && (value.len() < OWN_WORDS || value.parse::<f64>().is_ok());
            (is_telling(&name) && !plain).then_some(value)
        }));
        Secrets::new(values.into_iter().filter(|value| !public.contains(value)))
    }

    /// These secrets; what is empty is none.
    pub fn new(values: impl IntoIterator<Item = String>) -> Secrets {
        let mut values: Vec<String> = values
            .into_iter()
            .flat_map(|value| {
                let trimmed = value.trim().to_owned();
                // As it stands in a text that is quoted.
                let quoted = format!("{trimmed:?}");
                let quoted = quoted.trim_matches('"').to_owned();
                [value, trimmed, quoted]
            })
            .filter(|value| !value.trim().is_empty())
            .collect();
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Secrets(values)
    }

    /// What the provider says itself, in which it may quote others: short secrets may be words of its own there.
    pub fn strike_own(&self, text: &str) -> String {
        let long = self.0.iter().filter(|secret| secret.chars().count() >= OWN_WORDS);
        long.fold(text.to_owned(), |text, secret| text.replace(secret, STRUCK)).chars().map(plain).collect()
    }

    /// A text of somebody else's without what is secret, without what would steer a terminal, and no longer than a person
    /// reads: its end, which tells the most.
    pub fn strike(&self, text: &str) -> String {
        let mut struck = text.to_owned();
        for secret in &self.0 {
            struck =
                if secret.chars().count() < SHORT { words(&struck, secret) } else { struck.replace(secret, STRUCK) };
        }
        let plain: String = struck.chars().map(plain).collect();
        let beyond = plain.chars().count().saturating_sub(MOST_CHARS);
        if beyond == 0 { plain } else { format!("…{}", plain.chars().skip(beyond).collect::<String>()) }
    }
}

/// What would move a cursor or change a color is shown as what it is.
fn plain(c: char) -> char {
    if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }
}

/// Strikes out a short secret where it stands alone.
fn words(text: &str, secret: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, after) = (&rest[..at], &rest[at + secret.len()..]);
        out.push_str(before);
        let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !is_part(out.chars().next_back()) && !is_part(after.chars().next());
        out.push_str(if alone { STRUCK } else { secret });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a variable's name tells that its value is a secret. Terraform's own input variables may be.
pub fn is_telling(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with("TF_VAR_") || upper.starts_with("TF_TOKEN_") || TELLING.iter().any(|part| upper.contains(part))
}

fn of_check(check: &Check) -> Vec<String> {
    match check {
        Check::Http(check) => of_request(check),
        Check::Session(check) => of_request(&check.login).into_iter().chain(of_request(&check.check)).collect(),
        Check::Lambda(check) => check.payload.iter().cloned().collect(),
        Check::Command(check) => {
            let inherited = std::env::vars_os().filter_map(|(name, value)| {
                let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
                // What was asked for by name may be secret, whatever it is called.
                (check.inherit.contains(&name)).then_some(value)
            });
            check.environment.values().cloned().chain(inherited).collect()
        }
        Check::Healthy(_) | Check::Alarms(_) | Check::Metric(_) => Vec::new(),
    }
}

fn of_request(check: &HttpCheck) -> Vec<String> {
    let mut values: Vec<String> = check.headers.values().chain(&check.body).cloned().collect();
    // A server may tell back the part that is the secret, without the scheme before it.
    values.extend(check.headers.values().filter_map(|value| Some(value.split_once(' ')?.1.to_owned())));
    values.extend(check.secrets_in_url());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(secrets: &[&str], text: &str) -> String {
        Secrets::new(secrets.iter().map(|secret| (*secret).to_owned())).strike(text)
    }

    #[test]
    fn p22_the_longest_goes_first_and_short_ones_go_where_they_stand_alone() {
        assert_eq!(strike(&["secret", "secret-and-more"], "a secret-and-more b secret"), "a *** b ***");
        assert_eq!(strike(&["pw"], "pw=pw, spwn, (pw)"), "***=***, spwn, (***)");
        assert_eq!(strike(&["", "  "], "as it is"), "as it is");
        assert_eq!(strike(&["line\n"], "a line"), "a ***");
    }

    #[test]
    fn p22_what_steers_a_terminal_is_shown_and_the_end_is_kept() {
        assert_eq!(strike(&[], "a\u{1b}[31mb\r\nc"), "a\u{fffd}[31mb\u{fffd}\nc");
        let long = strike(&[], &format!("{}end", "x".repeat(10_000)));
        assert!(long.ends_with("end") && long.chars().count() == MOST_CHARS + 1);
    }

    #[test]
    fn p22_names_tell_secrets() {
        for name in ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "TF_VAR_anything", "GITHUB_TOKEN", "db_password"] {
            assert!(is_telling(name), "{name}");
        }
        assert!(!is_telling("PATH") && !is_telling("AWS_REGION"));
    }
}
