//! Patterns with `*` and `?`, as AWS has them.

/// `*` is any number of characters, `?` exactly one.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to resume when the text after the last star turns out not to match: linear memory, no recursion.
    let mut resume: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                resume = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match resume {
                Some((after_star, from)) => {
                    p = after_star;
                    t = from + 1;
                    resume = Some((after_star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The same where upper and lower case mean nothing.
pub(crate) fn wildcard_in_any_case(pattern: &str, text: &str) -> bool {
    wildcard(&pattern.to_lowercase(), &text.to_lowercase())
}
