//! Whether the colors are built alike, by the documents that their environments compute.

use std::fmt::Write as _;

use super::model;
use crate::rollout::spec::Parity;
use crate::stack::{self, Mirror};
use crate::tf_provider::{Diagnostics, Path, Value};

/// More would not be read.
const MOST_DIFFERENCES: usize = 12;

/// Tells what differs between the environments whose mirrors are known. Whether that is an error is the user's choice.
pub(super) fn check(config: &Value, diagnostics: &mut Diagnostics) {
    let policy = model::declared(config, "parity").unwrap_or(Parity::Error);
    let environments = config.get("environments").as_map().into_iter().flatten();
    let mirrors = environments.filter_map(|(color, value)| {
        let neutral = value.get("mirror").as_str()?.to_owned();
        let verbatim = value.get("mirror_verbatim").as_str().unwrap_or_default().to_owned();
        Some((color.as_str(), Mirror { neutral, verbatim }))
    });
    let mirrors: Vec<(&str, Mirror)> = mirrors.collect();
    let Some((first, others)) = mirrors.split_first().filter(|_| policy != Parity::Off) else { return };
    for other in others {
        let differences = stack::differences((first.0, &first.1), (other.0, &other.1));
        if differences.is_empty() {
            continue;
        }
        let mut detail = format!("{} and {} are not built alike:\n", first.0, other.0);
        for difference in differences.iter().take(MOST_DIFFERENCES) {
            let _ = writeln!(detail, "- {difference}");
        }
        if let Some(more) = differences.len().checked_sub(MOST_DIFFERENCES).filter(|more| *more > 0) {
            let _ = writeln!(detail, "- and {more} more");
        }
        let path = Path::attribute("environments");
        let summary = format!("{} and {} differ", first.0, other.0);
        if policy == Parity::Warn {
            diagnostics.warning_at(path, summary, detail);
        } else {
            detail += "\nMake them equal. If they differ on purpose for now, as while a change goes first to the idle color, \
                       parity = \"warn\" on the switch says so and goes on.";
            diagnostics.error_at(path, summary, detail);
        }
    }
}
