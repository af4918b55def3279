//! Commands of the AWS CLI that a person pastes into a shell.

/// A command with its region: a shell that stands in another one would say that nothing is there.
pub(super) fn command(words: &str, region: Option<&str>) -> String {
    let region = region.map(|region| format!(" --region {region}")).unwrap_or_default();
    format!("aws {words}{region}")
}

/// A value as one word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        assert_eq!(quoted("/app/live"), "/app/live");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(command("ssm get-parameter", Some("eu-central-1")), "aws ssm get-parameter --region eu-central-1");
    }
}
