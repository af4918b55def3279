//! From the checks and steps of a configuration to those of a wish.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::resource::switch::intent::{number, time};
use crate::rollout::{
    AlarmCheck, Block, Check, Checking, CommandCheck, HealthyPolicy, HttpCheck, LambdaCheck, Metric, MetricCheck,
    MetricQuery, MetricSource, Prove, SessionCheck, Shift, Strategy, Subject, Tell, Validation, Verification,
};
use crate::tf_provider::Value;

/// The defaults, as the schema documents them.
const HTTP_RETRIES: u32 = 5;
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const LAMBDA_INTERVAL: Duration = Duration::from_secs(10);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const PERIOD: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_secs(10);
const VERIFY_INTERVAL: Duration = Duration::from_secs(10);
const VERIFY_METRICS: Duration = Duration::from_secs(300);
const ANSWERS: u32 = 20;
const PROVE_TIMEOUT: Duration = Duration::from_secs(120);

/// What must hold before traffic.
pub(in crate::resource::switch) fn validation(value: &Value) -> Option<Validation> {
    if !value.is_wholly_known() {
        return None;
    }
    Some(Validation { healthy: healthy(value.get("healthy")), checks: checks(value, Block::Validation) })
}

/// What must hold with traffic. Nothing wished is a wish, and something unknown is none.
#[expect(clippy::option_option, reason = "unknown, or not wished")]
pub(in crate::resource::switch) fn verification(value: &Value) -> Option<Option<Verification>> {
    if value.is_null() {
        return Some(None);
    }
    if !value.is_wholly_known() {
        return None;
    }
    let mut all = Vec::new();
    if !value.get("healthy").is_null() {
        all.push(checking(Block::Verification, None, Check::Healthy(healthy(value.get("healthy")))));
    }
    all.extend(checks(value, Block::Verification));
    Some(Some(Verification {
        duration: duration(value),
        interval: interval(value),
        max_failures: number(value, "max_failures").unwrap_or_default(),
        checks: all,
    }))
}

/// How often to look while something is verified.
pub(in crate::resource::switch) fn interval(verification: &Value) -> Duration {
    time(verification, "interval").unwrap_or(VERIFY_INTERVAL)
}

/// How long to watch after the last step: where metrics are to be judged, there must be some.
pub(in crate::resource::switch) fn duration(verification: &Value) -> Duration {
    let measures = verification.get("metrics").as_list().is_some_and(|metrics| !metrics.is_empty());
    time(verification, "duration").unwrap_or(if measures { VERIFY_METRICS } else { Duration::ZERO })
}

fn checking(block: Block, index: Option<usize>, check: Check) -> Checking {
    Checking { block, index, subject: Subject::default(), check }
}

fn checks(value: &Value, block: Block) -> Vec<Checking> {
    let mut all = Vec::new();
    let list = |name: &str| value.get(name).as_list().unwrap_or_default().to_vec();
    let retries = if block == Block::Validation { HTTP_RETRIES } else { 0 };
    let made = |name: &str, make: &dyn Fn(&Value) -> Option<Check>| -> Vec<Checking> {
        let items = list(name).into_iter().enumerate();
        items.filter_map(|(n, item)| Some(checking(block, Some(n), make(&item)?))).collect()
    };
    all.extend(made("http", &|item| Some(Check::Http(request(item, retries)?))));
    let session = value.get("session");
    if let (Some(login), Some(check)) = (request(session.get("login"), 0), request(session.get("check"), 0)) {
        all.push(checking(block, None, Check::Session(Box::new(SessionCheck { login, check }))));
    }
    all.extend(made("lambda", &|item| lambda(item).map(Check::Lambda)));
    all.extend(made("command", &|item| Some(Check::Command(command(item)))));
    let names = value.get("alarms").strings();
    if !names.is_empty() {
        let policy = |name: &str| value.get("alarm_policy").get(name).as_str().map(|word| word == "pass");
        let check = AlarmCheck {
            names,
            insufficient_data_passes: policy("insufficient_data").unwrap_or(true),
            unreadable_passes: policy("unreadable").unwrap_or(false),
        };
        all.push(checking(block, None, Check::Alarms(check)));
    }
    all.extend(made("metrics", &|item| metric(item).map(Check::Metric)));
    all
}

fn healthy(value: &Value) -> HealthyPolicy {
    let default = HealthyPolicy::default();
    HealthyPolicy {
        min_count: number(value, "min_count").unwrap_or(default.min_count),
        min_percent_of_live: number(value, "min_percent_of_live").unwrap_or(default.min_percent_of_live),
        each_zone: value.get("each_zone").as_bool().unwrap_or_default(),
        sustained: time(value, "sustained"),
        timeout: time(value, "timeout").unwrap_or(default.timeout),
        interval: time(value, "interval").unwrap_or(default.interval),
    }
}

fn request(value: &Value, retries: u32) -> Option<HttpCheck> {
    let status = value.get("status").as_list().unwrap_or_default();
    let status: Vec<u16> = status.iter().filter_map(|code| u16::try_from(code.as_i64()?).ok()).collect();
    let text = |name: &str| value.get(name).as_str().map(str::to_owned);
    let default = HttpCheck::default();
    Some(HttpCheck {
        url: text("url")?,
        method: text("method").unwrap_or(default.method),
        headers: value.get("headers").string_map(),
        body: text("body"),
        connect_to: text("connect_to"),
        insecure: value.get("insecure").as_bool().unwrap_or_default(),
        status: if status.is_empty() { default.status } else { status },
        body_matches: text("body_matches"),
        max_latency: time(value, "max_latency"),
        retries: number(value, "retries").unwrap_or(retries),
        retry_delay: time(value, "retry_delay").unwrap_or(default.retry_delay),
        timeout: time(value, "timeout").unwrap_or(default.timeout),
    })
}

fn lambda(value: &Value) -> Option<LambdaCheck> {
    let text = |name: &str| value.get(name).as_str().map(str::to_owned);
    Some(LambdaCheck {
        function_name: text("function_name")?,
        qualifier: text("qualifier"),
        payload: text("payload"),
        timeout: time(value, "timeout").unwrap_or(LAMBDA_TIMEOUT),
        interval: time(value, "interval").unwrap_or(LAMBDA_INTERVAL),
    })
}

fn command(value: &Value) -> CommandCheck {
    CommandCheck {
        argv: value.get("argv").strings(),
        environment: value.get("environment").string_map(),
        inherit: value.get("inherit_environment").strings(),
        working_directory: value.get("working_directory").as_str().map(str::to_owned),
        timeout: time(value, "timeout").unwrap_or(COMMAND_TIMEOUT),
    }
}

fn metric(value: &Value) -> Option<MetricCheck> {
    let metric = match value.get("metric").as_str() {
        Some("error_rate") => Metric::ErrorRate,
        Some("requests") => Metric::Requests,
        Some(name) => Metric::Latency(name.strip_prefix("latency_p")?.parse().ok()?),
        None => Metric::Query(query(value.get("query"))?),
    };
    // A number of the user's own need not have to do with requests.
    let least = u64::from(!matches!(metric, Metric::Query(_)));
    Some(MetricCheck {
        metric,
        max: value.get("max").as_f64(),
        min: value.get("min").as_f64(),
        max_ratio_to_live: value.get("max_ratio_to_live").as_f64(),
        significance: value.get("significance").as_f64(),
        min_requests: value.get("min_requests").as_i64().and_then(|count| u64::try_from(count).ok()).unwrap_or(least),
        inconclusive_passes: value.get("inconclusive").as_str() == Some("pass"),
        load_balancer_errors: value.get("load_balancer_errors").as_bool().unwrap_or(true),
        period: time(value, "period").unwrap_or(PERIOD),
        window: time(value, "window").unwrap_or(WINDOW),
    })
}

fn query(value: &Value) -> Option<MetricQuery> {
    let source = |(id, value): (&String, &Value)| {
        let text = |name: &str| value.get(name).as_str().map(str::to_owned);
        let source = MetricSource {
            namespace: text("namespace")?,
            metric_name: text("metric_name")?,
            dimensions: value.get("dimensions").string_map(),
            stat: text("stat").unwrap_or_else(|| "Sum".to_owned()),
        };
        Some((id.clone(), source))
    };
    let metrics: BTreeMap<String, MetricSource> =
        value.get("metrics").as_map().into_iter().flatten().filter_map(source).collect();
    Some(MetricQuery { expression: value.get("expression").as_str()?.to_owned(), metrics })
}

/// In which steps traffic moves. Where something is watched or held, the nodes are given time to follow.
pub(in crate::resource::switch) fn strategy(value: &Value) -> Option<Strategy> {
    if !value.is_wholly_known() {
        return None;
    }
    Some(Strategy {
        steps: steps(value),
        settle: time(value, "settle").unwrap_or(SETTLE),
        prove: prove(value.get("prove")),
    })
}

/// The steps of whichever way they were written.
pub(in crate::resource::switch) fn steps(value: &Value) -> Vec<Shift> {
    let permille = |value: &Value| value.as_f64().map(|percent| (percent * 10.0).round() as u32);
    let written = value.get("steps").as_list().unwrap_or_default().iter();
    let mut steps: Vec<Shift> = written
        .filter_map(|step| {
            let permille = permille(step.get("weight"))?;
            Some(Shift { permille, hold: time(step, "hold").unwrap_or_default() })
        })
        .collect();
    for (name, most) in [("canary", 1), ("linear", usize::MAX)] {
        let regular = value.get(name);
        let (Some(part), Some(hold)) = (permille(regular.get("percent")), time(regular, "interval")) else { continue };
        // A state may hold what no configuration may: no part at all would never come to an end.
        let weights = (1..1000_u32).map(|n| n.saturating_mul(part.max(1))).take_while(|sum| *sum < 1000).take(most);
        steps.extend(weights.map(|permille| Shift { permille, hold }));
    }
    steps
}

fn prove(value: &Value) -> Option<Prove> {
    let mut request = request(value, 0)?;
    let text = |name: &str| value.get(name).as_str().map(str::to_owned);
    request.body = None;
    let by = text("header").map(Tell::Header).or_else(|| text("cookie").map(Tell::Cookie));
    Some(Prove {
        by: by.or_else(|| text("body").map(Tell::Body))?,
        values: value.get("values").string_map(),
        answers: number(value, "answers").unwrap_or(ANSWERS),
        timeout: time(value, "timeout").unwrap_or(PROVE_TIMEOUT),
        request: HttpCheck { timeout: HttpCheck::default().timeout, ..request },
    })
}
