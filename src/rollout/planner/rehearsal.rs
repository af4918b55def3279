//! A first percent goes over and back, so that the way back is known before anybody needs it.

use std::time::Duration;

use super::route_steps::split;
use super::{Direction, Draft};
use crate::rollout::intent::Intent;
use crate::rollout::route::RouteSpec;
use crate::rollout::runbook::Step;
use crate::rollout::strategy::Shift;
use crate::rollout::world::World;

/// So much goes over, in tenths of a percent.
const PERMILLE: u32 = 10;

impl Draft<'_> {
    /// Leads a percent of all routes over and back, but for those that keep their clients: those would not come back. Where an earlier
    /// rehearsal left a percent, that goes back.
    pub(super) fn rehearse(&mut self, color: &str, direction: Direction) {
        let (intent, strategy) = (self.intent, &self.intent.strategy);
        if !strategy.rehearse || !matches!(direction, Direction::Start | Direction::Resume) {
            return;
        }
        let first = strategy.steps.first().map(|step| step.permille).into_iter().chain(strategy.up_to);
        let permille = first.fold(PERMILLE, u32::min);
        let most = f64::from(permille) / 10.0 + 0.01;
        let has_more =
            intent.routes.iter().any(|route| self.is_shared(route, color) && self.share(route, color) > most);
        if has_more {
            return;
        }
        // Stickiness is for those who are to stay.
        let plain = Intent { stickiness: None, ..intent.clone() };
        let step = |world: &World, route: &RouteSpec, permille: u32, words: &str| {
            let seen = world.routes.get(&route.key())?;
            let mut step = split(&plain, world, route, color, Shift { permille, hold: Duration::ZERO })?;
            let Step::Route { after, words: told, .. } = &mut step else { return None };
            told.push_str(words);
            (!after.is_sticky() && !seen.terminal.is_sticky()).then_some(step)
        };
        let has_none = |route: &&RouteSpec| self.share(route, color) <= 0.0;
        let over = intent.routes.iter().filter(has_none);
        let over: Vec<Step> =
            over.filter_map(|route| step(&self.world, route, permille, ", to rehearse the way back")).collect();
        self.push(over);
        let has_some = |route: &&RouteSpec| self.share(route, color) > 0.0;
        let back = intent.routes.iter().filter(has_some);
        let back: Vec<Step> = back.filter_map(|route| step(&self.world, route, 0, ", as it is rehearsed")).collect();
        if !back.is_empty() {
            self.push(back);
            self.runbook.rehearsed = Some(self.runbook.last_stage());
        }
    }
}
