//! Health of one target: the state machine that AWS documents, and its words for each state.

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// Answered with a status that the matcher refuses.
    Mismatch(u16),
    TimedOut,
    /// No connection, or no proper answer.
    Failed,
}

/// The state of a registered target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Registered; the first check has not started.
    Registering,
    /// Checked, but neither passed once nor failed often enough.
    Checking,
    Healthy,
    Unhealthy(Outcome),
}

/// The state machine: fed with outcomes, it tells the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub state: State,
    passes: u32,
    failures: u32,
}

impl Machine {
    pub(crate) const fn new() -> Self {
        Self { state: State::Registering, passes: 0, failures: 0 }
    }

    pub(crate) fn started(&mut self) {
        if self.state == State::Registering {
            self.state = State::Checking;
        }
    }

    pub(crate) fn feed(&mut self, outcome: Outcome, healthy_threshold: u32, unhealthy_threshold: u32) {
        if outcome == Outcome::Passed {
            self.passes = self.passes.saturating_add(1);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.passes = 0;
        }
        self.state = match self.state {
            // AWS: a new target needs one pass only, whatever the threshold.
            State::Registering | State::Checking if outcome == Outcome::Passed => State::Healthy,
            State::Unhealthy(_) if self.passes >= healthy_threshold => State::Healthy,
            // While it stays unhealthy, the latest failure is the reason.
            State::Unhealthy(_) if outcome != Outcome::Passed => State::Unhealthy(outcome),
            State::Registering | State::Checking | State::Healthy if self.failures >= unhealthy_threshold.max(1) => {
                State::Unhealthy(outcome)
            }
            State::Registering => State::Checking,
            unchanged => unchanged,
        };
    }
}

/// A state in the words of `DescribeTargetHealth`: state, reason, description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wording {
    pub state: &'static str,
    pub reason: &'static str,
    pub description: String,
}

impl Wording {
    fn new(state: &'static str, reason: &'static str, description: &str) -> Self {
        Self { state, reason, description: description.to_owned() }
    }

    pub(crate) fn not_in_use() -> Self {
        let text = "Target group is not configured to receive traffic from the load balancer";
        Self::new("unused", "Target.NotInUse", text)
    }

    pub(crate) fn not_registered() -> Self {
        Self::new("unused", "Target.NotRegistered", "Target is not registered to the target group")
    }

    pub(crate) fn checks_disabled() -> Self {
        Self::new("unavailable", "Target.HealthCheckDisabled", "Health checks are disabled for this target group")
    }
}

impl From<State> for Wording {
    fn from(state: State) -> Self {
        match state {
            State::Registering => {
                Self::new("initial", "Elb.RegistrationInProgress", "Target registration is in progress")
            }
            State::Checking => Self::new("initial", "Elb.InitialHealthChecking", "Initial health checks in progress"),
            State::Healthy => Self::new("healthy", "", ""),
            State::Unhealthy(Outcome::Mismatch(code)) => Self {
                state: "unhealthy",
                reason: "Target.ResponseCodeMismatch",
                description: format!("Health checks failed with these codes: [{code}]"),
            },
            State::Unhealthy(Outcome::TimedOut) => Self::new("unhealthy", "Target.Timeout", "Request timed out"),
            State::Unhealthy(Outcome::Failed | Outcome::Passed) => {
                Self::new("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcomes: &[Outcome]) -> State {
        let mut machine = Machine::new();
        machine.started();
        for &outcome in outcomes {
            machine.feed(outcome, 3, 2);
        }
        machine.state
    }

    #[test]
    fn one_pass_makes_a_new_target_healthy() {
        assert_eq!(run(&[]), State::Checking);
        assert_eq!(run(&[Outcome::Passed]), State::Healthy);
        assert_eq!(run(&[Outcome::Failed, Outcome::Passed]), State::Healthy);
    }

    #[test]
    fn failures_count_to_their_threshold_in_a_row() {
        let failed = Outcome::Mismatch(500);
        assert_eq!(run(&[failed]), State::Checking);
        assert_eq!(run(&[failed, failed]), State::Unhealthy(failed));
        assert_eq!(run(&[Outcome::Passed, failed]), State::Healthy);
        assert_eq!(run(&[Outcome::Passed, failed, Outcome::Passed, failed]), State::Healthy);
        assert_eq!(run(&[Outcome::Passed, failed, Outcome::TimedOut]), State::Unhealthy(Outcome::TimedOut));
    }

    #[test]
    fn an_unhealthy_target_needs_all_its_passes() {
        let start = [Outcome::Failed, Outcome::Failed];
        let with = |more: &[Outcome]| run(&[&start[..], more].concat());
        assert_eq!(with(&[Outcome::Passed, Outcome::Passed]), State::Unhealthy(Outcome::Failed));
        assert_eq!(with(&[Outcome::Passed, Outcome::Passed, Outcome::Passed]), State::Healthy);
        let relapse = [Outcome::Passed, Outcome::Passed, Outcome::TimedOut, Outcome::Passed];
        assert_eq!(with(&relapse), State::Unhealthy(Outcome::TimedOut));
    }

    #[test]
    fn the_wording_is_that_of_aws() {
        let wording = Wording::from(State::Unhealthy(Outcome::Mismatch(500)));
        assert_eq!(wording.reason, "Target.ResponseCodeMismatch");
        assert_eq!(wording.description, "Health checks failed with these codes: [500]");
    }
}
