//! What the provider tells people: errors and warnings, each at the attribute that it is about.

use super::path::Path;

/// Whether a diagnostic stops the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The operation failed.
    Error,
    /// The operation goes on.
    Warning,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// One line: what is wrong.
    pub summary: String,
    /// As many lines as needed: what was seen, what it means, what to do.
    pub detail: String,
    /// The attribute that it is about, if it is about one.
    pub path: Option<Path>,
}

/// The messages of one operation, in the order in which they came up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// No message yet.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds an error about the whole.
    pub fn error(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.push(Severity::Error, summary.into(), detail.into(), None);
    }

    /// Adds an error about an attribute.
    pub fn error_at(&mut self, path: Path, summary: impl Into<String>, detail: impl Into<String>) {
        self.push(Severity::Error, summary.into(), detail.into(), Some(path));
    }

    /// Adds a warning about the whole.
    pub fn warning(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.push(Severity::Warning, summary.into(), detail.into(), None);
    }

    /// Adds a warning about an attribute.
    pub fn warning_at(&mut self, path: Path, summary: impl Into<String>, detail: impl Into<String>) {
        self.push(Severity::Warning, summary.into(), detail.into(), Some(path));
    }

    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The messages in order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// Takes over another operation's messages.
    pub fn extend(&mut self, other: Diagnostics) {
        self.0.extend(other.0);
    }

    fn push(&mut self, severity: Severity, summary: String, detail: String, path: Option<Path>) {
        let diagnostic = Diagnostic { severity, summary, detail, path };
        // The same rule can be met on two ways through a schema; a person wants to read it once.
        if !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }
}
