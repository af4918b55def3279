//! The rules of a security group one by one, as EC2 keeps them: a written rule with three networks is three of them.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::spec::{Instances, SecurityRule};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleDirection {
    /// To the instances.
    Ingress,
    /// From the instances.
    Egress,
}

/// The other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A network, IPv4.
    V4(String),
    /// A network, IPv6.
    V6(String),
    /// A prefix list.
    Prefixes(String),
    /// Members of another security group.
    Group(String),
    /// Members of the same security group.
    Own,
}

/// One rule. Ports are −1 where all or none are meant, as EC2 has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Which way.
    pub direction: RuleDirection,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `-1` for all, or a protocol's number.
    pub protocol: String,
    /// The first port, or the ICMP type.
    pub from_port: i32,
    /// The last port, or the ICMP code.
    pub to_port: i32,
    /// The other side.
    pub peer: Peer,
}

/// Rules with their descriptions.
pub type Rules = BTreeMap<Rule, Option<String>>;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, way) = match self.direction {
            RuleDirection::Ingress => ("ingress", "from"),
            RuleDirection::Egress => ("egress", "to"),
        };
        let protocol = if self.protocol == "-1" { "all" } else { &self.protocol };
        write!(f, "{verb} {protocol}")?;
        if self.protocol != "-1" {
            match self.from_port == self.to_port {
                true => write!(f, " {}", self.from_port)?,
                false => write!(f, " {}-{}", self.from_port, self.to_port)?,
            }
        }
        match &self.peer {
            Peer::V4(peer) | Peer::V6(peer) | Peer::Prefixes(peer) | Peer::Group(peer) => write!(f, " {way} {peer}"),
            Peer::Own => write!(f, " {way} itself"),
        }
    }
}

/// The rules that a configuration means.
pub fn rules(instances: &Instances) -> Rules {
    let mut all = Rules::new();
    for (direction, written) in
        [(RuleDirection::Ingress, Some(&instances.ingress)), (RuleDirection::Egress, instances.egress.as_ref())]
    {
        for rule in written.into_iter().flatten() {
            all.extend(split(rule, direction));
        }
    }
    all
}

fn split(rule: &SecurityRule, direction: RuleDirection) -> Vec<(Rule, Option<String>)> {
    let protocol = match rule.protocol.to_ascii_lowercase().as_str() {
        "all" | "-1" => "-1".to_owned(),
        // EC2 answers with the names of these, whichever way they were written.
        "6" => "tcp".to_owned(),
        "17" => "udp".to_owned(),
        "1" => "icmp".to_owned(),
        "58" => "icmpv6".to_owned(),
        other => other.to_owned(),
    };
    // Other protocols have no ports.
    let ports = matches!(protocol.as_str(), "tcp" | "udp" | "icmp" | "icmpv6");
    let from_port = if ports { rule.from_port.unwrap_or(-1) } else { -1 };
    // Of ICMP the second number is a code, and left out it means all of them.
    let same = rule.from_port.filter(|_| !protocol.starts_with("icmp"));
    let to_port = if ports { rule.to_port.or(same).unwrap_or(-1) } else { -1 };
    let peers = rule.cidr_blocks.iter().cloned().map(Peer::V4);
    let peers = peers.chain(rule.ipv6_cidr_blocks.iter().cloned().map(Peer::V6));
    let peers = peers.chain(rule.prefix_list_ids.iter().cloned().map(Peer::Prefixes));
    let peers = peers.chain(rule.security_group_ids.iter().cloned().map(Peer::Group));
    let peers = peers.chain((rule.own == Some(true)).then_some(Peer::Own));
    peers
        .map(|peer| {
            let description = rule.description.clone().filter(|text| !text.is_empty());
            (Rule { direction, protocol: protocol.clone(), from_port, to_port, peer }, description)
        })
        .collect()
}

impl Rule {
    /// Whether it lets TCP or everything in at one of these ports; where no port is known, at any.
    pub fn opens_one_of(&self, ports: &[i32]) -> bool {
        let at = |port: &i32| self.from_port == -1 || (self.from_port..=self.to_port).contains(port);
        let serves = matches!(self.protocol.as_str(), "tcp" | "udp" | "-1");
        self.direction == RuleDirection::Ingress && serves && (ports.is_empty() || ports.iter().any(at))
    }

    /// Whether everything that the other one lets through goes through this one as well.
    fn covers(&self, other: &Rule) -> bool {
        let all = self.protocol == "-1";
        let ports = all
            || self.from_port == -1
            || (self.from_port <= other.from_port && other.to_port <= self.to_port && other.from_port != -1)
            || (self.from_port, self.to_port) == (other.from_port, other.to_port);
        let protocol = all || self.protocol == other.protocol;
        self.direction == other.direction && protocol && ports && self.peer.covers(&other.peer)
    }
}

impl Peer {
    fn covers(&self, other: &Peer) -> bool {
        match (self, other) {
            (Peer::V4(own), Peer::V4(other)) => contains(own, other, 32),
            (Peer::V6(own), Peer::V6(other)) => contains(own, other, 128),
            (own, other) => own == other,
        }
    }
}

/// Whether one network has the other in it; `bits` is the length of an address.
fn contains(network: &str, other: &str, bits: u32) -> bool {
    let parse = |text: &str| {
        let (address, length) = text.split_once('/')?;
        let address = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let length = length.parse::<u32>().ok().filter(|length| *length <= bits)?;
        Some((address, length))
    };
    let (Some((own, length)), Some((other, longer))) = (parse(network), parse(other)) else { return network == other };
    let part = |address: u128| address.checked_shr(bits - length).unwrap_or_default();
    length <= longer && part(own) == part(other)
}

/// Those of the rules that none of the others covers. Several that cover one together aren't seen as such.
pub fn uncovered<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    others: impl Iterator<Item = &'r Rule> + Clone,
) -> Vec<Rule> {
    rules.filter(|rule| !others.clone().any(|other| other.covers(rule))).cloned().collect()
}

/// Rules as somebody would write them who has only EC2 to look at: one for each.
pub(super) fn written(rules: &Rules, direction: RuleDirection) -> Vec<SecurityRule> {
    let of = rules.iter().filter(|(rule, _)| rule.direction == direction);
    of.map(|(rule, description)| {
        let all = rule.protocol == "-1";
        let mut out = SecurityRule {
            protocol: rule.protocol.clone(),
            from_port: (!all).then_some(rule.from_port),
            to_port: (!all).then_some(rule.to_port),
            description: description.clone(),
            ..SecurityRule::default()
        };
        match &rule.peer {
            Peer::V4(peer) => out.cidr_blocks.push(peer.clone()),
            Peer::V6(peer) => out.ipv6_cidr_blocks.push(peer.clone()),
            Peer::Prefixes(peer) => out.prefix_list_ids.push(peer.clone()),
            Peer::Group(peer) => out.security_group_ids.push(peer.clone()),
            Peer::Own => out.own = Some(true),
        }
        out
    })
    .collect()
}

impl Instances {
    /// Takes over the rules that were seen, if they mean something else than those that are written here.
    pub fn set_rules(&mut self, seen: &Rules) {
        let own = rules(self);
        for direction in [RuleDirection::Ingress, RuleDirection::Egress] {
            let of = |rules: &Rules| -> BTreeSet<(Rule, Option<String>)> {
                let of = rules.iter().filter(|(rule, _)| rule.direction == direction);
                of.map(|(rule, text)| (rule.clone(), text.clone())).collect()
            };
            if of(&own) == of(seen) {
                continue;
            }
            let written = written(seen, direction);
            match direction {
                RuleDirection::Ingress => self.ingress = written,
                RuleDirection::Egress => self.egress = Some(written),
            }
        }
    }
}
