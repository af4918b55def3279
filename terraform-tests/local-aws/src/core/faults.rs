//! Faults to inject into AWS calls: which calls they match, when they fire, and what then happens.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::aws_call::AwsCall;
use crate::core::wildcard::wildcard;

/// A fault, as asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// The service as signed (`elasticloadbalancing`, `ssm`), or `elbv2`; `None` is any.
    #[serde(default)]
    pub service: Option<String>,
    /// The operation, with `*` and `?`; `None` is any.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only calls that change something, or only those that do not; `None` is both.
    #[serde(default)]
    pub mutating: Option<bool>,
    /// Only calls whose parameters have this text somewhere, as JSON; `None` is any.
    #[serde(default)]
    pub about: Option<String>,
    /// That many matching calls pass first.
    #[serde(default)]
    pub skip: u64,
    /// How often it fires; `None` is for ever.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// What happens then.
    pub action: FaultAction,
}

#[expect(clippy::unnecessary_wraps, reason = "the default of a field whose None means for ever")]
fn once() -> Option<u64> {
    Some(1)
}

/// Before the call has its effect at moto, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// The call never reaches moto.
    Before,
    /// The call has its effect, and its answer is lost.
    After,
}

/// A signal for the caller's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// SIGKILL.
    #[default]
    Kill,
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
}

/// What a fault does to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawAction", into = "RawAction")]
pub enum FaultAction {
    /// The call has its effect at once, the answer comes so much later.
    Delay(Duration),
    /// The call waits so long, then has its effect.
    Hang(Duration),
    /// "Rate exceeded", without effect.
    Throttle,
    /// The service's internal error with this status, without effect.
    Status(u16),
    /// An error of the service, without effect.
    Error {
        /// The HTTP status.
        status: u16,
        /// The error code.
        code: String,
        /// The message.
        message: String,
    },
    /// The TCP connection is reset without an answer.
    Reset(When),
    /// The call has its effect, and its answer breaks off in the middle.
    Truncate,
    /// The process that made the call, if it is a provider, gets a signal; the call gets no answer.
    Kill(When, Signal),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAction {
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hang_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RawError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kill: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<Signal>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawError {
    status: u16,
    code: String,
    #[serde(default)]
    message: String,
}

impl TryFrom<RawAction> for FaultAction {
    type Error = String;

    fn try_from(raw: RawAction) -> Result<Self, String> {
        let signal = raw.signal.unwrap_or_default();
        let given = [
            raw.delay_ms.map(|ms| Self::Delay(Duration::from_millis(ms))),
            raw.hang_ms.map(|ms| Self::Hang(Duration::from_millis(ms))),
            raw.throttle.filter(|&on| on).map(|_| Self::Throttle),
            raw.status.map(Self::Status),
            raw.error.map(|error| Self::Error { status: error.status, code: error.code, message: error.message }),
            raw.reset.map(Self::Reset),
            raw.truncate.filter(|&on| on).map(|_| Self::Truncate),
            raw.kill.map(|when| Self::Kill(when, signal)),
        ];
        let mut given = given.into_iter().flatten();
        let action = match (given.next(), given.next()) {
            (Some(action), None) => action,
            _ => {
                return Err("an action is exactly one of delay_ms, hang_ms, throttle, status, error, reset, \
                             truncate, kill"
                    .to_owned());
            }
        };
        let status = match &action {
            Self::Status(status) | Self::Error { status, .. } => *status,
            _ => 400,
        };
        if !(400..600).contains(&status) {
            return Err(format!("the status {status} is no error"));
        }
        if raw.signal.is_some() && !matches!(action, Self::Kill(..)) {
            return Err("signal belongs to kill".to_owned());
        }
        Ok(action)
    }
}

impl From<FaultAction> for RawAction {
    fn from(action: FaultAction) -> Self {
        let ms = |duration: Duration| Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        let raw = Self::default();
        match action {
            FaultAction::Delay(duration) => Self { delay_ms: ms(duration), ..raw },
            FaultAction::Hang(duration) => Self { hang_ms: ms(duration), ..raw },
            FaultAction::Throttle => Self { throttle: Some(true), ..raw },
            FaultAction::Status(status) => Self { status: Some(status), ..raw },
            FaultAction::Error { status, code, message } => {
                Self { error: Some(RawError { status, code, message }), ..raw }
            }
            FaultAction::Reset(when) => Self { reset: Some(when), ..raw },
            FaultAction::Truncate => Self { truncate: Some(true), ..raw },
            FaultAction::Kill(when, signal) => Self { kill: Some(when), signal: Some(signal), ..raw },
        }
    }
}

/// A fault and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultStatus {
    /// Its number.
    pub id: u64,
    /// How many calls it matched, those it let pass too.
    pub seen: u64,
    /// How often it fired.
    pub fired: u64,
    /// What was asked for.
    pub spec: FaultSpec,
}

/// All faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The last number given, and the faults in the order they were asked for.
    state: Mutex<(u64, Vec<FaultStatus>)>,
}

impl Faults {
    pub(crate) fn add(&self, spec: FaultSpec) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        let id = state.0;
        state.1.push(FaultStatus { id, seen: 0, fired: 0, spec });
        id
    }

    pub(crate) fn list(&self) -> Vec<FaultStatus> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(crate) fn clear(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
    }

    /// Counts a call and says which fault hits it: the first that is due. Every fault counts every call it matches.
    pub(crate) fn fire(&self, call: &AwsCall) -> Option<(u64, FaultAction)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hit = None;
        for fault in state.1.iter_mut().filter(|fault| fault.spec.matches(call)) {
            fault.seen += 1;
            let due = fault.seen > fault.spec.skip && fault.spec.times.is_none_or(|times| fault.fired < times);
            if due && hit.is_none() {
                fault.fired += 1;
                hit = Some((fault.id, fault.spec.action.clone()));
            }
        }
        hit
    }
}

impl FaultSpec {
    fn matches(&self, call: &AwsCall) -> bool {
        let name = |wanted: &str| if wanted == "elbv2" { "elasticloadbalancing".to_owned() } else { wanted.to_owned() };
        self.service.as_deref().is_none_or(|wanted| name(wanted) == call.service)
            && self.operation.as_deref().is_none_or(|wanted| wildcard(wanted, &call.operation))
            && self.mutating.is_none_or(|wanted| wanted == call.mutating)
            && self.about.as_deref().is_none_or(|text| call.parameters.to_string().contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<FaultSpec, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn faults_skip_then_fire_then_rest() {
        let faults = Faults::default();
        let text = r#"{"service":"elbv2","operation":"Modify*","skip":1,"times":2,"action":{"throttle":true}}"#;
        let id = faults.add(spec(text).expect("valid"));
        let call = |service, operation: &str| AwsCall::named(service, operation, serde_json::json!({ "Name": "a" }));
        let fire = |operation: &str| faults.fire(&call("elasticloadbalancing", operation)).map(|(id, _)| id);
        assert_eq!(fire("CreateListener"), None);
        let fired: Vec<_> = (0..4).map(|_| fire("ModifyListener")).collect();
        assert_eq!(fired, [None, Some(id), Some(id), None]);
        assert_eq!(faults.fire(&call("ssm", "ModifyDocument")), None);
        assert_eq!((faults.list()[0].seen, faults.list()[0].fired), (4, 2));
        faults.clear();
        assert_eq!(faults.list(), []);
    }

    #[test]
    fn times_null_is_for_ever_and_absent_is_once() {
        let for_ever = spec(r#"{"times":null,"action":{"status":500}}"#).expect("valid");
        assert_eq!(for_ever.times, None);
        assert_eq!(spec(r#"{"action":{"status":500}}"#).expect("valid").times, Some(1));
        let faults = Faults::default();
        faults.add(FaultSpec { mutating: Some(true), ..for_ever });
        let call = |operation| AwsCall::named("x", operation, serde_json::json!({ "Name": "a" }));
        assert!((0..10).all(|_| faults.fire(&call("Put")).is_some()));
        assert!(faults.fire(&call("Get")).is_none());
        faults.clear();
        let about = |text: &str| FaultSpec {
            about: Some(text.to_owned()),
            ..spec(r#"{"action":{"status":500}}"#).expect("valid")
        };
        faults.add(about("\"b\""));
        assert!(faults.fire(&call("Put")).is_none());
        faults.add(about("\"a\""));
        assert!(faults.fire(&call("Put")).is_some());
    }

    #[test]
    fn actions_are_read_and_written_alike() {
        for text in [
            r#"{"delay_ms":5}"#,
            r#"{"hang_ms":5}"#,
            r#"{"throttle":true}"#,
            r#"{"status":503}"#,
            r#"{"error":{"status":403,"code":"AccessDenied","message":"no"}}"#,
            r#"{"reset":"before"}"#,
            r#"{"truncate":true}"#,
            r#"{"kill":"after","signal":"TERM"}"#,
        ] {
            let action: FaultAction = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&action).expect("serializes"), text);
        }
        for text in [
            "{}",
            r#"{"status":200}"#,
            r#"{"delay_ms":1,"throttle":true}"#,
            r#"{"kill":"now"}"#,
            r#"{"throttle":true,"signal":"INT"}"#,
            r#"{"nonsense":1}"#,
        ] {
            assert!(serde_json::from_str::<FaultAction>(text).is_err(), "{text}");
        }
    }
}
