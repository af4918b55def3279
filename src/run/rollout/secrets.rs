//! What the checks of a runbook are told in confidence, remembered before the first of them runs.

use crate::rollout::{Check, HttpCheck, Runbook, Step, fill};
use crate::secrets::{self, Reach};
use crate::variables;

/// Remembers everything secret in a runbook's checks, as it will be sent.
pub fn learn(runbook: &Runbook) {
    for (_, step) in runbook.steps() {
        let checks = match step {
            Step::Check(checking) => std::slice::from_ref(checking),
            Step::Watch(watch) => watch.checks.as_slice(),
            _ => &[],
        };
        for checking in checks {
            let subject = &checking.subject;
            let colors: Vec<&String> =
                [Some(&subject.color), subject.live_color.as_ref()].into_iter().flatten().collect();
            secrets::publish(&colors);
            for value in of_check(&checking.check) {
                secrets::learn(colors.iter().map(|color| fill(&value, color)), Reach::Everywhere);
                secrets::learn([value], Reach::Everywhere);
            }
        }
    }
}

fn of_check(check: &Check) -> Vec<String> {
    match check {
        Check::Http(check) => of_request(check),
        Check::Session(check) => of_request(&check.login).into_iter().chain(of_request(&check.check)).collect(),
        Check::Lambda(check) => check.payload.iter().cloned().collect(),
        Check::Command(check) => {
            // What was asked for by name may be secret, whatever it is called.
            let inherited = variables::all().into_iter();
            let inherited = inherited.filter(|(name, _)| variables::is_asked_for(name, &check.inherit_environment));
            let inherited = inherited.map(|(_, value)| value);
            check.environment.values().cloned().chain(inherited).collect()
        }
        Check::Healthy(_) | Check::Alarms(_) | Check::Metric(_) | Check::Budget(_) => Vec::new(),
    }
}

fn of_request(check: &HttpCheck) -> Vec<String> {
    let headers = check.headers.iter().filter(|(name, _)| !secrets::is_usual_header(name)).map(|(_, value)| value);
    headers.chain(&check.body).chain([&check.url]).cloned().collect()
}
