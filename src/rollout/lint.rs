//! What every runbook must keep, whatever made it.

use super::runbook::{Runbook, Step};
use super::world::Terminal;

/// Names every rule that the runbook breaks; nothing, unless the planner has a bug.
pub fn lint(runbook: &Runbook) -> Vec<String> {
    let mut broken = Vec::new();
    let mut recorded = false;
    for (_, step) in runbook.steps() {
        if let Step::Route { route, after: Terminal::Forward(forward), .. } = step {
            let total: u32 = forward.groups.iter().map(|(_, weight)| weight).sum();
            if total == 0 {
                broken.push(format!("{route} would have no weight at all"));
            }
            if forward.groups.len() > 5 {
                broken.push(format!("{route} would forward to {} groups, five are allowed", forward.groups.len()));
            }
        }
        if let Step::Watch(watch) = step
            && !runbook.steps().any(|(_, step)| matches!(step, Step::Route { .. }))
        {
            broken.push(format!("{} would be watched, and no route led there", watch.subject.color));
        }
        if step.is_check() && recorded {
            broken.push("a check comes after the record".to_owned());
        }
        recorded |= matches!(step, Step::Record { .. });
    }
    broken
}
