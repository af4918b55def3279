//! Whether the colours are built alike, by the documents that their environments compute.

use std::fmt::Write as _;

use crate::stack;
use crate::tf_provider::{Diagnostics, Path, Value};

/// More would not be read.
const MOST_DIFFERENCES: usize = 12;

/// Tells what differs between the environments whose mirrors are known. Whether that is an error is the user's choice.
pub(super) fn check(config: &Value, diagnostics: &mut Diagnostics) {
    let policy = config.get("parity").as_str().unwrap_or("error");
    let environments = config.get("environments").as_map().into_iter().flatten();
    let mut mirrors = environments.filter_map(|(color, value)| Some((color.as_str(), value.get("mirror").as_str()?)));
    let Some(first) = mirrors.next().filter(|_| policy != "off") else { return };
    for other in mirrors {
        let differences = stack::differences(first, other);
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
        if policy == "warn" {
            diagnostics.warning_at(path, summary, detail);
        } else {
            detail += "\nMake them equal. If they differ on purpose for now, as while a change goes first to the idle colour, \
                       parity = \"warn\" on the switch says so and goes on.";
            diagnostics.error_at(path, summary, detail);
        }
    }
}
