//! Paths as people write them.

/// A path in which `~` stands for the user's own folder, as shells read it.
pub fn expand(path: &str) -> String {
    match (path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}{rest}"),
        _ => path.to_owned(),
    }
}
