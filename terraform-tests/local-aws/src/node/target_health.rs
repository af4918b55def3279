//! The answer to `DescribeTargetHealth`, from real checks, in the XML of AWS.

use std::fmt::Write;

use hyper::Response;
use hyper::body::Bytes;
use quick_xml::escape::escape;

use crate::core::aws_call::AwsCall;
use crate::core::describe;
use crate::core::moto::{MotoClient, Scope};
use crate::node::checker::Checker;
use crate::node::config::{Target, TargetGroup};
use crate::node::converge::Converge;
use crate::node::health::Wording;

/// A target in the request: the port is optional.
type Asked = (String, Option<u16>);

/// `None`: let moto answer, for it knows how to refuse.
pub(crate) async fn answer(
    moto: &MotoClient,
    converge: &std::sync::Arc<Converge>,
    checker: &Checker,
    call: &AwsCall,
) -> Option<Response<Bytes>> {
    let (scope, arn) = (call.scope.as_ref()?, call.parameter("TargetGroupArn")?);
    let response = moto.call(scope, "DescribeTargetHealth", &[("TargetGroupArn", arn)]).await.ok()?;
    if !response.status().is_success() {
        return Some(response);
    }
    let group = known_group(converge, scope, arn).await?;
    let listed: describe::TargetHealth = quick_xml::de::from_str(std::str::from_utf8(response.body()).ok()?).ok()?;
    let listed = listed.result.list.member.into_iter();
    let registered = listed.map(|found| Target::new(found.target, group.port));
    let registered: Vec<Target> = registered.filter(|target| !converge.is_void(target)).collect();
    let in_use = converge.control().groups_in_use().contains(arn);
    let worded = select(&registered, &asked(call), group.port).into_iter().map(|(target, is_registered)| {
        let wording = match (is_registered, in_use, group.check.enabled) {
            (false, _, _) => Wording::not_registered(),
            (true, false, _) => Wording::not_in_use(),
            (true, true, false) => Wording::checks_disabled(),
            (true, true, true) => checker.state(arn, &target).into(),
        };
        (target, wording)
    });
    let xml = render(&group, worded);
    let mut answer = Response::new(Bytes::from(xml));
    answer.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("text/xml"));
    if let Some(id) = response.headers().get("x-amzn-requestid") {
        answer.headers_mut().insert("x-amzn-requestid", id.clone());
    }
    Some(answer)
}

/// The group as last read; one made behind our back is read now.
async fn known_group(converge: &std::sync::Arc<Converge>, scope: &Scope, arn: &str) -> Option<TargetGroup> {
    if let Some(group) = converge.control().target_groups.get(arn) {
        return Some(group.clone());
    }
    converge.learn(scope).await;
    converge.refresh().await.ok()?;
    converge.control().target_groups.get(arn).cloned()
}

fn asked(call: &AwsCall) -> Vec<Asked> {
    let mut asked = Vec::new();
    for n in 1..=1000 {
        let Some(id) = call.parameter(&format!("Targets.member.{n}.Id")) else { break };
        let port = call.parameter(&format!("Targets.member.{n}.Port")).and_then(|port| port.parse().ok());
        asked.push((id.to_owned(), port));
    }
    asked
}

/// The targets to answer for, and whether each is registered: all that are, or those asked for.
fn select(registered: &[Target], asked: &[Asked], group_port: u16) -> Vec<(Target, bool)> {
    if asked.is_empty() {
        return registered.iter().map(|target| (target.clone(), true)).collect();
    }
    let mut selected = Vec::new();
    for (id, port) in asked {
        let found: Vec<_> = registered
            .iter()
            .filter(|target| target.id == *id && port.is_none_or(|port| port == target.port))
            .map(|target| (target.clone(), true))
            .collect();
        if found.is_empty() {
            selected.push((Target { id: id.clone(), port: port.unwrap_or(group_port) }, false));
        }
        selected.extend(found);
    }
    selected
}

fn render(group: &TargetGroup, targets: impl Iterator<Item = (Target, Wording)>) -> String {
    let mut xml = String::from(
        "<DescribeTargetHealthResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <DescribeTargetHealthResult><TargetHealthDescriptions>",
    );
    for (target, wording) in targets {
        let check_port = group.check.port.unwrap_or(target.port);
        // Writing to a String cannot fail.
        let _ = write!(
            xml,
            "<member><Target><Id>{}</Id><Port>{}</Port></Target><HealthCheckPort>{check_port}</HealthCheckPort>\
             <TargetHealth><State>{}</State>",
            escape(target.id.as_str()),
            target.port,
            wording.state
        );
        if !wording.reason.is_empty() {
            let description = escape(wording.description.as_str());
            let _ = write!(xml, "<Reason>{}</Reason><Description>{description}</Description>", wording.reason);
        }
        xml.push_str("</TargetHealth></member>");
    }
    xml.push_str(
        "</TargetHealthDescriptions></DescribeTargetHealthResult>\
         <ResponseMetadata><RequestId>local-aws</RequestId></ResponseMetadata></DescribeTargetHealthResponse>",
    );
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_for_targets_are_matched_by_id_and_port() {
        let target = |id: &str, port| Target { id: id.to_owned(), port };
        let registered = [target("127.0.0.2", 8080), target("127.0.0.3", 8080)];
        assert_eq!(select(&registered, &[], 80).len(), 2);
        let asked = [("127.0.0.3".to_owned(), None), ("127.0.0.2".to_owned(), Some(1)), ("x".to_owned(), None)];
        let expected = [(target("127.0.0.3", 8080), true), (target("127.0.0.2", 1), false), (target("x", 80), false)];
        assert_eq!(select(&registered, &asked, 80), expected);
    }
}
