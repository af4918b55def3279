//! Target groups as AWS has them, where moto forgets: the matcher of a gRPC group, and that a deleted one has no tags.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::body::Bytes;
use quick_xml::escape::escape;

use crate::core::aws_call::AwsCall;
use crate::core::xml;
use crate::node::config::View;
use crate::node::converge::Converge;

/// The gRPC codes that groups were given after their creation, by ARN.
#[derive(Debug, Default)]
pub(crate) struct GrpcCodes(Mutex<BTreeMap<String, String>>);

impl GrpcCodes {
    /// Notes what a successful call says.
    pub(crate) fn learn(&self, call: &AwsCall) {
        if let ("ModifyTargetGroup", Some(arn), Some(codes)) =
            (call.operation.as_str(), call.parameter("TargetGroupArn"), call.parameter("Matcher.GrpcCode"))
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(arn.to_owned(), escape(codes).into_owned());
        }
    }

    /// moto's answer about target groups with the codes of now, and with the load balancers that have a group in some
    /// action: moto forgets those of weighted forwards.
    pub(crate) fn rewrite(&self, xml: &str, nodes: &View) -> String {
        const START: &str = "<member><TargetGroupArn>";
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts = xml.split(START);
        let mut rewritten = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            rewritten.push_str(START);
            let arn = part.split('<').next().unwrap_or_default();
            let of: String = nodes.using(arn).map(|balancer| format!("<member>{}</member>", balancer.arn)).collect();
            let part = xml::with_content(part, "LoadBalancerArns", &of);
            match known.get(arn) {
                Some(codes) => rewritten.push_str(&xml::with_content(&part, "GrpcCode", codes)),
                None => rewritten.push_str(&part),
            }
        }
        rewritten
    }
}

/// Tags of a target group that is gone: moto answers with none.
pub(crate) async fn refuse_gone(converge: &Arc<Converge>, call: &AwsCall) -> Option<Response<Bytes>> {
    let asked = (1..=20).map_while(|n| call.parameter(&format!("ResourceArns.member.{n}")));
    let asked: Vec<&str> = asked.filter(|arn| arn.contains(":targetgroup/")).collect();
    let is_known = || asked.iter().all(|arn| converge.control().target_groups.contains_key(*arn));
    if is_known() {
        return None;
    }
    // One made behind our back is read now.
    converge.refresh().await.ok()?;
    (!is_known()).then(|| call.refuse("TargetGroupNotFound", "One or more target groups not found"))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Local, first};

    #[tokio::test]
    async fn grpc_codes_are_kept_and_deleted_groups_have_no_tags() {
        let local = Local::start().await;
        let vpc = first(&local.query("ec2", "DescribeVpcs", &[]).await, "vpcId");
        let parameters = [
            ("Name", "grpc"),
            ("Protocol", "HTTP"),
            ("ProtocolVersion", "GRPC"),
            ("Port", "80"),
            ("VpcId", &*vpc),
            ("Matcher.GrpcCode", "0"),
        ];
        let arn = first(&local.elb("CreateTargetGroup", &parameters).await, "TargetGroupArn");
        local.elb("ModifyTargetGroup", &[("TargetGroupArn", &arn), ("Matcher.GrpcCode", "0-5")]).await;
        assert_eq!(first(&local.elb("DescribeTargetGroups", &[]).await, "GrpcCode"), "0-5");
        local.elb("DescribeTags", &[("ResourceArns.member.1", &arn)]).await;
        local.elb("DeleteTargetGroup", &[("TargetGroupArn", &arn)]).await;
        let asked = [("ResourceArns.member.1", arn.as_str())];
        let (_, refused) = local.try_query("elasticloadbalancing", "DescribeTags", &asked).await;
        assert_eq!(first(&refused, "Code"), "TargetGroupNotFound");
        local.aws.stop().await;
    }
}
