//! Commands of the AWS CLI that a person pastes into a shell.

use crate::arn;

/// What a command has to name so that it reaches the same account and region, wherever it is pasted: a shell that stands in another
/// one would say that nothing is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shell {
    /// The region, such as `eu-central-1`, where it is known.
    pub region: Option<String>,
    /// The profile that the provider block or `AWS_PROFILE` names.
    pub profile: Option<String>,
    /// The role that the provider block assumes, which no option of a command names.
    pub role: Option<String>,
}

impl Shell {
    /// The region of this ARN.
    pub fn of(arn: &str) -> Shell {
        Shell { region: arn::region(arn).map(str::to_owned), ..Shell::default() }
    }

    /// With which credentials its commands are meant, where that has to be said before them: ` (with the credentials of the role …)`.
    pub fn whose(&self) -> String {
        self.role.as_ref().map(|role| format!(" (with the credentials of the role {role})")).unwrap_or_default()
    }

    /// The whole command; the words are what comes between `aws` and its general options.
    pub fn command(&self, words: &str) -> String {
        let option = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(" --{name} {}", quoted(value))).unwrap_or_default()
        };
        format!("aws {words}{}{}", option("region", &self.region), option("profile", &self.profile))
    }

    /// The command that deletes a parameter.
    pub fn delete_parameter(&self, name: &str) -> String {
        self.command(&format!("ssm delete-parameter --name {name}"))
    }
}

/// A value as one word of a POSIX shell.
pub fn quoted(text: &str) -> String {
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
    }

    #[test]
    fn a_command_names_where_it_is_meant() {
        let here = Shell::of("arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2");
        assert_eq!(here.command("ssm get-parameter"), "aws ssm get-parameter --region eu-central-1");
        let corp = Shell { profile: Some("my corp".to_owned()), ..here };
        assert_eq!(
            corp.command("sts get-caller-identity"),
            "aws sts get-caller-identity --region eu-central-1 --profile 'my corp'"
        );
        let assumed = Shell { role: Some("arn:aws:iam::123456789012:role/deploy".to_owned()), ..Shell::default() };
        assert_eq!(assumed.whose(), " (with the credentials of the role arn:aws:iam::123456789012:role/deploy)");
        assert_eq!(Shell::default().whose(), "");
        assert_eq!(Shell::default().command("sts get-caller-identity"), "aws sts get-caller-identity");
    }
}
