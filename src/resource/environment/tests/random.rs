//! Random stories of two colors: made, released, switched, killed, stopped, renamed, replaced, changed by others. Whatever
//! comes, a color that serves users is never hurt, a state names only what there is, a way to switch away is always there,
//! and nothing is left at the end.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{Stage, group, instances, service, stage, text};
use crate::cancel::CancelSource;
use crate::resource::testing;
use crate::resource::testing::words;
use crate::run::rollout::in_memory::Fault;
use crate::tf_provider::{Cancel, Diagnostics, Planned, Stored};

/// How many stories are tried after each edit, and by `make test`.
const CASES: u32 = 24;
const ALL: u32 = 120;
const COLORS: [&str; 2] = ["blue", "green"];

/// What happens, to which color.
#[derive(Clone, Debug)]
enum Act {
    /// Another release, image or revision.
    Release,
    /// A setting that hurts nobody.
    Edit(u8),
    /// Users are led to the color.
    Switch,
    /// Somebody changes something without Terraform.
    Drift(u8),
    /// Somebody deletes something without Terraform.
    Delete(u8),
    /// The object is replaced, its heir made before it goes, or after.
    Replace(bool),
    /// The configuration says what it said when it was applied last.
    Revert,
}

/// What goes wrong while it is applied.
#[derive(Clone, Debug)]
enum Trouble {
    Nothing,
    /// At this call.
    Call(usize, u8),
    /// After so many seconds Terraform is asked to stop.
    Stop(u64),
    /// After so many seconds users are led to the color.
    Users(u64),
    /// Somebody changes something after the plan.
    Saved(u8),
    /// So many reads don't find what is there.
    Hidden(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Release),
        2 => (0_u8..4).prop_map(Act::Edit),
        3 => Just(Act::Switch),
        2 => (0_u8..6).prop_map(Act::Drift),
        1 => (0_u8..4).prop_map(Act::Delete),
        1 => any::<bool>().prop_map(Act::Replace),
        1 => Just(Act::Revert),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        4 => Just(Trouble::Nothing),
        2 => (0_usize..9, 0_u8..4).prop_map(|(call, kind)| Trouble::Call(call, kind)),
        1 => (0_u64..130).prop_map(Trouble::Stop),
        2 => (0_u64..130).prop_map(Trouble::Users),
        1 => (0_u8..6).prop_map(Trouble::Saved),
        1 => (1_usize..3).prop_map(Trouble::Hidden),
    ]
}

fn story() -> impl Strategy<Value = (bool, Vec<(usize, Act, Trouble)>)> {
    (any::<bool>(), prop::collection::vec((0_usize..2, act(), trouble()), 1..8))
}

/// The two colors and what is known of them.
struct Play {
    stage: Stage,
    /// What each is configured to be, and what was applied last.
    wished: [serde_json::Value; 2],
    applied: [Option<serde_json::Value>; 2],
    stored: [Option<Stored>; 2],
    /// How many releases there were.
    releases: usize,
}

impl Play {
    fn new(ecs: bool) -> Play {
        let of = |color: &str| if ecs { service(color, &json!({})) } else { instances(color, &json!({})) };
        let stage = stage();
        stage.lead(&[("elsewhere", 100)]);
        Play { stage, wished: COLORS.map(of), applied: [None, None], stored: [None, None], releases: 1 }
    }

    fn groups(&self) -> [Option<String>; 2] {
        [0, 1].map(|n| self.stored[n].as_ref().map(group).filter(|arn| self.stage.cloud.has(arn)))
    }

    fn live(&self) -> Option<usize> {
        let world = self.stage.fake.world();
        let route = world.routes.get(super::LISTENER)?;
        self.groups().iter().position(|arn| arn.as_ref().is_some_and(|arn| route.terminal.share(arn) > 0.0))
    }

    /// Users are led to one of them, as by a switch: the other one stays in the route.
    fn switch(&self, color: usize) {
        lead(&self.stage, &self.groups(), color);
    }

    fn edit(&mut self, color: usize, act: &Act) {
        self.releases += 1;
        let (release, wish) = (self.releases.to_string(), &mut self.wished[color]);
        match act {
            Act::Release => {
                wish["release"] = json!(release);
                match wish.get_mut("instances") {
                    Some(instances) => instances["image_id"] = json!(format!("ami-{release}")),
                    None => wish["service"]["image"] = json!(format!("app:{release}")),
                }
            }
            Act::Edit(0) => wish["tags"] = json!({ "round": release }),
            Act::Edit(1) => wish["target_group"]["deregistration_delay"] = json!(self.releases),
            Act::Edit(_) => match wish.get_mut("instances") {
                Some(instances) => instances["max_size"] = json!(4 + self.releases),
                None => wish["service"]["health_check_grace_period"] = json!(self.releases),
            },
            Act::Revert => {
                if let Some(applied) = &self.applied[color] {
                    *wish = applied.clone();
                }
            }
            _ => {}
        }
    }

    fn drift(&self, color: usize, kind: u8) {
        let (Some(stored), cloud) = (&self.stored[color], &self.stage.cloud) else { return };
        let (name, arn) = (text(stored, "autoscaling_group_name"), group(stored));
        match kind {
            0 | 1 => {
                let version = cloud.add_version(&text(stored, "launch_template_id"), |instances, _| {
                    "ami-hotfix".clone_into(&mut instances.image_id);
                });
                let version = if kind == 0 { version.to_string() } else { "$Latest".to_owned() };
                cloud.meddle(&name, |group| group.template.1 = version);
            }
            2 => cloud.meddle(&name, |group| {
                (group.settings.min_size, group.settings.desired_capacity) = (3, Some(3));
            }),
            3 => cloud.retag(&arn, |tags| drop(tags.remove("round"))),
            4 => cloud.meddle_with_group(&arn, |group| {
                if let Some(check) = &mut group.health_check {
                    check.path = Some("/hotfix".to_owned());
                }
            }),
            _ => cloud.meddle_with_group(&arn, |group| group.deregistration_delay = Some(7)),
        }
    }

    fn delete(&self, color: usize, kind: u8) {
        let Some(stored) = &self.stored[color] else { return };
        let (cloud, live) = (&self.stage.cloud, self.live() == Some(color));
        let name = match kind {
            0 => "launch_template_id",
            1 if !live => "autoscaling_group_name",
            2 if !live => "service_arn",
            // A group that a route has isn't deleted by anybody.
            3 if !self.stage.fake.world().routes.values().any(|seen| seen.terminal.mentions(&group(stored))) => {
                "target_group_arn"
            }
            _ => return,
        };
        cloud.remove(&text(stored, name));
    }

    fn arm(&self, color: usize, trouble: &Trouble) {
        match trouble {
            Trouble::Call(call, kind) => {
                let kinds = [Fault::Refused, Fault::LostAnswer, Fault::DiesBefore, Fault::DiesAfter];
                self.stage.cloud.fault(*call, kinds[usize::from(*kind)]);
            }
            Trouble::Hidden(reads) => {
                if let Some(stored) = &self.stored[color] {
                    for name in ["target_group_arn", "security_group_id", "launch_template_id", "service_arn"] {
                        self.stage.cloud.hide(&text(stored, name), *reads);
                    }
                }
            }
            _ => {}
        }
    }

    /// One apply of a color, from its refresh on.
    async fn apply(
        &mut self,
        color: usize,
        (replace, first): (bool, bool),
        trouble: &Trouble,
    ) -> Result<(), TestCaseError> {
        self.stage.cloud.heal();
        let process = self.stage.restarted();
        let before = match &self.stored[color] {
            Some(stored) => {
                let (read, told) = process.read(stored).await;
                prop_assert!(!told.has_errors(), "{}", words(&told));
                Some(read).filter(|read| read.state.is_some())
            }
            None => None,
        };
        self.stored[color].clone_from(&before);
        self.check_way_out(color).await?;
        let (wish, applied) = (self.wished[color].clone(), self.applied[color].clone());
        let config = process.config(&wish);
        if let Some(old) = before.as_ref().filter(|_| replace) {
            let gone = process.plan_destroy(old).await;
            if !gone.has_errors() {
                return self.replace(color, (&process, old.clone()), (wish, first), trouble).await;
            }
        }
        let (planned, told) = process.plan(&config, before.as_ref()).await;
        if told.has_errors() {
            let asks = Some(&wish) != applied.as_ref() && self.live() == Some(color);
            prop_assert!(asks || before.is_none(), "nothing is asked, and yet: {}", words(&told));
            return Ok(());
        }
        if !planned.replace.is_empty() {
            return Ok(());
        }
        let outcome = self.carry_out(color, &wish, before.as_ref(), (planned, told), trouble).await;
        if let Some((stored, told)) = outcome {
            let made = !told.has_errors();
            self.stored[color] = Some(stored).filter(|stored| stored.state.is_some());
            if made {
                self.applied[color] = Some(wish);
            } else if before.is_none() && self.stored[color].is_some() {
                // Tainted: Terraform destroys it before it makes another one.
                self.stage.cloud.heal();
                self.destroy(color).await?;
            }
        }
        self.check(color).await
    }

    async fn replace(
        &mut self,
        color: usize,
        (process, old): (&Stage, Stored),
        (wish, first): (serde_json::Value, bool),
        trouble: &Trouble,
    ) -> Result<(), TestCaseError> {
        let planned = process.plan(&process.config(&wish), None).await;
        if planned.1.has_errors() {
            return Ok(());
        }
        if !first {
            self.stage.cloud.heal();
            self.stored[color] = Some(old);
            self.destroy(color).await?;
            if self.stored[color].is_some() {
                return self.check(color).await;
            }
            self.applied[color] = None;
        }
        // A create that is killed is tried again: what it left must not stay.
        let mut troubles = vec![Trouble::Nothing, Trouble::Nothing, trouble.clone()];
        while let Some(trouble) = troubles.pop() {
            self.stage.cloud.heal();
            let again = (planned.0.clone(), Diagnostics::new());
            let Some((new, told)) = self.carry_out(color, &wish, None, again, &trouble).await else { continue };
            let Some(_) = &new.state else { continue };
            if told.has_errors() {
                self.stage.cloud.heal();
                let (left, told) = self.stage.destroy(&new).await;
                prop_assert!(left.state.is_none(), "{}", words(&told));
                continue;
            }
            // Its faults are over: they were its own.
            self.check(color).await?;
            self.stage.cloud.heal();
            if first {
                let live = self.live() == Some(color);
                let old = self.stored[color].take().expect("there is one");
                let (left, told) = self.stage.destroy(&old).await;
                prop_assert!(left.state.is_none() || live, "{}", words(&told));
                if left.state.is_some() {
                    // It went live meanwhile and stays for now; a later apply lets it go.
                    self.stage.lead(&[("elsewhere", 100)]);
                    let (left, told) = self.stage.destroy(&left).await;
                    prop_assert!(left.state.is_none(), "{}", words(&told));
                }
            }
            (self.stored[color], self.applied[color]) = (Some(new), Some(wish));
            break;
        }
        self.check(color).await
    }

    /// What came of an apply; nothing if the process died.
    async fn carry_out(
        &self,
        color: usize,
        wish: &serde_json::Value,
        before: Option<&Stored>,
        planned: (Planned, Diagnostics),
        trouble: &Trouble,
    ) -> Option<(Stored, Diagnostics)> {
        self.arm(color, trouble);
        if let Trouble::Saved(kind) = trouble {
            self.drift(color, *kind);
        }
        let config = self.stage.config(wish);
        let source = CancelSource::new();
        let cancel = if matches!(trouble, Trouble::Stop(_)) { source.token() } else { Cancel::never() };
        let apply = self.stage.apply_planned(&config, before, planned, cancel);
        let groups = self.groups();
        let meanwhile = async {
            match trouble {
                Trouble::Stop(seconds) => {
                    tokio::time::sleep(Duration::from_secs(*seconds)).await;
                    source.stop();
                }
                Trouble::Users(seconds) => {
                    tokio::time::sleep(Duration::from_secs(*seconds)).await;
                    lead(&self.stage, &groups, color);
                }
                _ => {}
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = apply => Some(outcome),
            () = self.stage.cloud.died() => None,
            () = meanwhile => None,
        }
    }

    /// A color that serves users was not hurt.
    async fn check(&self, color: usize) -> Result<(), TestCaseError> {
        for call in self.stage.cloud.calls().iter().filter(|call| call.live) {
            prop_assert!(call.is_harmless(), "of a color that serves users: {}", call.what);
        }
        let Some(stored) = &self.stored[color] else { return Ok(()) };
        let (read, told) = self.stage.restarted().read(stored).await;
        prop_assert!(!told.has_errors(), "{}", words(&told));
        for name in
            ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name", "service_arn"]
        {
            let id = text(&read, name);
            prop_assert!(id.is_empty() || self.stage.cloud.has(&id), "{name} {id} is in the state and not in AWS");
        }
        if self.live() == Some(color) {
            let name = text(&read, "autoscaling_group_name");
            let size = self.stage.cloud.size(&name);
            prop_assert!(size.is_none_or(|(running, _)| running >= 2), "shrunk to {size:?}");
            let runs = self.stage.cloud.runs(&text(&read, "service_arn"));
            let known = text(stored, "task_definition_arn");
            prop_assert!(runs.is_none_or(|(runs, count)| runs == known && count >= 2), "it runs something else");
        }
        Ok(())
    }

    /// Whatever others did, a plan of what was applied last is no error, so that a switch can be in it.
    async fn check_way_out(&self, color: usize) -> Result<(), TestCaseError> {
        let (Some(stored), Some(applied)) = (&self.stored[color], &self.applied[color]) else { return Ok(()) };
        let process = self.stage.restarted();
        let (planned, told) = process.plan(&process.config(applied), Some(stored)).await;
        prop_assert!(!told.has_errors() && planned.replace.is_empty(), "no way out: {}", words(&told));
        Ok(())
    }

    async fn destroy(&mut self, color: usize) -> Result<(), TestCaseError> {
        let live = self.live() == Some(color);
        let Some(stored) = self.stored[color].take() else { return Ok(()) };
        let (left, told) = self.stage.destroy(&stored).await;
        prop_assert!(left.state.is_none() || live || told.has_errors(), "{}", words(&told));
        self.stored[color] = Some(left).filter(|left| left.state.is_some());
        Ok(())
    }

    /// Everything is made whole, and goes.
    async fn end(&mut self) -> Result<(), TestCaseError> {
        self.stage.lead(&[("elsewhere", 100)]);
        for (color, name) in COLORS.iter().enumerate() {
            self.apply(color, (false, false), &Trouble::Nothing).await?;
            prop_assert!(self.stored[color].is_some(), "{name} came to nothing");
            let config = self.stage.config(&self.wished[color]);
            let (read, told) = self.stage.restarted().read(self.stored[color].as_ref().expect("it is there")).await;
            prop_assert!(told.iter().next().is_none(), "{}", words(&told));
            let (planned, _) = self.stage.plan(&config, Some(&read)).await;
            prop_assert_eq!(&planned.state, &read.state, "a plan right after an apply is empty");
        }
        for color in 0..2 {
            self.stage.cloud.heal();
            self.destroy(color).await?;
        }
        prop_assert_eq!(self.stage.cloud.inventory(), Vec::<String>::new());
        Ok(())
    }
}

fn lead(stage: &Stage, groups: &[Option<String>; 2], color: usize) {
    let Some(arn) = groups[color].as_deref().filter(|arn| stage.cloud.has(arn)) else { return };
    let other = groups[1 - color].as_deref().filter(|arn| stage.cloud.has(arn));
    let weights: Vec<(&str, u32)> = std::iter::once((arn, 100)).chain(other.map(|other| (other, 0))).collect();
    stage.lead(&weights);
}

async fn play(ecs: bool, acts: Vec<(usize, Act, Trouble)>) -> Result<(), TestCaseError> {
    let mut play = Play::new(ecs);
    for color in 0..2 {
        play.apply(color, (false, false), &Trouble::Nothing).await?;
    }
    play.switch(0);
    for (color, act, trouble) in acts {
        play.edit(color, &act);
        let (mut replace, mut first) = (false, false);
        match act {
            Act::Switch => play.switch(color),
            Act::Drift(kind) => play.drift(color, kind),
            Act::Delete(kind) => play.delete(color, kind),
            Act::Replace(before) => (replace, first) = (true, before),
            _ => {}
        }
        play.apply(color, (replace, first), &trouble).await?;
        // What goes on goes on.
        tokio::time::sleep(Duration::from_secs(200)).await;
        play.check(color).await?;
    }
    play.end().await
}

/// The same stories each time, unless a seed is given: a failure tells the one it had.
fn play_many(offset: u64) {
    let cases = if testing::told().is_some() { ALL } else { CASES };
    testing::tell(cases / 2, offset, &story(), async |(ecs, acts)| play(ecs, acts).await);
}

#[test]
fn random_environments_come_right() {
    play_many(0);
}

#[test]
fn more_random_environments_come_right() {
    play_many(1);
}
