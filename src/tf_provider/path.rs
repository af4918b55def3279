//! Paths to a place inside a value, as diagnostics and replacements name them.

use std::fmt;

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An attribute of an object.
    Attribute(String),
    /// An element of a map.
    Key(String),
    /// An element of a list, counted from zero.
    Index(i64),
}

/// A path from the root of a resource's configuration. Empty means the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

impl Path {
    /// The path to the whole value.
    pub fn root() -> Path {
        Path::default()
    }

    /// The path to a top-level attribute.
    pub fn attribute(name: &str) -> Path {
        Path::root().attr(name)
    }

    /// This path, one attribute further.
    #[must_use]
    pub fn attr(&self, name: &str) -> Path {
        self.with(Step::Attribute(name.to_owned()))
    }

    /// This path, one map element further.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        self.with(Step::Key(key.to_owned()))
    }

    /// This path, one list element further.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        self.with(Step::Index(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The name of the last attribute on the way.
    pub fn last_attribute(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| if let Step::Attribute(name) = step { Some(name.as_str()) } else { None })
    }

    /// The part of the path that Terraform finds in the user's file. It points at an attribute, or at an element of
    /// one; told of anything deeper inside nested attributes, it points at the resource as a whole.
    #[must_use]
    pub(super) fn shown(&self) -> Path {
        let depth = match self.0.get(1) {
            Some(Step::Key(_) | Step::Index(_)) => 2,
            _ => 1,
        };
        Path(self.0.iter().take(depth).cloned().collect())
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if n == 0 => f.write_str(name)?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
