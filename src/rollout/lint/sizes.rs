//! How large the colors are while the traffic moves.

use super::{Kind, Walk};
use crate::rollout::runbook::Step;

pub(super) fn judge(walk: &mut Walk<'_>) {
    if !walk.is_rollout() {
        return;
    }
    let arrival = walk.arrival();
    let gained = walk.gains().iter().filter(|gain| !walk.is_exempt(gain)).map(|gain| gain.at.stage).min();
    for (id, step) in walk.steps() {
        let Step::Capacity { color, before, after, .. } = step else { continue };
        if walk.follows() {
            walk.find(
                Kind::FollowerSizes,
                Some(id),
                format!("{color} would get another size or minimum, although active is omitted"),
            );
        }
        let shrinks = after.desired < before.desired || after.min < before.min;
        if shrinks && arrival.is_some_and(|arrival| id.stage <= arrival) {
            let message = format!("{color} would be made smaller before the traffic and the record have moved");
            walk.find(Kind::ShrinksBeforeRecord, Some(id), message);
        }
        let serves = walk.intent.environments.get(color).is_some_and(|one| walk.most(id.stage, one) > 0.0);
        if after.desired < before.desired && serves {
            let message = format!(
                "{color} gets production traffic and would be lowered from {} to {}",
                before.desired, after.desired
            );
            walk.find(Kind::ShrinksLiveColor, Some(id), message);
        }
        if after.desired > before.desired && gained.is_some_and(|gained| id.stage >= gained) {
            let message = format!("{color} would be raised only after its traffic has come");
            walk.find(Kind::RaisedAfterTraffic, Some(id), message);
        }
    }
}
