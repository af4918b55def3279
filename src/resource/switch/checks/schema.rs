//! The arguments of checks and of the steps in which traffic moves, as the documentation shows them.

use crate::duration;
use crate::resource::switch::schema::{count, interval, method, pattern, percent, statuses, whole};
use crate::tf_provider::{Attribute, Nesting, Type, Value};

pub(in crate::resource::switch) fn validation() -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::nested("healthy", Nesting::Single, healthy(true))
            .describe("How many of its targets must be healthy. On by default."),
        Attribute::nested("session", Nesting::Single, session())
            .describe("A session of the live colour must go on in the idle one."),
    ];
    attributes.extend(everywhere(true));
    attributes
}

pub(in crate::resource::switch) fn verification() -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::string("duration").check(duration::check).describe(
            "How long to watch after the last step. Left out: `5m` if there are metrics, else `0s`, which is one look.",
        ),
        Attribute::string("interval").check(interval).describe("How often to look; `10s` if left out."),
        Attribute::number("max_failures").check(count).describe("How many looks may fail; 0 if left out."),
        Attribute::nested("healthy", Nesting::Single, healthy(false))
            .describe("How many of its targets must be healthy at each look."),
    ];
    attributes.extend(everywhere(false));
    attributes
}

fn everywhere(before: bool) -> Vec<Attribute> {
    vec![
        Attribute::nested("http", Nesting::List, http(before))
            .describe("Requests, and what the answers must be. `{color}` stands for the colour that is checked."),
        Attribute::nested("lambda", Nesting::List, lambda()).describe(
            "Functions that must not fail. One that takes long answers `{\"status\": \"pending\"}` and is asked again; \
             `hookStatus` and `callBackDelay`, as for ECS deployments, are understood too.",
        ),
        Attribute::nested("command", Nesting::List, command()).describe(
            "Commands that must end with 0, run where Terraform runs. They are told `BLUEGREEN_COLOR`, `BLUEGREEN_LIVE`, \
             `BLUEGREEN_SWITCH`, `BLUEGREEN_ROLLOUT` and `BLUEGREEN_TARGET_GROUP_ARN`.",
        ),
        Attribute::strings("alarms").check(names).describe("CloudWatch alarms, by name, that must not be on."),
        Attribute::nested("alarm_policy", Nesting::Single, alarm_policy())
            .describe("What an alarm means that says nothing."),
        Attribute::nested("metrics", Nesting::List, metrics()).describe(
            "Numbers of CloudWatch's, and where they must be. They are measured over whole periods since traffic was \
             moved; before that, over `window`.",
        ),
    ]
}

fn healthy(waits: bool) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::number("min_count").check(count).describe("At least this many healthy targets; 1 if left out."),
        Attribute::number("min_percent_of_live")
            .check(percent)
            .describe("At least this percentage of the live colour's number of healthy targets; 100 if left out."),
        Attribute::bool("each_zone")
            .describe("Whether each Availability Zone with a healthy target of the live colour must have one of this."),
    ];
    if waits {
        attributes.extend([
            Attribute::string("sustained").check(duration::check).describe(
                "How long it must have been so. Left out: for two intervals where it was not so at the first look, since a \
                 target that comes up is healthy after a single pass.",
            ),
            Attribute::string("timeout").check(interval).describe("How long to wait for them; `5m` if left out."),
            Attribute::string("interval").check(interval).describe("How often to look; `5s` if left out."),
        ]);
    }
    attributes
}

/// A request; what differs where it is one of a pair or of a list is given.
fn request() -> Vec<Attribute> {
    vec![
        Attribute::string("url").required().sensitive().describe(
            "The address, `http://` or `https://`. A plan shows it in `runbook`, without user, password and query.",
        ),
        Attribute::string("method").check(method).describe("The method; `GET` if left out."),
        Attribute::plain("headers", Type::map(Type::String))
            .sensitive()
            .describe("Headers to send; `Host` too."),
        Attribute::string("body").sensitive().describe("What to send."),
        Attribute::string("connect_to").check(host_and_port).describe(
            "`host:port` to connect to instead of the address's, such as the load balancer's before DNS leads there. The \
             address's name stays for TLS and the `Host` header.",
        ),
        Attribute::bool("insecure").describe("Accept any TLS certificate."),
        Attribute::string("timeout").check(interval).describe("When to give up on a try; `10s` if left out."),
    ]
}

fn judged() -> Vec<Attribute> {
    vec![
        Attribute::plain("status", Type::list(Type::Number)).check(statuses).describe("Codes that pass; `[200]`."),
        Attribute::string("body_matches").check(pattern).describe("A regular expression that the body must match."),
        Attribute::string("max_latency").check(duration::check).describe("The longest time to the answer's end."),
    ]
}

fn http(before: bool) -> Vec<Attribute> {
    let retries = if before {
        "How many more tries there are; 5 if left out."
    } else {
        "How many more tries there are within a look; 0 if left out."
    };
    let mut attributes = request();
    attributes.extend(judged());
    attributes.extend([
        Attribute::number("retries").check(count).describe(retries),
        Attribute::string("retry_delay").check(duration::check).describe("The time between tries; `2s` if left out."),
    ]);
    attributes
}

fn session() -> Vec<Attribute> {
    let both = || request().into_iter().chain(judged()).collect();
    vec![
        Attribute::nested("login", Nesting::Single, both())
            .required()
            .describe("The request that logs in, made to the live colour, for which `{color}` stands here."),
        Attribute::nested("check", Nesting::Single, both())
            .required()
            .describe("The request that is made to the idle colour with the cookies of the login."),
    ]
}

fn lambda() -> Vec<Attribute> {
    vec![
        Attribute::string("function_name").required().describe("The function's name or ARN."),
        Attribute::string("qualifier").describe("A version or an alias."),
        Attribute::string("payload")
            .check(json)
            .sensitive()
            .describe("The JSON to give it, with `{color}` for the colour; `{}` if left out."),
        Attribute::string("timeout")
            .check(interval)
            .describe("How long it may take, however often it is asked; `15m` if left out."),
        Attribute::string("interval")
            .check(interval)
            .describe("When to ask again one that is not done and does not say when; `10s` if left out."),
    ]
}

fn command() -> Vec<Attribute> {
    vec![
        Attribute::strings("argv").required().check(argv).describe(
            "The program and its arguments, without a shell between; `{color}` stands for the colour that is checked. They are \
             part of the state: hand secrets over in `environment`.",
        ),
        Attribute::plain("environment", Type::map(Type::String))
            .sensitive()
            .describe(
                "Variables for it. Beside them it gets only `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `LANG`, \
                 `LC_*`, `TZ` and `TMPDIR` of Terraform's own environment. Their values are struck out of what is told.",
            ),
        Attribute::strings("inherit_environment").check(variables).describe(
            "Names of variables of Terraform's own environment that the command gets too, such as `AWS_PROFILE`; a `*` at \
             the end stands for any end, such as `AWS_*`.",
        ),
        Attribute::string("working_directory").describe("Where it runs; where Terraform runs if left out."),
        Attribute::string("timeout")
            .check(interval)
            .describe("When it is killed, with all its children; `10m` if left out."),
    ]
}

fn alarm_policy() -> Vec<Attribute> {
    vec![
        Attribute::string("insufficient_data")
            .check(pass_or_fail)
            .describe("An alarm in `INSUFFICIENT_DATA`: `pass` (if left out) or `fail`."),
        Attribute::string("unreadable")
            .check(pass_or_fail)
            .describe("One that isn't there or can't be read: `pass` or `fail` (if left out)."),
    ]
}

fn metrics() -> Vec<Attribute> {
    let source = vec![
        Attribute::string("namespace").required().describe("Such as `MyApp`."),
        Attribute::string("metric_name").required().describe("Such as `Orders`."),
        Attribute::plain("dimensions", Type::map(Type::String))
            .describe("Its dimensions; `{color}` in a value stands for the colour."),
        Attribute::string("stat").describe("Such as `Sum`, `Average` or `p99`; `Sum` if left out."),
    ];
    let query = vec![
        Attribute::string("expression").required().describe(
            "A metric-math expression over the ids below, and over `requests`, `errors_4xx`, `errors_5xx`, \
             `connection_errors`, `elb_5xx` and `response_time` of the colour's target group; of errors, none counts as 0.",
        ),
        Attribute::nested("metrics", Nesting::Map, source)
            .describe("Metrics of your own, by the id for the expression."),
    ];
    vec![
        Attribute::string("metric")
            .check(metric)
            .describe("`error_rate` (0 to 1), `latency_p50`, `latency_p90`, `latency_p99` (seconds) or `requests`."),
        Attribute::nested("query", Nesting::Single, query).describe("A number of your own, instead of `metric`."),
        Attribute::number("max").describe("At most this."),
        Attribute::number("min").describe("At least this."),
        Attribute::number("max_ratio_to_live")
            .check(positive)
            .describe("At most so many times what the live colour has at the same time, or had before it lost the traffic."),
        Attribute::number("significance").check(share).describe(
            "The level, such as 0.01, at which a Mann-Whitney test over the periods must not find it larger than the live \
             colour's.",
        ),
        Attribute::number("min_requests")
            .check(any_count)
            .describe("Below so many requests nothing can be said; 1 if left out, and 0 for a `query`."),
        Attribute::string("inconclusive")
            .check(pass_or_fail)
            .describe("What it means at the end of a hold that nothing can be said: `pass`, or `fail` (if left out)."),
        Attribute::bool("load_balancer_errors").describe(
            "Whether 5xx answers that the load balancer made itself, for whichever target group, count as the colour's \
             against `max`; `true` if left out. They are left out of comparisons with the live colour.",
        ),
        Attribute::string("period")
            .check(period)
            .describe("The length of a point; `60s` if left out, which is what load balancers publish."),
        Attribute::string("window").check(interval).describe("How far back to look before traffic is moved; `5m`."),
    ]
}

pub(in crate::resource::switch) fn strategy() -> Vec<Attribute> {
    let step = vec![
        Attribute::number("weight")
            .required()
            .check(weight)
            .describe("Percent of the traffic, 0.1 to 99.9, with at most one decimal."),
        Attribute::string("hold").check(duration::check).describe("How long to stay there; `0s` if left out."),
    ];
    let regular = || {
        vec![
            Attribute::number("percent")
                .required()
                .check(weight)
                .describe("Percent of the traffic, 0.1 to 99.9, with at most one decimal."),
            Attribute::string("interval").required().check(interval).describe("How long to stay at each step."),
        ]
    };
    vec![
        Attribute::nested("steps", Nesting::List, step)
            .describe("Steps in order, each larger than the one before. 100 % always follows."),
        Attribute::nested("canary", Nesting::Single, regular())
            .describe("One step: `percent` for `interval`, then everything."),
        Attribute::nested("linear", Nesting::Single, regular())
            .describe("Equal steps: `percent` more every `interval`."),
        Attribute::string("settle").check(duration::check).describe(
            "How long the load balancer's nodes are given to follow before a step is watched, unless `prove` shows it; \
             `10s` if left out.",
        ),
        Attribute::nested("prove", Nesting::Single, prove()).describe(
            "A request by the production route whose answers tell which colour gave them: a step is watched once they \
             agree with the weights.",
        ),
    ]
}

fn prove() -> Vec<Attribute> {
    // Nothing is sent; what the body tells, and how long it may take in all, have these names here.
    let of_a_try = |attribute: &Attribute| ["body", "timeout"].contains(&attribute.name());
    let mut attributes: Vec<Attribute> = request().into_iter().filter(|one| !of_a_try(one)).collect();
    attributes.extend([
        Attribute::string("timeout")
            .check(interval)
            .describe("How long to wait until they agree; `2m` if left out. Then the step has failed."),
        Attribute::string("header").describe("The answer's header that tells the colour."),
        Attribute::string("cookie").describe("Or the cookie."),
        Attribute::string("body").check(pattern).describe(
            "Or a regular expression whose first group, or else all that it matches, tells it in the body.",
        ),
        Attribute::plain("values", Type::map(Type::String))
            .describe("What each colour tells, by colour; its own name if left out."),
        Attribute::number("answers").check(answers).describe(
            "So many answers in a row must agree; 20 if left out. While traffic is split, as many as it takes not to miss \
             the smaller share.",
        ),
    ]);
    attributes
}

fn names(value: &Value) -> Result<(), String> {
    let Some(items) = value.as_list() else { return Ok(()) };
    if items.iter().any(|item| item.is_null() || item.as_str() == Some("")) {
        return Err("an alarm has no name".to_owned());
    }
    Ok(())
}

fn argv(value: &Value) -> Result<(), String> {
    let Some(items) = value.as_list() else { return Ok(()) };
    match items.first() {
        None => Err("the program is missing".to_owned()),
        Some(first) if first.is_null() || first.as_str() == Some("") => Err("the program has no name".to_owned()),
        Some(_) if items.iter().any(Value::is_null) => Err("an argument is null".to_owned()),
        Some(first) if items.len() == 1 && first.as_str().is_some_and(|text| text.contains(' ')) => Err(format!(
            "{:?} is one program's name: there is no shell to take it apart; write each argument as an element",
            first.as_str().unwrap_or_default()
        )),
        Some(_) => Ok(()),
    }
}

fn variables(value: &Value) -> Result<(), String> {
    let Some(items) = value.as_list() else { return Ok(()) };
    let fits = |name: &str| {
        let name = name.strip_suffix('*').unwrap_or(name);
        !name.contains(['=', '*', '\0'])
    };
    match items.iter().find(|item| item.is_null() || item.as_str().is_some_and(|name| name.is_empty() || !fits(name))) {
        Some(item) => Err(format!("{:?} is no name of a variable", item.as_str().unwrap_or_default())),
        None => Ok(()),
    }
}

fn host_and_port(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(()),
        _ => Err(format!("{text:?} is not host:port, such as \"web-123.eu-central-1.elb.amazonaws.com:443\"")),
    }
}

fn json(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let filled = text.replace("{color}", "color");
    serde_json::from_str::<serde_json::Value>(&filled).map(drop).map_err(|error| format!("not JSON: {error}"))
}

fn pass_or_fail(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("pass" | "fail") | None => Ok(()),
        Some(other) => Err(format!("{other:?} is neither \"pass\" nor \"fail\"")),
    }
}

fn metric(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("error_rate" | "latency_p50" | "latency_p90" | "latency_p99" | "requests") | None => Ok(()),
        Some(other) => Err(format!(
            "{other:?} is none of \"error_rate\", \"latency_p50\", \"latency_p90\", \"latency_p99\" and \"requests\"; for \
             anything else, use query"
        )),
    }
}

fn positive(value: &Value) -> Result<(), String> {
    match value.as_f64() {
        Some(number) if number > 0.0 => Ok(()),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn share(value: &Value) -> Result<(), String> {
    match value.as_f64() {
        Some(number) if number > 0.0 && number < 0.5 => Ok(()),
        _ => Err("must be a level between 0 and 0.5, such as 0.01".to_owned()),
    }
}

fn any_count(value: &Value) -> Result<(), String> {
    whole(value, 0..=1_000_000_000)
}

fn answers(value: &Value) -> Result<(), String> {
    whole(value, 1..=500)
}

/// CloudWatch's periods.
fn period(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let length = duration::parse(text)?;
    let seconds = length.as_secs();
    if length.subsec_millis() == 0 && (matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds % 60 == 0)) {
        return Ok(());
    }
    Err("must be 1s, 5s, 10s, 20s, 30s or whole minutes, which is what CloudWatch knows".to_owned())
}

/// A load balancer's weights go to 999, so that a tenth of a percent is the smallest part.
fn weight(value: &Value) -> Result<(), String> {
    let tenths = value.as_f64().map(|percent| percent * 10.0);
    match tenths {
        Some(tenths) if (1.0..=999.0).contains(&tenths) && (tenths - tenths.round()).abs() < 1e-6 => Ok(()),
        Some(tenths) if tenths >= 1000.0 => Err("must be below 100: the last step to 100 % comes by itself".to_owned()),
        _ => Err("must be a percentage from 0.1 to 99.9 with at most one decimal".to_owned()),
    }
}
