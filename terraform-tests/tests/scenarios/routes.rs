//! Listeners, rules, rules of our own, preview routes; and what a route does besides forwarding.

use anyhow::ensure;
use terraform_tests::client::element;
use terraform_tests::stage::{Leads, Stage, forward};
use terraform_tests::terraform::{Terraform, repository};

/// A color that keeps clients at a target: AWS takes no action with it and another group that does not keep them at a group.
#[tokio::test(flavor = "multi_thread")]
async fn colors_with_sticky_targets_are_switched_step_by_step() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    stage.listener(Leads::Actions(forward(1, &[(stage.group("blue"), 1)]))).await?;
    for color in ["blue", "green"] {
        let attributes = [
            ("TargetGroupArn", stage.group(color)),
            ("Attributes.member.1.Key", "stickiness.enabled"),
            ("Attributes.member.1.Value", "true"),
            ("Attributes.member.2.Key", "stickiness.type"),
            ("Attributes.member.2.Value", "lb_cookie"),
        ];
        stage.client.elb("ModifyTargetGroupAttributes", &attributes).await?;
    }
    let more = "  strategy = { steps = [{ weight = 50, hold = \"1s\" }], settle = \"0s\" }";
    let terraform = Terraform::new()?;
    for active in ["blue", "green", "blue"] {
        terraform.write(&stage.switch(Some(active), more))?;
        let said = terraform.apply().await?.ok()?;
        ensure!(active != "green" || !said.text.contains("get group stickiness"), "{}", said.text);
        terraform.plan_is_empty().await?;
        let now = stage.actions(0).await?;
        ensure!(element(&now, "DurationSeconds")? == "1" && element(&now, "Enabled")? == "true", "{now}");
        ensure!(stage.weights(0).await?[active] == 100);
    }
    Ok(())
}

fn oidc() -> Vec<(String, String)> {
    let config = [
        ("Issuer", "https://id.example.com"),
        ("AuthorizationEndpoint", "https://id.example.com/authorize"),
        ("TokenEndpoint", "https://id.example.com/token"),
        ("UserInfoEndpoint", "https://id.example.com/userinfo"),
        ("ClientId", "me"),
        ("ClientSecret", "a-client-secret"),
        ("Scope", "openid email"),
        ("SessionCookieName", "session"),
        ("SessionTimeout", "3600"),
        ("OnUnauthenticatedRequest", "authenticate"),
    ];
    let mut out = vec![
        ("DefaultActions.member.1.Type".to_owned(), "authenticate-oidc".to_owned()),
        ("DefaultActions.member.1.Order".to_owned(), "1".to_owned()),
    ];
    for (name, value) in config {
        out.push((format!("DefaultActions.member.1.AuthenticateOidcConfig.{name}"), value.to_owned()));
    }
    out
}

/// An authenticate action and stickiness survive switches and destroy.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_does_besides_forwarding_survives() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    let mut actions = oidc();
    actions.extend(forward(2, &[(stage.group("blue"), 1)]));
    let prefix = "DefaultActions.member.2";
    actions.push((format!("{prefix}.Order"), "2".to_owned()));
    let stickiness = format!("{prefix}.ForwardConfig.TargetGroupStickinessConfig");
    actions.push((format!("{stickiness}.Enabled"), "true".to_owned()));
    actions.push((format!("{stickiness}.DurationSeconds"), "120".to_owned()));
    stage.secure_listener(Leads::Actions(actions)).await?;
    let before = stage.actions(0).await?;
    let oidc_before = element(&before, "AuthenticateOidcConfig")?.to_owned();
    let terraform = Terraform::new()?;
    for active in ["blue", "green", "blue"] {
        terraform.write(&stage.switch(Some(active), ""))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        let now = stage.actions(0).await?;
        ensure!(same_oidc(element(&now, "AuthenticateOidcConfig")?, &oidc_before), "{now}\n{oidc_before}");
        ensure!(now.find("authenticate-oidc") < now.find("forward"), "the order changed: {now}");
        ensure!(element(&now, "DurationSeconds")? == "120" && element(&now, "Enabled")? == "true", "{now}");
        ensure!(stage.weights(0).await?[active] == 100);
    }
    terraform.destroy().await?.ok()?;
    let after = stage.actions(0).await?;
    ensure!(same_oidc(element(&after, "AuthenticateOidcConfig")?, &oidc_before));
    ensure!(element(&after, "DurationSeconds")? == "120");
    Ok(())
}

/// Compared without the secret, which AWS never tells, and the flag that says to keep it.
fn same_oidc(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        let mut parts: Vec<String> = text
            .split("</")
            .filter_map(|part| part.rsplit_once('<').map(|(_, field)| field.to_owned()))
            .filter(|field| !field.starts_with("ClientSecret") && !field.starts_with("UseExistingClientSecret"))
            .collect();
        parts.sort();
        parts
    };
    parts(a) == parts(b)
}

/// A listener, a rule of somebody else's and a rule of our own move together; others are left alone.
#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_routes_move_together() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let foreign = stage.rule(0, 20, "/foreign/*", "blue").await?;
    let other = stage.rule(0, 30, "/other/*", "green").await?;
    let listener = stage.listeners[0].clone();
    let routes = |path: &str, priority: u32| {
        format!(
            "[\n    {{ listener_arn = \"{listener}\" }},\n    {{ rule_arn = \"{foreign}\" }},\n    \
             {{ listener_arn = \"{listener}\", priority = {priority}, conditions = {{ path_patterns = [\"{path}\"], \
             http_headers = {{ x-api = [\"2\", \"1\"] }} }} }},\n  ]"
        )
    };
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &routes("/api/*", 10), ""))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    terraform.write(&stage.switch_over(Some("green"), &routes("/api/*", 10), ""))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.answers(0, "/").await? == "green");
    ensure!(stage.answers(0, "/foreign/x").await? == "green");
    ensure!(stage.answers(0, "/other/x").await? == "green", "untouched: it always led there");
    ensure!(stage.rule_weights(&foreign).await?["green"] == 100);
    ensure!(stage.rule_weights(&other).await?.len() == 1, "a route that is not ours was changed");

    // A changed condition is one call; a changed priority is a new rule before the old one goes.
    stage.aws.clear_calls();
    terraform.write(&stage.switch_over(Some("green"), &routes("/v2/*", 10), ""))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.changes() == ["ModifyRule"], "{:?}", stage.changes());
    terraform.plan_is_empty().await?;
    stage.aws.clear_calls();
    terraform.write(&stage.switch_over(Some("green"), &routes("/v2/*", 11), ""))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.changes() == ["CreateRule", "DeleteRule"], "{:?}", stage.changes());
    terraform.plan_is_empty().await?;
    terraform.destroy().await?.ok()?;
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
    ensure!(!rules.contains("/v2/*"), "our rule is left: {rules}");
    ensure!(rules.contains("/foreign/*") && rules.contains("/other/*"));
    ensure!(stage.client.parameter("/myapp/current-live").await?.is_none(), "our record is left");
    ensure!(stage.answers(0, "/").await? == "green", "destroy moved the traffic");
    Ok(())
}

/// Preview routes always lead to the idle color.
#[tokio::test(flavor = "multi_thread")]
async fn preview_routes_lead_to_the_idle_color() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let listener = &stage.listeners[0];
    let preview = format!(
        "  preview_routes = [{{ listener_arn = \"{listener}\", priority = 5, conditions = {{ path_patterns = [\"/preview*\"] }} }}]"
    );
    let terraform = Terraform::new()?;
    for (active, idle) in [("blue", "green"), ("green", "blue"), ("blue", "green")] {
        terraform.write(&stage.switch(Some(active), &preview))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        ensure!(stage.answers(0, "/").await? == active);
        ensure!(stage.answers(0, "/preview").await? == idle);
    }
    // Moved elsewhere behind our back, it is drift.
    stage.set_weights(0, &[("blue", 0), ("green", 100)]).await?;
    terraform.write(&stage.switch(None, &preview))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    ensure!(stage.answers(0, "/preview").await? == "blue");
    Ok(())
}

/// A priority that somebody else has is refused at plan, and their rule is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_priority_is_refused() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.rule(0, 10, "/theirs/*", "blue").await?;
    let listener = &stage.listeners[0];
    let routes = format!(
        "[{{ listener_arn = \"{listener}\", priority = 10, conditions = {{ path_patterns = [\"/ours/*\"] }} }}]"
    );
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &routes, ""))?;
    let plan = terraform.plan().await?;
    ensure!(plan.code == 1);
    plan.has(&["The priority is taken", "adopt the rule with rule_arn"])?;
    Ok(())
}

/// Whoever keeps the default action leads it back with every apply of theirs: the module's rule in front of it stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_goes_in_front_of_somebody_elses_default_action() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    for file in ["main.tf", "variables.tf", "outputs.tf"] {
        let text = std::fs::read_to_string(repository().join("examples/modules/in-front").join(file))?;
        terraform.file(&format!("module/{file}"), &text)?;
    }
    let listener = stage.listeners[0].clone();
    let root = |active: &str| {
        format!(
            "{}module \"switch\" {{\n  source = \"./module\"\n  name = \"shop\"\n  active = \"{active}\"\n  listener_arn = \"{listener}\"\n  \
             target_group_arns = {{ blue = \"{}\", green = \"{}\" }}\n  parameter = \"/shop/current-live\"\n  \
             strategy = {{ steps = [{{ weight = 50 }}], settle = \"0s\" }}\n  verification = {{ duration = \"1s\", interval = \"500ms\", healthy = {{}} }}\n}}\n\
             output \"live\" {{ value = module.switch.live }}\n",
            stage.provider(),
            stage.group("blue"),
            stage.group("green")
        )
    };
    terraform.write(&root("blue"))?;
    terraform.run(&["get", "-no-color"]).await?.ok()?;
    terraform.apply().await?.ok()?;
    terraform.write(&root("green"))?;
    terraform.apply().await?.ok()?.has(&["live = \"green\""])?;
    ensure!(stage.answers(0, "/").await? == "green");
    // Their next apply.
    let mut theirs = vec![("ListenerArn".to_owned(), listener.clone())];
    theirs.extend(forward(1, &[(stage.group("blue"), 100)]));
    let theirs: Vec<(&str, &str)> = theirs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    stage.client.elb("ModifyListener", &theirs).await?;
    ensure!(stage.answers(0, "/").await? == "green");
    terraform.plan_is_empty().await
}
