//! Bad input: each a diagnostic at its place, at `validate`, without a word on the network.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use terraform_tests::terraform::Terraform;

const BLUE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/1111111111111111";
const GREEN: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/green/2222222222222222";
const LISTENER: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/3333333333333333/4444444444444444";
const RULE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener-rule/app/web/3333333333333333/4444444444444444/5555555555555555";

/// What is changed in a valid configuration; the summary of the diagnostic; the line that it must point at.
struct Case {
    set: (&'static str, String),
    summary: &'static str,
    line: &'static str,
}

fn case(name: &'static str, value: impl Into<String>, summary: &'static str, line: &'static str) -> Case {
    Case { set: (name, value.into()), summary, line }
}

fn cases() -> Vec<Case> {
    [colors(), routes(), conditions(), checks(), rollouts(), times()].into_iter().flatten().collect()
}

fn colors() -> Vec<Case> {
    let color = |name: &str, arn: &str| format!("    {name} = {{ target_group_arn = \"{arn}\" }}\n");
    let set = |more: &str| format!("{{\n    blue = {{ target_group_arn = \"{BLUE}\" }}\n{more}\n  }}");
    let many: String = ["a", "b", "c", "d", "e"].map(|name| color(name, &GREEN.replace("green", name))).concat();
    let far = GREEN.replace("eu-central-1", "us-east-1");
    let green = |arn: &str, summary| case("environments", set(&color("green", arn)), summary, "green = {");
    vec![
        case("active", "\"grene\"", "Unknown color", "active"),
        case("environments", set(""), "Two to five environments are needed", "environments"),
        case("environments", set(&many), "Two to five environments are needed", "environments"),
        case("environments", set(&color("Green", GREEN)), "Invalid color", "Green = {"),
        green(BLUE, "Target group given twice"),
        green("arn:aws:s3:::x", "Invalid target group ARN"),
        green(LISTENER, "Invalid target group ARN"),
        green(&far, "The target group is in another region"),
    ]
}

fn routes() -> Vec<Case> {
    let listener = |more: &str| format!("{{ listener_arn = \"{LISTENER}\"{more} }}");
    let routes = |routes: &str, summary| case("routes", format!("[{routes}]"), summary, "routes");
    vec![
        routes("", "Invalid routes"),
        routes("{}", "A route needs a listener or a rule"),
        routes(&format!("{}, {}", listener(""), listener("")), "Route given twice"),
        routes(&listener(&format!(", rule_arn = \"{RULE}\"")), "Conflicting arguments"),
        routes(&format!("{{ rule_arn = \"{RULE}\", priority = 3 }}"), "Conflicting arguments"),
        routes(&listener(", priority = 3"), "conditions is missing"),
        routes(&listener(", priority = 0, conditions = { path_patterns = [\"/\"] }"), "Invalid priority"),
        routes(&listener(", priority = 3, conditions = {}"), "Conditions are empty"),
        routes("{ listener_arn = \"web\" }", "Invalid listener ARN"),
        routes("null", "Null element"),
        routes(
            &format!("{}, {{ listener_arn = \"{}\" }}", listener(""), LISTENER.replace("app/web", "app/other")),
            "The route is on another load balancer",
        ),
        routes(
            &listener(
                ", priority = 3, conditions = { path_patterns = [\"/1\", \"/2\", \"/3\", \"/4\", \"/5\", \"/6\"] }",
            ),
            "Too many condition values",
        ),
        case("preview_routes", format!("[{}]", listener("")), "Route given twice", "preview_routes"),
    ]
}

/// What AWS says of the conditions of a rule, said before anything is called.
fn conditions() -> Vec<Case> {
    let rule = |conditions: &str, summary| {
        let route = format!("[{{ listener_arn = \"{LISTENER}\", priority = 3, conditions = {{ {conditions} }} }}]");
        case("routes", route, summary, "routes")
    };
    let network = LISTENER.replace("listener/app/", "listener/net/");
    let of_network = |conditions: &str, summary| {
        let route = format!("[{{ listener_arn = \"{network}\", priority = 3, conditions = {{ {conditions} }} }}]");
        case("routes", route, summary, "routes")
    };
    vec![
        rule("source_ips = [\"10.0.0.1\"]", "Invalid source_ips"),
        rule("source_ips = [\"10.0.0.0/33\"]", "Invalid source_ips"),
        rule("http_request_methods = [\"get\"]", "Invalid http_request_methods"),
        rule("http_request_methods = [\"*\"]", "Invalid http_request_methods"),
        rule(&format!("host_headers = [\"{}.example.com\"]", "a".repeat(120)), "Invalid host_headers"),
        rule("host_headers = [\"https://app.example.com\"]", "Invalid host_headers"),
        rule("host_headers = [\"\"]", "Invalid host_headers"),
        rule("path_patterns = [\"api/*\"]", "Invalid path_patterns"),
        rule(&format!("path_pattern_regex_values = [\"^/{}\"]", "a".repeat(128)), "Invalid path_pattern_regex_values"),
        rule("http_headers = { Host = [\"app.example.com\"] }", "Invalid condition"),
        rule("http_headers = { \"X Cohort\" = [\"beta\"] }", "Invalid condition"),
        rule("http_headers = { X-Cohort = [] }", "A condition has no value"),
        rule("http_headers = { X-Cohort = [\"\"] }", "Invalid condition"),
        rule("http_header_conditions = [{ name = \"X-Cohort\" }]", "A condition has no value"),
        rule("http_header_conditions = [{ name = \"Host\", values = [\"a.b\"] }]", "Invalid name"),
        rule("query_strings = { version = \"\" }", "Invalid condition"),
        rule("query_string_conditions = [{ values = [{ key = \"version\", value = \"\" }] }]", "Invalid value"),
        rule("path_patterns = [\"/*/*/*/*/*/*/*\"]", "Too many wildcards"),
        rule(
            "path_patterns = [\"/a\", \"/b\", \"/c\"], query_string_conditions = [{ values = [{ value = \"1\" }, { value = \"2\" }, { value = \"3\" }] }]",
            "Too many condition values",
        ),
        rule("source_ip_address_type = \"ipv6\"", "Not for this load balancer"),
        of_network("path_patterns = [\"/api/*\"]", "Not for this load balancer"),
        of_network("source_ip_address_type = \"ipv5\"", "Invalid source_ip_address_type"),
    ]
}

fn checks() -> Vec<Case> {
    let http =
        |check: &str, summary| case("validation", format!("{{ http = [{{ {check} }}] }}"), summary, "validation");
    vec![
        http("url = \"https://{color}.example.com\", body_matches = \"(\"", "Invalid body_matches"),
        http("url = \"https://{hue}.example.com\"", "Unknown placeholder"),
        http("url = \"ftp://{color}.example.com\"", "Invalid URL"),
        http("url = \"https://x.org\", status = [99]", "Invalid status"),
        http("url = \"https://x.org\", max_latency = \"fast\"", "Invalid max_latency"),
        case("timeouts", "{ update = \"5\" }", "Invalid update", "timeouts"),
        case("timeouts", "{ update = \"0s\" }", "Invalid update", "timeouts"),
        case("parameter", "\"myapp/live\"", "Invalid parameter", "parameter"),
        case("on_destroy", "\"drop\"", "Invalid on_destroy", "on_destroy"),
        case("name", "\"\"", "Invalid name", "name"),
    ]
}

fn rollouts() -> Vec<Case> {
    let strategy = |value: &str, summary| case("strategy", format!("{{ {value} }}"), summary, "strategy");
    let metric = |value: &str, summary| {
        case("verification", format!("{{ metrics = [{{ {value} }}] }}"), summary, "verification")
    };
    let validation = |value: &str, summary| case("validation", format!("{{ {value} }}"), summary, "validation");
    let network = LISTENER.replace("listener/app/", "listener/net/");
    let by_network = format!(
        "[{{ listener_arn = \"{network}\" }}]\n  verification = {{ metrics = [{{ metric = \"requests\", min = 1 }}] }}"
    );
    let canary = "canary = { percent = 10, interval = \"1m\" }";
    let step = |weight: &str| format!("steps = [{{ weight = {weight} }}]");
    vec![
        strategy(&step("100"), "Invalid weight"),
        strategy(&step("0"), "Invalid weight"),
        strategy(&step("12.34"), "Invalid weight"),
        strategy("steps = [{ weight = 50 }, { weight = 10 }]", "The steps must rise"),
        strategy("steps = [null]", "Null element"),
        strategy(&format!("{canary}, linear = {{ percent = 10, interval = \"1m\" }}"), "Conflicting arguments"),
        strategy("prove = { url = \"https://x.org\" }", "prove needs header, cookie or body"),
        strategy("prove = { url = \"https://{color}.org\", header = \"x-color\" }", "Unknown placeholder"),
        strategy("settle = \"soon\"", "Invalid settle"),
        metric("metric = \"errors\", max = 1", "Invalid metric"),
        metric("metric = \"error_rate\"", "A limit is missing"),
        metric("max = 1", "A metric or a query is needed"),
        metric("metric = \"error_rate\", max = 5", "max of error_rate is above 1"),
        metric("metric = \"requests\", min = 1, period = \"45s\"", "Invalid period"),
        metric("metric = \"latency_p99\", significance = 2", "Invalid significance"),
        metric(
            "query = { expression = \"a\", metrics = { A = { namespace = \"x\", metric_name = \"y\" } } }, max = 1",
            "Invalid id",
        ),
        case("routes", by_network, "A Network Load Balancer has no such metric", "verification"),
        validation("command = [{ argv = [] }]", "Invalid argv"),
        validation("command = [{ argv = [\"npm run test\"] }]", "Invalid argv"),
        validation("lambda = [{ function_name = \"smoke\", payload = \"{\" }]", "Invalid payload"),
        validation("http = [{ url = \"https://x.org\", connect_to = \"x.org\" }]", "Invalid connect_to"),
        validation("session = { login = { url = \"x\" }, check = { url = \"https://x.org\" } }", "Invalid URL"),
        validation("alarms = [\"\"]", "Invalid alarms"),
        validation("alarms = [\"x\"], alarm_policy = { unreadable = \"ignore\" }", "Invalid unreadable"),
        case("on_failure", "\"stop\"", "Invalid on_failure", "on_failure"),
        case("on_interrupt", "\"stop\"", "Invalid on_interrupt", "on_interrupt"),
        case("stickiness", "{ duration = \"500ms\" }", "Invalid duration", "stickiness"),
        case("notify", "{ sns_topic_arn = \"releases\" }", "Invalid sns_topic_arn", "notify"),
    ]
}

/// Times that can't contain what is to happen in them.
fn times() -> Vec<Case> {
    let case = |timeouts: &str| {
        let value = format!(
            "{{ steps = [{{ weight = 10, hold = \"20m\" }}] }}\n  verification = {{ duration = \"15m\", healthy = {{}} }}\n  timeouts = {{ {timeouts} }}"
        );
        case("strategy", value, "timeouts are shorter than the rollout", "timeouts")
    };
    vec![case("update = \"35m\""), case("create = \"10m\"")]
}

fn configuration(case: &Case) -> String {
    let mut arguments = vec![
        ("name", "\"myapp\"".to_owned()),
        ("active", "\"blue\"".to_owned()),
        (
            "environments",
            format!(
                "{{\n    blue = {{ target_group_arn = \"{BLUE}\" }}\n    green = {{ target_group_arn = \"{GREEN}\" }}\n  }}"
            ),
        ),
        ("routes", format!("[{{ listener_arn = \"{LISTENER}\" }}]")),
    ];
    let (name, value) = &case.set;
    match arguments.iter_mut().find(|(argument, _)| argument == name) {
        Some(argument) => argument.1.clone_from(value),
        None => arguments.push((name, value.clone())),
    }
    let lines: String = arguments.iter().map(|(name, value)| format!("  {name} = {value}\n")).collect();
    format!(
        "terraform {{\n  required_providers {{\n    bluegreen = {{ source = \"bluegreen/bluegreen\" }}\n  }}\n}}\n\n\
         resource \"bluegreen_switch\" \"app\" {{\n{lines}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_told_at_its_place() -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    for case in cases() {
        terraform.write(&configuration(&case))?;
        let said = terraform.run(&["validate", "-json"]).await?;
        let json: Value = serde_json::from_str(&said.stdout).context(said.text.clone())?;
        let diagnostics = json["diagnostics"].as_array().cloned().unwrap_or_default();
        let errors: Vec<&Value> = diagnostics.iter().filter(|d| d["severity"] == "error").collect();
        ensure!(errors.len() == 1, "{:?}: {errors:#?}", case.set);
        let (summary, line) = (&errors[0]["summary"], errors[0]["snippet"]["code"].as_str().unwrap_or_default());
        ensure!(summary == case.summary, "{:?}: {errors:#?}", case.set);
        ensure!(line.trim_start().starts_with(case.line), "{:?} points at {line:?}: {errors:#?}", case.set);
    }
    Ok(())
}

/// The provider block's own rules.
#[tokio::test(flavor = "multi_thread")]
async fn the_provider_block_is_checked_too() -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    for (arguments, summary) in [
        ("access_key = \"a\"", "secret_key is missing"),
        ("endpoint_url = \"localhost\"", "Invalid endpoint_url"),
        ("retry_mode = \"never\"", "Invalid retry_mode"),
        ("max_retries = -1", "Invalid max_retries"),
        ("assume_role = { role_arn = \"arn:aws:iam::123456789012:role/x\", duration = \"1\" }", "Invalid duration"),
        ("assume_role_with_web_identity = { role_arn = \"arn:aws:iam::123456789012:role/x\" }", "One token is needed"),
        ("allowed_account_ids = [\"1\"]\n  forbidden_account_ids = [\"2\"]", "Conflicting arguments"),
    ] {
        terraform.write(&format!(
            "terraform {{\n  required_providers {{\n    bluegreen = {{ source = \"bluegreen/bluegreen\" }}\n  }}\n}}\n\
             provider \"bluegreen\" {{\n  {arguments}\n}}\n\
             resource \"bluegreen_switch\" \"app\" {{\n  name         = \"x\"\n  routes       = [{{ listener_arn = \"{LISTENER}\" }}]\n  \
             environments = {{ blue = {{ target_group_arn = \"{BLUE}\" }}, green = {{ target_group_arn = \"{GREEN}\" }} }}\n}}\n"
        ))?;
        let said = terraform.run(&["validate", "-no-color"]).await?;
        ensure!(said.code == 1, "{arguments}");
        said.has(&[summary])?;
    }
    Ok(())
}

/// The lines of an environment that can be wrong, and what is said of each.
#[tokio::test(flavor = "multi_thread")]
async fn of_environments() -> anyhow::Result<()> {
    let group = "target_group = { port = 80 }";
    let small = "image_id = \"ami-1\", instance_type = \"t3.micro\", subnet_ids = [\"subnet-1\"]";
    let instances = |more: &str| format!("{group}\n  instances = {{ {small}, min_size = 1, max_size = 2{more} }}");
    let service = |text: &str| {
        format!("target_group_arn = \"{BLUE}\"\n  service = {{ cluster = \"main\", container_port = 80, {text} }}")
    };
    let task = r#"task_definition = "{\"family\":\"x\",\"containerDefinitions\":[{\"name\":\"a\"},{\"name\":\"b\"}]}""#;
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "A target group is missing"),
        (format!("{group}\n  target_group_arn = \"{BLUE}\""), "Two target groups"),
        (format!("target_group_arn = \"{LISTENER}\""), "is not the ARN of a target group"),
        ("target_group = {}".to_owned(), "port is missing"),
        ("target_group = { port = 0 }".to_owned(), "must be a whole number from 1 to 65535"),
        ("target_group = { port = 80, protocol = \"FTP\" }".to_owned(), "must be one of HTTP, HTTPS"),
        (
            "target_group = { port = 80, protocol = \"TCP\", slow_start = 30 }".to_owned(),
            "Only for HTTP and HTTPS target groups.",
        ),
        ("target_group = { port = 80, slow_start = 10 }".to_owned(), "must be 0, or a whole number from 30 to 900"),
        (
            "target_group = { port = 80, health_check = { interval = 5, timeout = 5 } }".to_owned(),
            "The timeout is too long",
        ),
        ("target_group = { port = 80, stickiness = { type = \"app_cookie\" } }".to_owned(), "cookie_name is missing"),
        (instances(", desired_capacity = 3"), "3 is more than max_size, 2"),
        (instances(", desired_capacity = 0"), "0 is less than min_size, 1"),
        (format!("{group}\n  instances = {{ {small}, min_size = 3, max_size = 2 }}"), "2 is less than min_size, 3"),
        (instances(", ingress = [{ protocol = \"tcp\", from_port = 80 }]"), "The rule names no source"),
        (instances(", ingress = [{ protocol = \"tcp\", self = true }]"), "from_port is missing"),
        (instances(", instance_refresh = { timeout = \"soon\" }"), "timeout"),
        (format!("{}\n  targets = []", instances("")), "Two kinds of targets"),
        (
            format!(
                "{group}\n  service = {{ cluster = \"main\", container_port = 80, task_definition_arn = \"x:1\", container_name = \"a\" }}"
            ),
            "listener_arn is missing",
        ),
        (service("desired_count = 1"), "One task definition is needed"),
        (service("task_definition = \"{\""), "not JSON"),
        (service("task_definition = \"[]\""), "must be a JSON object"),
        (service(task), "the task definition has several containers (a, b)"),
        (service(&format!("{task}, container_name = \"c\"")), "there is no container \"c\"; there are a, b"),
        (
            service("task_definition_arn = \"x:1\", container_name = \"a\", image = \"i\""),
            "image needs task_definition",
        ),
        (format!("{group}\n  tags = {{ \"bluegreen:color\" = \"x\" }}"), "A reserved tag"),
        (format!("{group}\n  release = \"a?b\""), "must be the value of a tag"),
    ];
    let terraform = Terraform::new()?;
    for (body, says) in cases {
        let text = format!(
            "terraform {{\n  required_providers {{\n    bluegreen = {{ source = \"bluegreen/bluegreen\" }}\n  }}\n}}\nresource \"bluegreen_environment\" \"app\" {{\n  name = \"myapp\"\n  color = \"blue\"\n  vpc_id = \"vpc-1\"\n  {body}\n}}\n"
        );
        terraform.write(&text)?;
        let said = terraform.run(&["validate", "-no-color"]).await?;
        ensure!(said.code == 1, "{body}: {}", said.text);
        said.has(&[says]).with_context(|| body.clone())?;
    }
    Ok(())
}
