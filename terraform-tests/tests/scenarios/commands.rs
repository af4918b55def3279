//! Commands that messages print, pasted into a shell with the real AWS CLI: they name their region and profile, AWS takes them, and
//! they do what the message says. Those of a service's size are in `services`, that of a migration's guard in `databases`.

use anyhow::{Context as _, ensure};
use serde_json::json;
use terraform_tests::client::ACCESS_KEY;
use terraform_tests::shell::{Shell, commands};
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, said};

use crate::environments::{Stack, size};
use crate::rollouts::until_share;

fn denied(operation: &str) -> local_aws::FaultSpec {
    let action = json!({ "error": { "status": 403, "code": "AccessDenied", "message": "not allowed" } });
    serde_json::from_value(json!({ "operation": operation, "times": null, "action": action })).unwrap()
}

/// Nothing that a rollout did can be undone: a listener, a rule of somebody else's and a rule that it made are put back by hand.
#[tokio::test(flavor = "multi_thread")]
async fn routes_are_put_back_by_hand() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    stage.secure_listener(Leads::Color("blue")).await?;
    let (green, listener) = (stage.apps["green"].addresses()[0], stage.listeners[0].clone());
    let rule = stage.rule(0, 5, "/it's*", "blue").await?;
    let oidc = "Actions.member.1.AuthenticateOidcConfig";
    let authenticated = [
        ("RuleArn", rule.as_str()),
        ("Actions.member.1.Type", "authenticate-oidc"),
        ("Actions.member.1.Order", "1"),
        (&format!("{oidc}.Issuer"), "https://id.example.com"),
        (&format!("{oidc}.AuthorizationEndpoint"), "https://id.example.com/a"),
        (&format!("{oidc}.TokenEndpoint"), "https://id.example.com/t"),
        (&format!("{oidc}.UserInfoEndpoint"), "https://id.example.com/u"),
        (&format!("{oidc}.ClientId"), "it's me"),
        (&format!("{oidc}.ClientSecret"), "hush"),
        ("Actions.member.2.Type", "forward"),
        ("Actions.member.2.Order", "2"),
        ("Actions.member.2.TargetGroupArn", stage.group("blue")),
    ];
    stage.client.elb("ModifyRule", &authenticated).await?;
    let more = format!(
        "  strategy = {{ settle = \"0s\" }}\n  verification = {{ duration = \"60s\", interval = \"500ms\", http = [{{ url = \"http://{green}/\" }}] }}"
    );
    let terraform = Terraform::new()?;
    let routes = format!("[{{ listener_arn = \"{listener}\" }}, {{ rule_arn = \"{rule}\" }}]");
    terraform.write(&stage.switch_over(Some("blue"), &routes, &more))?;
    terraform.apply().await?.ok()?;
    let own = format!(
        "[{{ listener_arn = \"{listener}\" }}, {{ rule_arn = \"{rule}\" }}, {{ listener_arn = \"{listener}\", priority = 10, conditions = {{ path_patterns = [\"/api/*\"] }} }}]"
    );
    terraform.write(&stage.switch_over(Some("green"), &own, &more))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&stage, 100).await?;
    for operation in ["ModifyListener", "ModifyRule", "DeleteRule"] {
        stage.aws.add_fault(denied(operation));
    }
    stage.apps["green"].set_broken(Some(500));
    let said = said(child).await?;
    said.has(&["ROLLBACK FAILED. Act now:", "To put it back by hand:"])?;
    stage.aws.clear_faults();
    ensure!(stage.shell().paste(&said).await? == 3, "{:?}", commands(&said));
    ensure!(stage.weights(0).await?.get("green").is_none_or(|weight| *weight == 0));
    ensure!(stage.rule_weights(&rule).await?.get("green").is_none_or(|weight| *weight == 0));
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
    ensure!(!rules.contains("/api/*"), "{rules}");
    ensure!(rules.contains("authenticate-oidc") && rules.contains("https://id.example.com/u"), "{rules}");
    // Terraform finds everything as it was.
    stage.apps["green"].set_broken(None);
    terraform.write(&stage.switch_over(Some("blue"), &routes, &more))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// A lock that nobody can read is deleted, under the profile that the provider block names.
#[tokio::test(flavor = "multi_thread")]
async fn a_strange_lock_is_deleted_by_hand() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let mut terraform = Terraform::new()?;
    let profiles = format!("[profile corp]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = testing\n");
    terraform.file("profiles", &profiles)?;
    let file = terraform.folder().join("profiles");
    terraform.set("AWS_CONFIG_FILE", &file.display().to_string());
    let configured = stage.switch(Some("blue"), "");
    let keys = format!("access_key   = \"{ACCESS_KEY}\"");
    let configured = configured.replace(&keys, "profile = \"corp\"").replace("  secret_key   = \"testing\"\n", "");
    terraform.write(&configured)?;
    let lock = json!({ "Name": "/myapp/current-live.rollout", "Type": "String", "Value": "whatever" });
    stage.client.ssm("PutParameter", lock).await?;
    let refused = terraform.apply().await?;
    refused.has(&["The lock record can't be read", "If nothing is under way, delete it:", "--profile corp"])?;
    let shell = Shell { profiles: Some(&file), ..stage.shell() };
    ensure!(shell.paste(&refused).await? == 1);
    ensure!(stage.client.parameter("/myapp/current-live.rollout").await?.is_none());
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// The oldest of a hundred versions has a label: found before any traffic moves, taken away by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_label_is_taken_away_by_hand() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    let write = json!({ "Name": "/myapp/current-live", "Type": "String", "Value": "blue", "Overwrite": true });
    for _ in 0..100 {
        stage.client.ssm("PutParameter", write.clone()).await?;
    }
    let label = json!({ "Name": "/myapp/current-live", "ParameterVersion": 1, "Labels": ["release.1"] });
    stage.client.ssm("LabelParameterVersion", label).await?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    let refused = terraform.apply().await?;
    refused.has(&["A label bars the next version of the parameter", "Nothing was changed"])?;
    ensure!(stage.shell().paste(&refused).await? == 1);
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    terraform.plan_is_empty().await
}

/// What a rule was to do, and which requests it was to take, is taken back by hand, with the traffic where it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_does_is_put_back_by_hand() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    let listener = stage.secure_listener(Leads::Color("blue")).await?;
    let green = stage.apps["green"].addresses()[0];
    let more = format!(
        "  strategy = {{ settle = \"0s\" }}\n  verification = {{ duration = \"60s\", interval = \"500ms\", http = [{{ url = \"http://{green}/\" }}] }}"
    );
    let tokens =
        "jwt_validation = { issuer = \"https://id.example.com\", jwks_endpoint = \"https://id.example.com/keys\" }";
    let rewrite = "host_header_rewrite = { regex = \"^(.*)$\", replace = \"in.$1\" }";
    let routes = |does: &str| {
        format!(
            "[{{ listener_arn = \"{listener}\", priority = 10, conditions = {{ path_patterns = [\"/api/*\"] }}, {does} }}]"
        )
    };
    let terraform = Terraform::new()?;
    let before = routes(&format!("{tokens}, {rewrite}"));
    terraform.write(&stage.switch_over(Some("blue"), &before, &more))?;
    terraform.apply().await?.ok()?;
    // It is to let everybody in, and to rewrite something else.
    let after = routes("url_rewrite = { regex = \"^/api/(.*)$\", replace = \"/$1\" }");
    terraform.write(&stage.switch_over(Some("green"), &after, &more))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
        if rules.contains("url-rewrite") && !rules.contains("jwt-validation") {
            break;
        }
        ensure!(tokio::time::Instant::now() < deadline, "the rule is not changed: {rules}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    stage.aws.add_fault(denied("ModifyRule"));
    stage.apps["green"].set_broken(Some(500));
    let said = said(child).await?;
    said.has(&["ROLLBACK FAILED. Act now:", "To put it back by hand:", "--transforms"])?;
    stage.aws.clear_faults();
    ensure!(stage.shell().paste(&said).await? == 2, "{:?}", commands(&said));
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
    ensure!(rules.contains("jwt-validation") && rules.contains("host-header-rewrite"), "{rules}");
    ensure!(!rules.contains("url-rewrite"), "{rules}");
    stage.apps["green"].set_broken(None);
    terraform.write(&stage.switch_over(Some("blue"), &before, &more))?;
    let plan = terraform.plan().await?;
    ensure!(!plan.text.contains("set rule 10"), "{}", plan.text);
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// Nothing moves but a rule's place, the record and a preview: when the last of it fails, place and record are put back by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_and_the_record_are_put_back_by_hand() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    let (users, preview) = (stage.listener(Leads::Color("blue")).await?, stage.listener(Leads::Color("green")).await?);
    let more = format!("  preview_routes = [{{ listener_arn = \"{preview}\" }}]");
    let routes = format!(
        "[{{ listener_arn = \"{users}\" }}, {{ listener_arn = \"{users}\", priority = 10, conditions = {{ path_patterns = [\"/api/*\"] }} }}]"
    );
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &routes, &more))?;
    terraform.apply().await?.ok()?;
    // Another hand moves the rule, leads the preview to the live color and writes into the record.
    let rules = async || stage.client.elb("DescribeRules", &[("ListenerArn", &users)]).await;
    let seen = rules().await?;
    let rule = seen.split("<RuleArn>").nth(1).and_then(|rest| rest.split('<').next()).context("no rule")?;
    let place = [("RulePriorities.member.1.RuleArn", rule), ("RulePriorities.member.1.Priority", "15")];
    stage.client.elb("SetRulePriorities", &place).await?;
    let group = stage.group("blue").to_owned();
    let forward = [
        ("ListenerArn", preview.as_str()),
        ("DefaultActions.member.1.Type", "forward"),
        ("DefaultActions.member.1.TargetGroupArn", group.as_str()),
    ];
    stage.client.elb("ModifyListener", &forward).await?;
    let other = json!({ "Name": "/myapp/current-live", "Type": "String", "Value": "it's green", "Overwrite": true });
    stage.client.ssm("PutParameter", other).await?;
    let refused = json!({ "error": { "status": 403, "code": "AccessDenied", "message": "not allowed" } });
    for fault in [
        json!({ "operation": "ModifyListener", "times": null, "action": refused }),
        json!({ "operation": "SetRulePriorities", "skip": 1, "times": null, "action": refused }),
        json!({ "operation": "PutParameter", "about": "\"/myapp/current-live\"", "skip": 1, "times": null, "action": refused }),
    ] {
        stage.aws.add_fault(serde_json::from_value(fault)?);
    }
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["ROLLBACK FAILED. Act now:", "To put it back by hand:", "set-rule-priorities", "put-parameter"])?;
    stage.aws.clear_faults();
    ensure!(rules().await?.contains("<Priority>10</Priority>"));
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("blue"));
    ensure!(stage.shell().paste(&said).await? == 2, "{}", said.text);
    ensure!(rules().await?.contains("<Priority>15</Priority>"));
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("it's green"));
    // The next apply does the whole of it.
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(1, "/").await? == "green" && stage.answers(0, "/").await? == "blue");
    terraform.plan_is_empty().await
}

/// The minimum and the size that a rollout took of Auto Scaling groups are given back by hand.
#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_given_back_by_hand() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.colors[0].2 = "min_size = 1, desired_capacity = 3".to_owned();
    stack.colors[1].2 = "min_size = 1, desired_capacity = 2".to_owned();
    stack.apply().await?;
    stack.active = "green";
    let never = "verification = { http = [{ url = \"http://127.0.0.1:9/\" }] }";
    let with = format!(
        "  capacity = {{ before = \"match_live\" }}\n  strategy = {{ settle = \"0s\" }}\n  {never}\n  routes   "
    );
    stack.terraform.write(&stack.text().replace("  routes   ", &with))?;
    // The floor of blue and the size of green are taken; nothing is given back.
    let denied = json!({ "error": { "status": 403, "code": "AccessDenied", "message": "not allowed" } });
    let fault = json!({ "operation": "UpdateAutoScalingGroup", "skip": 2, "times": null, "action": denied });
    stack.stage.aws.add_fault(serde_json::from_value(fault)?);
    let said = stack.terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["Rolled back: all routes are as before.", "The size of blue could not be given back", "By hand:"])?;
    stack.stage.aws.clear_faults();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    ensure!(size(&stack, "blue").await? == pair("3", "3") && size(&stack, "green").await?.1 == "3");
    stack.stage.shell().paste(&said).await.with_context(|| said.text.clone())?;
    ensure!(size(&stack, "blue").await? == pair("1", "3"), "{:?}", size(&stack, "blue").await?);
    ensure!(size(&stack, "green").await? == pair("1", "2"), "{:?}", size(&stack, "green").await?);
    stack.active = "blue";
    stack.apply().await
}

/// A roll fails and the group can't be led back to its former template: a person does.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_put_back_by_hand() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let template = async |stack: &Stack| {
        let group = [("AutoScalingGroupNames.member.1", "myapp-green")];
        let xml = stack.stage.client.autoscaling("DescribeAutoScalingGroups", &group).await?;
        terraform_tests::client::element(&xml, "Version").map(str::to_owned)
    };
    let former = template(&stack).await?;
    stack.colors[1].1 = "2.0".to_owned();
    stack.write()?;
    let denied = json!({ "error": { "status": 403, "code": "AccessDenied", "message": "not allowed" } });
    for fault in [
        json!({ "operation": "UpdateAutoScalingGroup", "skip": 1, "times": null, "action": denied }),
        json!({ "operation": "StartInstanceRefresh", "times": null, "action": denied }),
    ] {
        stack.stage.aws.add_fault(serde_json::from_value(fault)?);
    }
    let said = stack.terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["THE TEMPLATE COULD NOT BE PUT BACK", "By hand:"])?;
    stack.stage.aws.clear_faults();
    ensure!(template(&stack).await? != former);
    ensure!(stack.stage.shell().paste(&said).await? == 1, "{}", said.text);
    ensure!(template(&stack).await? == former);
    stack.apply().await
}
