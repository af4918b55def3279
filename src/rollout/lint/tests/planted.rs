//! For each rule a good runbook in which exactly that is broken: exactly that is found.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rollout::lint::{Finding, Kind, Purpose, Severity, lint};
use crate::rollout::lock_record::VERSION;
use crate::rollout::planner;
use crate::rollout::runbook::Stage;
use crate::rollout::*;

/// A runbook with what it was made of.
struct Case {
    intent: Intent,
    world: World,
    runbook: Runbook,
    end: End,
}

/// What a runbook is for.
enum End {
    Rollout,
    Restoration(Vec<(RouteSpec, Terminal)>),
    Removal,
}

fn forward(weights: &[(&str, u32)]) -> Terminal {
    let groups = weights.iter().map(|(color, weight)| (format!("tg-{color}"), *weight)).collect();
    Terminal::Forward(Forward { groups, stickiness: None })
}

fn observed(arn: &str, weights: &[(&str, u32)]) -> Observed {
    Observed::leading(arn.to_owned(), forward(weights))
}

fn rule(priority: i32) -> RouteSpec {
    let conditions = Conditions { path_patterns: vec![format!("/{priority}/*")], ..Conditions::default() };
    let (listener, arn) = ("web".to_owned(), Some(format!("rule-{priority}")));
    RouteSpec::OwnRule { listener, priority, conditions, processing: Box::default(), arn }
}

/// A rule of the switch's own as it was left, at another priority and for other requests.
fn left(priority: i32, weights: &[(&str, u32)]) -> (String, Observed) {
    let place = Some(Place { priority: priority + 1, taken_by: None });
    let conditions = Some(Conditions::default());
    let seen = Observed { conditions, place, ..observed(&format!("rule-{priority}"), weights) };
    (rule(priority).key(), seen)
}

/// A listener that leads to blue alone, with green at weight 0, and a rule beside it; green is to go live at once.
fn simple() -> Case {
    let environment = |color: &str| {
        let scalable = Some(Scalable::ScalingGroup(color.to_owned()));
        (color.to_owned(), Environment { target_group_arn: format!("tg-{color}"), scalable, ..Environment::default() })
    };
    let intent = Intent {
        name: "app".to_owned(),
        active: Some("green".to_owned()),
        environments: BTreeMap::from(["blue", "green"].map(environment)),
        routes: vec![RouteSpec::Listener("web".to_owned()), RouteSpec::Rule("rule".to_owned())],
        record: Some("/app/live".to_owned()),
        ..Intent::default()
    };
    let weights = [("blue", 100), ("green", 0)];
    let routes = ["web", "rule"].map(|arn| (arn.to_owned(), observed(arn, &weights))).into();
    Case::planned(intent, World { routes, record: Some("blue".to_owned()), ..World::default() })
}

fn http(block: Block) -> Checking {
    let check = Check::Http(HttpCheck { url: "http://{color}.test/".to_owned(), ..HttpCheck::default() });
    Checking { block, index: Some(0), subject: Subject::default(), check }
}

fn steps(permilles: &[u32], hold: u64) -> Vec<Shift> {
    permilles.iter().map(|permille| Shift { permille: *permille, hold: Duration::from_secs(hold) }).collect()
}

/// The same with everything that a rollout can have: a canary, checks, a preview, sizes, and rules that change and go.
fn rich() -> Case {
    let Case { mut intent, mut world, .. } = simple();
    intent.routes.push(rule(10));
    intent.preview_routes.push(RouteSpec::Listener("preview".to_owned()));
    intent.removed.push(rule(20));
    intent.validation.checks.push(http(Block::Validation));
    intent.strategy.steps = steps(&[100], 60);
    intent.strategy.settle = Duration::from_secs(30);
    let checks = vec![http(Block::Verification)];
    intent.verification = Some(Verification { duration: Duration::from_secs(60), checks, ..Verification::default() });
    intent.stickiness = Some(Duration::from_secs(300));
    intent.capacity = Some(CapacityPolicy { before: Before::MatchLive, after_idle: Some(1) });
    world.routes = ["web", "rule", "preview"].map(|arn| (arn.to_owned(), observed(arn, &[("blue", 100)]))).into();
    world.routes.extend([left(10, &[("blue", 100)]), left(20, &[("blue", 100)])]);
    let size = |desired| Capacity { min: Some(1), max: 9, desired, pinned: None };
    world.capacities = BTreeMap::from([("blue".to_owned(), size(4)), ("green".to_owned(), size(2))]);
    Case::planned(intent, world)
}

/// The simple one with a cohort that comes first, for whom an earlier rollout may have left a rule.
fn with_cohort(is_left: bool) -> Case {
    let Case { mut intent, world, .. } = simple();
    let headers = BTreeMap::from([("x-tester".to_owned(), vec!["1".to_owned()])]);
    let conditions = Conditions { http_headers: headers, ..Conditions::default() };
    intent.strategy.cohort = Some(Cohort { conditions: conditions.clone(), hold: Duration::from_secs(60) });
    let place = Some(Place { priority: 7, taken_by: None });
    let rule = Observed { conditions: Some(conditions), place, ..observed("rule-7", &[("green", 1)]) };
    let rules = if is_left { vec![rule] } else { Vec::new() };
    let listener = planner::Listener { arn: "web", rules: &rules, foreign: &[] };
    let world = planner::placed(&intent, world, listener);
    Case::planned(intent, world)
}

/// What an earlier rollout left for a cohort is used, and nobody takes it back.
fn cohort_not_taken() -> Case {
    let mut case = with_cohort(true);
    let first = case.runbook.stages.remove(0);
    assert!(first.steps.len() == 1 && case.runbook.taken_over.len() == 1);
    case.runbook.taken_over.clear();
    case.runbook.afterwards = case.runbook.afterwards.map(|stage| stage - 1);
    case
}

/// Nobody is named: the listener's rule lacks green, and another rule is to be made.
fn follower() -> Case {
    let Case { mut intent, mut world, .. } = simple();
    intent.active = None;
    intent.routes.push(rule(10));
    world.routes.insert("rule".to_owned(), observed("rule", &[("blue", 100)]));
    Case::planned(intent, world)
}

/// A rollout to green died at 10 %, and is gone on with.
fn resumed() -> Case {
    let Case { mut intent, world, .. } = simple();
    intent.strategy.steps = steps(&[100, 500], 0);
    let origins = world.routes.iter().map(|(key, seen)| (key.clone(), seen));
    let (from, to) = (Some("blue".to_owned()), Some("green".to_owned()));
    let led = Some(vec![100]);
    let mut lock_record =
        LockRecord { version: VERSION, switch: "app".to_owned(), from, to, led, ..LockRecord::default() };
    lock_record.note_origins(origins, &intent.environments);
    let routes = ["web", "rule"].map(|arn| (arn.to_owned(), observed(arn, &[("blue", 90), ("green", 10)])));
    Case::planned(intent, World { routes: routes.into(), lock_record: Some(lock_record), ..world })
}

/// The end of a switch, with one rule and the record.
fn removal() -> Case {
    let Case { intent, mut world, .. } = rich();
    world.routes.extend([left(10, &[("blue", 100)])]);
    let removal = Removal { own_rules: vec![rule(10)], record: Some(("/app/live".to_owned(), None)) };
    let runbook = planner::plan_removal(&removal, &world);
    Case { intent, world, runbook, end: End::Removal }
}

/// Everything is led back to blue.
fn restoration() -> Case {
    let Case { mut intent, mut world, .. } = simple();
    intent.validation.checks.push(http(Block::Validation));
    let back = |arn: &str| (RouteSpec::Listener(arn.to_owned()), forward(&[("blue", 1)]));
    intent.routes = ["web", "rule"].map(|arn| RouteSpec::Listener(arn.to_owned())).into();
    world.routes = ["web", "rule"].map(|arn| (arn.to_owned(), observed(arn, &[("blue", 0), ("green", 100)]))).into();
    let originals = ["web", "rule"].map(back).to_vec();
    let runbook = planner::plan_restoration(&intent, &originals, &world);
    Case { intent, world, runbook, end: End::Restoration(originals) }
}

impl Case {
    fn planned(intent: Intent, world: World) -> Case {
        let runbook = planner::plan(&intent, &world).unwrap();
        Case { intent, world, runbook, end: End::Rollout }
    }

    /// Another intent for the same world.
    fn with(mut self, change: impl Fn(&mut Intent)) -> Case {
        change(&mut self.intent);
        Case::planned(self.intent, self.world)
    }

    /// Another world for the same intent.
    fn within(mut self, change: impl Fn(&mut World)) -> Case {
        change(&mut self.world);
        Case::planned(self.intent, self.world)
    }

    fn findings(&self) -> Vec<Finding> {
        let purpose = match &self.end {
            End::Rollout => Purpose::Rollout,
            End::Restoration(originals) => Purpose::Restoration(originals),
            End::Removal => Purpose::Removal,
        };
        lint(&self.runbook, &self.intent, &self.world, purpose)
    }

    /// The last step that reads so.
    fn find(&self, words: &str) -> StepId {
        let mut fits = self.runbook.steps().filter(|(_, step)| step.summary().contains(words));
        let all = || self.runbook.summary().join("\n");
        fits.next_back().unwrap_or_else(|| panic!("no step has {words:?}:\n{}", all())).0
    }

    fn step(&mut self, words: &str) -> &mut Step {
        let id = self.find(words);
        &mut self.runbook.stages[id.stage].steps[id.step]
    }

    /// One step otherwise.
    fn change(mut self, words: &str, change: impl Fn(&mut Step)) -> Case {
        change(self.step(words));
        self
    }

    /// The same, and the steps after it planned on what that one leaves.
    fn lead(mut self, words: &str, weights: &[(&str, u32)]) -> Case {
        let id = self.find(words);
        let Step::Route { after, .. } = self.step(words) else { panic!("{words:?} is no route") };
        *after = forward(weights);
        let mut world = self.world.clone();
        for (stage, steps) in self.runbook.stages.iter_mut().enumerate() {
            let now = world.clone();
            for step in &mut steps.steps {
                if let Step::Route { route, before: Some(before), .. } = step
                    && stage > id.stage
                {
                    *before = now.routes[&route.key()].clone();
                }
                step.foresee(&mut world);
            }
        }
        self
    }

    fn take(&mut self, words: &str) -> Stage {
        let at = self.find(words).stage;
        let afterwards = self.runbook.afterwards;
        self.runbook.afterwards = afterwards.map(|first| if first > at { first - 1 } else { first });
        self.runbook.stages.remove(at)
    }

    fn insert(mut self, at: usize, stage: Stage) -> Case {
        self.runbook.afterwards = self.runbook.afterwards.map(|first| if first > at { first + 1 } else { first });
        self.runbook.stages.insert(at, stage);
        self
    }

    /// Without the stage that has such a step.
    fn without(mut self, words: &str) -> Case {
        self.take(words);
        self
    }

    /// With the one stage before the other.
    fn before(mut self, words: &str, other: &str) -> Case {
        let stage = self.take(words);
        let at = self.find(other).stage;
        self.insert(at, stage)
    }

    /// With a step twice in its stage.
    fn twice(mut self, words: &str) -> Case {
        let id = self.find(words);
        let step = self.step(words).clone();
        self.runbook.stages[id.stage].steps.push(step);
        self
    }

    /// With one more stage at the end.
    fn and(mut self, step: Step) -> Case {
        self.runbook.push(vec![step]);
        self
    }

    fn arrived_at(mut self, afterwards: Option<usize>) -> Case {
        self.runbook.afterwards = afterwards;
        self
    }
}

fn sized(color: &str, before: Capacity, desired: i32) -> Step {
    let scalable = Scalable::ScalingGroup(color.to_owned());
    Step::Capacity { color: color.to_owned(), scalable, before, after: Capacity { desired, ..before } }
}

fn led(route: RouteSpec, before: &[(&str, u32)], after: &[(&str, u32)]) -> Step {
    let before = Some(observed(&route.key(), before));
    Step::Route { route, before, after: forward(after), words: "planted".to_owned() }
}

const ATTACH: &str = "set listener web: blue 100 % → blue 100 %, green 0 %";
const CANARY: &str = "set listener web: blue 100 %, green 0 % → blue 90 %, green 10 %";
const LAST: &str = "set listener web: blue 90 %, green 10 % → blue 0 %, green 100 %";
const AT_ONCE: &str = "set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %";

/// A runbook that breaks this rule, and no other.
fn planted(kind: Kind) -> Case {
    match kind {
        Kind::NoWeight => rich().lead("set listener preview: blue 0 %, green 100 %", &[("blue", 0), ("green", 0)]),
        Kind::TooManyGroups => {
            rich().lead(ATTACH, &[("blue", 1), ("green", 0), ("a", 0), ("b", 0), ("c", 0), ("d", 0)])
        }
        Kind::WeightOutOfRange => rich().lead(ATTACH, &[("blue", 1000), ("green", 0)]),
        Kind::GroupTwice => rich().lead(ATTACH, &[("blue", 1), ("green", 0), ("green", 0)]),
        Kind::NotSticky => keeping_clients().change("set listener preview: blue 0 %, green 100 %", let_go),
        Kind::WeightsDoNotAddUp => rich().lead(CANARY, &[("blue", 9), ("green", 1)]),
        Kind::ForeignRule => rich().change("delete rule 20", as_if_of_others),
        Kind::BeforeDiffers => rich().change(LAST, forget_before),
        Kind::NothingToDo => known_already(),
        Kind::ChecksWrongSubject => rich().change("check that green answers", measure_by_itself),
        Kind::EmptyStage => rich().insert(0, Stage::default()),
        Kind::RouteTwiceInStage => simple().twice(AT_ONCE),
        Kind::ParameterTwiceInStage => simple().twice("write /app/live"),
        Kind::ColorTwiceInStage => rich().twice("raise green from 2 to 4"),
        Kind::TrafficBeforeChecks => simple().without("check that green has"),
        Kind::ValidationSkipped => checked().without("check that green answers"),
        Kind::FirstColorNotProved => first_of_all().without("check that green has"),
        Kind::TargetLosesWeight => simple()
            .with(|intent| intent.strategy.steps = steps(&[100, 500], 0))
            .lead("set listener web: blue 90 %, green 10 % → blue 50 %, green 50 %", &[("blue", 92), ("green", 8)]),
        Kind::NotArrived => left_behind(),
        Kind::StickinessNotRestored => simple().change(AT_ONCE, stick),
        Kind::WatchWithoutTraffic => rich().before("watch green at 10 %", "give the preview routes"),
        Kind::WatchAtOtherWeight => rich().change("watch green at 10 %", watch_more),
        Kind::ConvergesToOtherWeights => rich().change("watch green at 10 %", ask_for_others),
        Kind::FollowerMovesTraffic => follower().lead("set rule rule", &[("blue", 90), ("green", 10)]),
        Kind::RecordBeforeRoutes => simple().before("write /app/live", AT_ONCE),
        Kind::CheckAfterRecord => rich().before("write /app/live", "watch green at 100 %"),
        Kind::RecordNotWritten => simple().without("write /app/live"),
        Kind::RecordNamesAnotherColor => simple().change("write /app/live", record_another),
        Kind::FollowerOverwritesRecord => followers_record(),
        Kind::PreviewMovedTooEarly => rich().before("set listener preview: blue 0 %, green 100 %", LAST),
        Kind::RemovedTooEarly => rich().before("delete rule 20", "hold the minimum of blue"),
        Kind::RemovesWantedRule => rule_by_its_arn(),
        Kind::CohortNotTakenBack => cohort_not_taken(),
        Kind::CohortStays => with_cohort(false).without("delete rule 1"),
        Kind::AfterwardsHoldsCheck => {
            simple().with(|intent| intent.record = None).and(Step::Converge(nodes(&[("green", 1.0)])))
        }
        Kind::AfterwardsMovesTraffic => simple().arrived_at(Some(1)),
        Kind::AfterwardsMissing => rich().arrived_at(None),
        Kind::TakenOverNotFirst => taken_over_twice(),
        Kind::TakenOverNotThere => resumed().lead("left it", &[("blue", 91), ("green", 9)]),
        Kind::RemovalTouchesTraffic => sized_on_removal(),
        Kind::ShrinksBeforeRecord => rich().before("lower blue from 4 to 1", "write /app/live"),
        Kind::ShrinksLiveColor => {
            rich().and(sized("green", Capacity { min: Some(1), max: 9, desired: 4, pinned: None }, 3))
        }
        Kind::RaisedAfterTraffic => rich().before("raise green from 2 to 4", "write /app/live"),
        Kind::FollowerSizes => follower_sizes(),
    }
}

fn as_if_of_others(step: &mut Step) {
    let Step::Remove { route, .. } = step else { panic!() };
    *route = RouteSpec::Rule(route.key());
}

fn forget_before(step: &mut Step) {
    let Step::Route { before: Some(before), .. } = step else { panic!() };
    before.terminal = forward(&[("blue", 100)]);
}

fn measure_by_itself(step: &mut Step) {
    let Step::Check(checking) = step else { panic!() };
    checking.subject.live_group = Some(checking.subject.group.clone());
}

fn stick(step: &mut Step) {
    let Step::Route { after: Terminal::Forward(forward), .. } = step else { panic!() };
    forward.stickiness = Some(Stickiness { enabled: true, duration_seconds: Some(300) });
}

/// Green keeps clients at a target.
fn keeping_clients() -> Case {
    let Case { intent, mut world, .. } = rich();
    world.sticky.insert("tg-green".to_owned());
    Case::planned(intent, world)
}

fn let_go(step: &mut Step) {
    let Step::Route { after: Terminal::Forward(forward), .. } = step else { panic!() };
    forward.stickiness = None;
}

fn watch_more(step: &mut Step) {
    let Step::Watch(watch) = step else { panic!() };
    watch.percent = 20.0;
}

fn ask_for_others(step: &mut Step) {
    let Step::Watch(watch) = step else { panic!() };
    watch.convergence = Some(nodes(&[("blue", 0.8), ("green", 0.2)]));
}

fn nodes(shares: &[(&str, f64)]) -> Convergence {
    let shares = shares.iter().map(|(color, share)| ((*color).to_owned(), *share)).collect();
    Convergence { shares, prove: None, settle: Duration::from_secs(30), previews: false }
}

fn record_another(step: &mut Step) {
    let Step::Record { after, .. } = step else { panic!() };
    *after = Some("purple".to_owned());
}

/// With a check of the user's.
fn checked() -> Case {
    simple().with(|intent| intent.validation.checks.push(http(Block::Validation)))
}

/// No route has green, and none can be given it.
fn first_of_all() -> Case {
    let fixed = Terminal::FixedResponse { status: "503".to_owned(), content_type: None, body: None };
    simple().within(|world| {
        world.routes.values_mut().for_each(|seen| seen.terminal = fixed.clone());
        world.record = None;
    })
}

/// A route that has everything already is led there once more.
fn known_already() -> Case {
    let all = [("blue", 0), ("green", 100)];
    let case = simple();
    let at = case.find("write /app/live").stage;
    let known = Stage { steps: vec![led(RouteSpec::Listener("web".to_owned()), &all, &all)] };
    case.insert(at, known).arrived_at(Some(at + 1))
}

/// One of two routes stays.
fn left_behind() -> Case {
    let mut case = simple();
    let id = case.find(AT_ONCE);
    case.runbook.stages[id.stage].steps.remove(id.step);
    case
}

fn followers_record() -> Case {
    let (parameter, before) = ("/app/live".to_owned(), Some("purple".to_owned()));
    let case = follower().within(|world| world.record = Some("purple".to_owned()));
    case.and(Step::Record { parameter, before, after: Some("blue".to_owned()) })
}

/// A rule of the switch's own that is now named by its ARN.
fn rule_by_its_arn() -> Case {
    let seen = observed("rule", &[("blue", 100), ("green", 0)]);
    let made = RouteSpec::OwnRule {
        listener: "web".to_owned(),
        priority: 10,
        conditions: Conditions::default(),
        processing: Box::default(),
        arn: Some("rule".to_owned()),
    };
    let case = simple().within(|world| drop(world.routes.insert("web#10".to_owned(), seen.clone())));
    case.and(Step::Remove { route: made, before: seen })
}

fn taken_over_twice() -> Case {
    let mut case = resumed();
    let first = case.runbook.taken_over[0];
    case.runbook.taken_over.push(first);
    case
}

fn sized_on_removal() -> Case {
    let case = removal();
    let before = case.world.capacities["blue"];
    case.and(sized("blue", before, 9))
}

fn follower_sizes() -> Case {
    let before = Capacity { min: Some(1), max: 9, desired: 4, pinned: None };
    let case = follower().within(|world| world.capacities.extend([("blue".to_owned(), before)]));
    case.and(sized("blue", before, 9))
}

#[test]
fn good_runbooks_have_no_findings() {
    let good = [simple(), rich(), follower(), resumed(), removal(), restoration(), checked(), first_of_all()];
    for case in good {
        assert!(!case.runbook.is_empty());
        assert_eq!(case.findings(), Vec::new(), "{}", case.runbook.summary().join("\n"));
    }
}

#[test]
fn every_rule_finds_its_planted_fault_and_no_other() {
    for kind in Kind::ALL {
        let case = planted(*kind);
        let found: Vec<Kind> = case.findings().iter().map(|finding| finding.kind).collect();
        let told = case.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(!found.is_empty(), "{kind:?} finds nothing in\n{}", case.runbook.summary().join("\n"));
        assert!(found.iter().all(|one| one == kind), "{kind:?}: {told}\nin\n{}", case.runbook.summary().join("\n"));
    }
}

#[test]
fn a_restoration_that_leaves_a_route_behind_is_found() {
    let mut case = restoration();
    let id = case.find("set listener web");
    case.runbook.stages[id.stage].steps.remove(id.step);
    assert_eq!(case.findings().iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::NotArrived]);
    let unchecked = restoration().without("check that blue has").findings();
    assert_eq!(unchecked.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::TrafficBeforeChecks]);
}

#[test]
fn findings_say_where_and_what() {
    let told = Kind::ALL.iter().map(|kind| planted(*kind).findings().remove(0).to_string());
    expect_test::expect![[r#"
        stage 14, step 1: listener preview would have no weight at all (NoWeight)
        stage 2, step 1: listener web would forward to 6 groups, 5 are allowed (TooManyGroups)
        stage 2, step 1: listener web would give blue the weight 1000, 999 is the most (WeightOutOfRange)
        stage 2, step 1: listener web would forward to green twice (GroupTwice)
        stage 14, step 1: listener preview would keep clients at no group, and one of its groups keeps them at a target (NotSticky)
        stage 7, step 1: the weights of listener web would add up to 10, which makes 10.00 % for green (WeightsDoNotAddUp)
        stage 16, step 1: rule web#20 is not one of the switch's own rules, and would be changed like one (ForeignRule)
        stage 10, step 1: listener web is at blue 90 %, green 10 % by then, but its undo would restore blue 100 % (BeforeDiffers)
        stage 3, step 1: this step would change nothing: set listener web: planted (NothingToDo)
        stage 6, step 1: green is compared with itself (ChecksWrongSubject)
        stage 1 has no step (EmptyStage)
        stage 2, step 3: listener web is changed twice in one stage (RouteTwiceInStage)
        stage 3, step 2: /app/live is written twice in one stage (ParameterTwiceInStage)
        stage 1, step 3: green is sized twice in one stage (ColorTwiceInStage)
        stage 1, step 1: listener web would forward to green before the health of its targets is checked (TrafficBeforeChecks)
        stage 2, step 1: listener web would forward to green before all checks of validation were made (ValidationSkipped)
        stage 1, step 1: listener web would forward to green, and the health of its targets would not be checked afterwards (FirstColorNotProved)
        stage 4, step 1: green would fall from 10.0 % to 8.0 % of listener web (TargetLosesWeight)
        listener web would not forward to green alone in the end (NotArrived)
        the group stickiness of listener web would not be what it was before the traffic was split (StickinessNotRestored)
        stage 5, step 1: green would be watched, but no route forwards to it (WatchWithoutTraffic)
        stage 8, step 1: green would be watched at 20 %, but gets 10.0 % at most (WatchAtOtherWeight)
        stage 8, step 1: no route has the weights that the nodes are to converge to: watch green at 10 % for 1m once the load balancer had 30s to settle: green answers GET http://green.test/ (ConvergesToOtherWeights)
        stage 1, step 1: rule rule would get other weights or stickiness, although active is omitted (FollowerMovesTraffic)
        stage 3, step 1: listener web would move after the record is written (RecordBeforeRoutes)
        stage 12, step 1: this check would come after the record: watch green at 100 % for 1m once the load balancer had 30s to settle: green answers GET http://green.test/ (CheckAfterRecord)
        /app/live would not name green in the end (RecordNotWritten)
        stage 3, step 1: /app/live would be purple, but green is to go live (RecordNamesAnotherColor)
        stage 2, step 1: /app/live would be overwritten, although active is omitted (FollowerOverwritesRecord)
        stage 10, step 1: the preview listener preview would move before production, and not for a check (PreviewMovedTooEarly)
        stage 1, step 1: rule 20 of listener web would be deleted before the traffic has moved (RemovedTooEarly)
        stage 4, step 1: rule 10 of listener web would be deleted, but it is still one of the routes (RemovesWantedRule)
        a rollback would leave rule 7 of listener web to lead the cohort (CohortNotTakenBack)
        rule 1 of listener web would stay, and go on leading the cohort (CohortStays)
        stage 3, step 1: this check would come when the rollout is over: give the load balancer 30s to settle (AfterwardsHoldsCheck)
        stage 2, step 1: the rollout would count as over before this: set listener web: blue 100 %, green 0 % → blue 0 %, green 100 % (AfterwardsMovesTraffic)
        stage 14, step 1: a failure of this would undo the rollout, although the traffic has moved: set listener preview: blue 0 %, green 100 % → blue 100 %, green 0 % (AfterwardsMissing)
        stage 1, step 1: the steps that a dead rollout did are not the first ones (TakenOverNotFirst)
        stage 1, step 2: this step of a dead rollout is not done: set rule rule: blue 90 %, green 10 %, as the rollout from blue to green that  began at  left it (TakenOverNotThere)
        stage 3, step 1: a switch that is destroyed would do more than delete its own: raise blue from 4 to 9 (RemovalTouchesTraffic)
        stage 13, step 1: blue would be made smaller before the traffic and the record have moved (ShrinksBeforeRecord)
        stage 17, step 1: green gets production traffic and would be lowered from 4 to 3 (ShrinksLiveColor)
        stage 12, step 2: green would be raised only after its traffic has come (RaisedAfterTraffic)
        stage 2, step 1: blue would get another size or minimum, although active is omitted (FollowerSizes)"#]].assert_eq(&told.collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_hurts_users_is_a_fault() {
    let odd: Vec<&Kind> = Kind::ALL.iter().filter(|kind| kind.severity() == Severity::Warning).collect();
    let expected = [
        Kind::WeightsDoNotAddUp,
        Kind::NothingToDo,
        Kind::EmptyStage,
        Kind::WatchAtOtherWeight,
        Kind::RaisedAfterTraffic,
    ];
    assert_eq!(odd, expected.iter().collect::<Vec<_>>());
}
