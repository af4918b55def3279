//! What a condition or a transform matches with: wildcards, or a regular expression.

use regex::Regex;

use crate::core::wildcard::{wildcard, wildcard_in_any_case};

/// What a text is held against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// With `*` and `?`.
    Wildcards(String),
    Expression(Expression),
}

impl Pattern {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Wildcards(pattern) => wildcard(pattern, text),
            Self::Expression(expression) => expression.regex.as_ref().is_some_and(|regex| regex.is_match(text)),
        }
    }

    /// Host names and the values of headers and queries have no case, where no expression says otherwise.
    pub(crate) fn matches_in_any_case(&self, text: &str) -> bool {
        match self {
            Self::Wildcards(pattern) => wildcard_in_any_case(pattern, text),
            Self::Expression(_) => self.matches(text),
        }
    }
}

/// A regular expression; one that this program can't read matches nothing.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    text: String,
    regex: Option<Regex>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    pub(crate) fn new(text: String) -> Self {
        let regex = Regex::new(&text).ok();
        Self { text, regex }
    }

    /// The text with what matches replaced, where something does; `$1` is the first group.
    pub(crate) fn replaced(&self, text: &str, with: &str) -> Option<String> {
        let regex = self.regex.as_ref().filter(|regex| regex.is_match(text))?;
        // `$1a` is the first group and an a, and no group of that name.
        let mut template = String::new();
        let mut rest = with;
        while let Some((plain, after)) = rest.split_once('$') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (group, after) = after.split_at(digits);
            template.push_str(plain);
            template.push_str(&if digits > 0 { format!("${{{group}}}") } else { "$$".to_owned() });
            rest = after;
        }
        template.push_str(rest);
        Some(regex.replace(text, template).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matches_is_replaced_with_its_groups() {
        let api = Expression::new("^/api/(.*)$".to_owned());
        assert_eq!(api.replaced("/api/a?b=1", "/$1"), Some("/a?b=1".to_owned()));
        assert_eq!(api.replaced("/api/a", "/x$1y$z"), Some("/xay$z".to_owned()));
        assert_eq!(api.replaced("/other", "/$1"), None);
        assert_eq!(Expression::new("(".to_owned()).replaced("(", "x"), None);
    }

    #[test]
    fn an_expression_keeps_its_case() {
        let [plain, expression] =
            [Pattern::Wildcards("App.*".to_owned()), Pattern::Expression(Expression::new("^App[.]".to_owned()))];
        assert!(plain.matches_in_any_case("app.x") && !plain.matches("app.x"));
        assert!(!expression.matches_in_any_case("app.x") && expression.matches_in_any_case("App.x"));
    }
}
