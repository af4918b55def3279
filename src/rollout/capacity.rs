//! How much a color can carry: room for the one to go live, and a floor under the one that is.

use serde::{Deserialize, Serialize};

/// What notes on a group or a service the minimum that a rollout took away.
pub const PINNED_TAG: &str = "bluegreen:pinned-min";

/// What keeps a color's instances or tasks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalable {
    /// An Auto Scaling group by its name.
    ScalingGroup(String),
    /// An ECS service by its ARN.
    Service(String),
}

/// The size of a color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// The least; none for a service that Application Auto Scaling doesn't keep.
    pub min: Option<i32>,
    /// The most; for such a service as many as there can be.
    pub max: i32,
    /// How many there are to be now.
    pub desired: i32,
    /// The minimum that a rollout took away and has to give back.
    pub pinned: Option<i32>,
}

/// What is wished of the colors' sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityPolicy {
    /// Before a color gets traffic.
    pub before: Before,
    /// What the other one keeps afterwards; none: what it has.
    pub after_idle: Option<i32>,
}

/// How large a color shall be before it gets traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// As large as the live one.
    MatchLive,
    /// So large.
    Number(i32),
}

impl Before {
    /// How many that is, where the live color has this size.
    pub(super) fn wanted(self, live: Option<Capacity>) -> Option<i32> {
        match self {
            Before::MatchLive => live.map(|live| live.desired),
            Before::Number(number) => Some(number),
        }
    }
}

impl Capacity {
    /// With its minimum held at what there is now, so that no scale-in takes anything away.
    pub(super) fn pin(self) -> Capacity {
        match self.min {
            Some(min) if min < self.desired && !self.is_too_large() => {
                Capacity { min: Some(self.desired), pinned: Some(self.pinned.unwrap_or(min)), ..self }
            }
            _ => self,
        }
    }

    /// A service can be larger than its maximum; whoever then touches its bounds makes AWS shrink it.
    fn is_too_large(self) -> bool {
        self.desired > self.max
    }

    /// The least that it can be lowered to.
    pub(super) fn least(self) -> i32 {
        self.min.unwrap_or_default()
    }

    /// With its own minimum again.
    pub(super) fn unpin(self) -> Capacity {
        if self.is_too_large() {
            return self;
        }
        Capacity { min: self.min.map(|min| self.pinned.unwrap_or(min)), pinned: None, ..self }
    }

    /// Whether it is as it shall be: scaling may have gone further the same way meanwhile.
    pub(super) fn is_reached(self, before: Capacity, after: Capacity) -> bool {
        let size = match after.desired.cmp(&before.desired) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => self.desired >= after.desired,
            std::cmp::Ordering::Less => self.desired <= after.desired,
        };
        size && self.min == after.min && self.pinned == after.pinned
    }
}

/// The change in words.
pub(super) fn summary(color: &str, before: Capacity, after: Capacity) -> String {
    let mut words = Vec::new();
    if after.min > before.min {
        words.push(format!("hold the minimum of {color} at {} (it is {})", after.least(), before.least()));
    }
    if after.min < before.min {
        words.push(format!("give {color} its minimum of {} back", after.least()));
    }
    if after.desired > before.desired {
        words.push(format!("raise {color} from {} to {}", before.desired, after.desired));
    }
    if after.desired < before.desired {
        words.push(format!("lower {color} from {} to {}", before.desired, after.desired));
    }
    if words.is_empty() {
        words.push(format!("strike out that the minimum of {color} is held"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS shrinks a service that is larger than its maximum as soon as its bounds are touched.
    #[test]
    fn what_is_larger_than_its_maximum_is_left_alone() {
        let large = Capacity { min: Some(2), max: 6, desired: 8, pinned: None };
        assert_eq!(large.pin(), large);
        let held = Capacity { min: Some(6), pinned: Some(2), ..large };
        assert_eq!(held.unpin(), held);
        let fits = Capacity { desired: 6, ..large };
        assert_eq!(fits.pin(), Capacity { min: Some(6), pinned: Some(2), ..fits });
        assert_eq!(fits.pin().unpin(), fits);
    }
}
