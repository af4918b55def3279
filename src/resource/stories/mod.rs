//! Stories of the whole system in memory: two environments, a switch and often a migration in one configuration, on one
//! simulated AWS and its database, as Terraform plans and applies them. Calls are refused, answered late or twice, or never; looks are old; processes are
//! killed or stopped; people and a second machine act in between. Whatever comes: users get to no color that isn't
//! healthy, nothing moves that no plan told, the state tells the truth, the next apply comes right, and a destroy leaves
//! nothing.
//!
//! `BLUEGREEN_SEED=7 BLUEGREEN_STORIES=100000 cargo nextest run stories` tells others, and more of them; a failure tells
//! the seed that it had.

mod play;
mod schema;
mod terraform;

use proptest::prelude::*;

use self::play::play;
use self::schema::Kind;
use super::testing::{self, frozen, words};
use crate::migration::Phase;
use crate::rollout::World;
use crate::run::rollout::in_memory::{Fake, Fault};
use crate::run::stack::in_memory::Cloud;

/// How many stories are told, if nothing else is said: a few, for after each edit. `make test` tells 5,000.
const CASES: u32 = 200;

/// Something that happens before an apply, to a color.
#[derive(Clone, Debug)]
enum Act {
    /// A new release of a color.
    Release(usize),
    /// A setting of a color that hurts nobody.
    Edit(usize),
    /// Another color is to be live.
    Switch(usize),
    /// The switch follows whichever color is live.
    Follow,
    /// Somebody moves the weights by hand: so many percent to a color.
    Weights(usize, u32),
    /// Somebody writes the record by hand.
    Record(usize),
    /// The migration is to have run up to this phase.
    Phase(Phase),
    /// Somebody changes something of a color without Terraform.
    Drift(usize, u8),
    /// Nothing: the same is applied once more.
    Again,
}

/// What goes wrong while it is applied.
#[derive(Clone, Debug)]
enum Trouble {
    /// Nothing.
    Nothing,
    /// A call that moves traffic, or writes the record, has this fault.
    Traffic(usize, Fault),
    /// A write of the rollout's lock has this fault.
    Lock(usize, Fault),
    /// A call that changes a stack has this fault.
    Stack(usize, Fault),
    /// After so many seconds Terraform is asked to stop.
    Stop(u64),
    /// A call that moves traffic, or writes the record, takes ten or forty seconds, and after so many of them Terraform is
    /// asked to stop.
    StopInside(usize, bool, u64),
    /// After so many seconds the process is frozen for minutes, and another machine begins the same apply.
    Freeze(u64),
    /// After so many seconds the color that is to be live answers with errors.
    Breaks(u64),
    /// So many looks at routes and record are old ones.
    Stale(usize),
    /// So many reads don't find what a color is made of.
    Hidden(usize),
    /// Somebody moves the weights between plan and apply.
    Saved(u32),
    /// After so many seconds somebody moves the weights.
    Meddled(u64, u32),
    /// A call that changes the database has this fault.
    Database(usize, Fault),
    /// The database can't be reached.
    Down,
    /// After so many seconds another machine begins the same apply, from the same state.
    Machine(u64),
}

/// One story.
#[derive(Clone, Debug)]
struct Story {
    ecs: bool,
    /// Whether the target groups are somebody else's, and adopted.
    adopted: bool,
    /// The weights of the steps, in tenths of a percent.
    steps: Vec<u32>,
    verified: bool,
    hold: bool,
    migration: Option<Kind>,
    /// What goes wrong while everything is made.
    first: Vec<Trouble>,
    /// What is done, and what goes wrong then, all of it at once.
    turns: Vec<(Act, Vec<Trouble>)>,
    /// Right after this call of the destroy that changes a stack, somebody leads users to a color again.
    back: Option<(usize, usize)>,
}

fn act() -> impl Strategy<Value = Act> {
    let color = || 0_usize..2;
    prop_oneof![
        3 => color().prop_map(Act::Release),
        1 => color().prop_map(Act::Edit),
        5 => color().prop_map(Act::Switch),
        1 => Just(Act::Follow),
        3 => prop_oneof![Just(Phase::Expand), Just(Phase::Backfill), Just(Phase::Contract)].prop_map(Act::Phase),
        1 => (color(), 0_u32..101).prop_map(|(color, percent)| Act::Weights(color, percent)),
        1 => color().prop_map(Act::Record),
        1 => (color(), 0_u8..4).prop_map(|(color, kind)| Act::Drift(color, kind)),
        1 => Just(Act::Again),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        4 => Just(Trouble::Nothing),
        5 => (0_usize..6, Fault::any()).prop_map(|(call, fault)| Trouble::Traffic(call, fault)),
        1 => (0_usize..12, Fault::any()).prop_map(|(call, fault)| Trouble::Lock(call, fault)),
        2 => (0_usize..8, Fault::any()).prop_map(|(call, fault)| Trouble::Stack(call, fault)),
        1 => (0_u64..200).prop_map(Trouble::Stop),
        1 => (0_usize..5, any::<bool>(), 0_u64..10).prop_map(|(call, long, at)| Trouble::StopInside(call, long, at)),
        1 => (0_u64..200).prop_map(Trouble::Freeze),
        2 => (0_u64..200).prop_map(Trouble::Breaks),
        1 => (1_usize..4).prop_map(Trouble::Stale),
        1 => (1_usize..3).prop_map(Trouble::Hidden),
        1 => (0_u32..101).prop_map(Trouble::Saved),
        1 => (0_u64..200, 0_u32..101).prop_map(|(at, percent)| Trouble::Meddled(at, percent)),
        1 => (0_usize..8, Fault::any()).prop_map(|(call, fault)| Trouble::Database(call, fault)),
        1 => Just(Trouble::Down),
        1 => (0_u64..100).prop_map(Trouble::Machine),
    ]
}

fn troubles() -> impl Strategy<Value = Vec<Trouble>> {
    prop_oneof![3 => trouble().prop_map(|one| vec![one]), 1 => prop::collection::vec(trouble(), 2)]
}

fn story() -> impl Strategy<Value = Story> {
    let steps = prop::collection::btree_set(1_u32..1000, 0..3);
    let turns = prop::collection::vec((act(), troubles()), 1..7);
    let migration =
        prop::option::of((any::<bool>(), any::<bool>()).prop_map(|(mysql, batched)| Kind { mysql, batched }));
    let first = prop_oneof![2 => Just(Vec::new()), 1 => troubles()];
    let back = prop::option::of((0_usize..6, 0_usize..2));
    let stack = (any::<bool>(), prop::bool::weighted(0.25));
    (stack, steps, any::<bool>(), any::<bool>(), migration, first, turns, back).prop_map(
        |((ecs, adopted), steps, verified, hold, migration, first, turns, back)| Story {
            ecs,
            adopted,
            steps: steps.into_iter().collect(),
            verified,
            hold,
            migration,
            first,
            turns,
            back,
        },
    )
}

/// The same stories each time, unless a seed is given.
fn tell(offset: u64) {
    let machines = play::Machines::new();
    let cases = testing::told().unwrap_or(CASES);
    testing::tell(cases.div_ceil(2), offset, &story(), async |story| play(&machines, &story).await);
}

#[test]
fn stories_come_right() {
    tell(10);
}

#[test]
fn more_stories_come_right() {
    tell(11);
}

/// A contract keeps rollouts out by a lock, which another machine may have by the time that a sleeper wakes.
#[tokio::test(start_paused = true)]
async fn a_contract_that_slept_takes_nothing_more_away() {
    let mut halves = 0;
    for call in 0..16 {
        let routes = Fake::new(World { record: Some(schema::GUARDED.to_owned()), ..World::default() }, &[]);
        let (cloud, machine) = (Cloud::new(routes.clone()), terraform::Machine::new());
        let database = schema::server(|| None);
        machine.restart(&routes, &cloud, &database);
        let mut config = schema::config(Kind { mysql: true, batched: false }, "/app/live");
        config["phase"] = "contract".into();
        database.fault(call, Fault::Late(10));
        let asleep = async {
            tokio::time::sleep(std::time::Duration::from_secs(100)).await;
            (database.ran().len(), routes.lock("/app/live.rollout").is_some())
        };
        let (told, (ran, contracts)) = futures::join!(frozen(Some(5), machine.migrate(&config)), asleep);
        if contracts && ran == 3 {
            halves += 1;
            // What was on its way when it fell asleep has its effect.
            assert!(database.ran().len() <= ran + 1, "{call}: it went on: {}", words(&told));
            assert!(words(&told).contains("rollout"), "{call}: {}", words(&told));
        }
    }
    assert!(halves > 0, "it never slept in a contract");
}
