//! Whatever is wished and whatever is there, the planner keeps every rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::rollout::lint::{Kind, Purpose, lint};
use crate::rollout::lock_record::VERSION;
use crate::rollout::planner;
use crate::rollout::situation;
use crate::rollout::*;

/// How many stories are told, each of a few rollouts after one another.
const STORIES: u64 = 3_000;

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides.max(1) as u64) as usize
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }
}

const COLORS: [&str; 5] = ["blue", "green", "red", "teal", "white"];

fn group(name: &str) -> String {
    format!("tg-{name}")
}

fn own_rule(priority: i32, arn: Option<&str>) -> RouteSpec {
    let conditions = Conditions { path_patterns: vec![format!("/{priority}/*")], ..Conditions::default() };
    RouteSpec::OwnRule {
        listener: "web".to_owned(),
        priority,
        conditions,
        processing: Box::default(),
        arn: arn.map(str::to_owned),
    }
}

fn stickiness(dice: &mut Dice) -> Option<Stickiness> {
    match dice.roll(4) {
        0 => Some(Stickiness { enabled: true, duration_seconds: Some(60) }),
        1 => Some(Stickiness { enabled: false, duration_seconds: None }),
        _ => None,
    }
}

fn terminal(dice: &mut Dice, colors: usize) -> Terminal {
    let everything_on = |name: &str| {
        let weight = |color: &&str| (group(color), if *color == name { 100 } else { 0 });
        COLORS[..colors].iter().map(weight).collect::<Vec<_>>()
    };
    let groups = match dice.roll(10) {
        0 => return Terminal::FixedResponse { status: "503".to_owned(), content_type: None, body: None },
        1 => return Terminal::Redirect(Redirect { status: "HTTP_301".to_owned(), ..Redirect::default() }),
        2 => vec![(group("legacy"), 1)],
        3 => vec![(group(dice.pick(&COLORS[..colors])), 100)],
        4 | 5 => {
            let mut groups: Vec<(String, u32)> = Vec::new();
            for _ in 0..=dice.roll(5) {
                let name = dice.pick(&["blue", "green", "red", "legacy", "old", "older", "oldest"]);
                if !groups.iter().any(|(other, _)| *other == group(name)) {
                    groups.push((group(name), dice.pick(&[0, 1, 2, 10, 49, 50, 90, 100, 333, 999])));
                }
            }
            groups
        }
        _ => everything_on(dice.pick(&COLORS[..colors])),
    };
    Terminal::Forward(Forward { groups, stickiness: stickiness(dice) })
}

fn intent(dice: &mut Dice, colors: usize) -> Intent {
    let scalable = dice.once_in(2);
    let environment = |color: &&str| {
        let scalable = scalable.then(|| Scalable::ScalingGroup((*color).to_owned()));
        let target_groups = BTreeMap::from([("api".to_owned(), group(&format!("{color}-api")))]);
        let environment =
            Environment { target_group_arn: group(color), target_groups, scalable, ..Environment::default() };
        ((*color).to_owned(), environment)
    };
    let mut routes = vec![RouteSpec::Listener("web".to_owned())];
    if dice.once_in(2) {
        routes.push(RouteSpec::Rule("rule".to_owned()));
    }
    if dice.once_in(3) {
        routes.push(own_rule(10, dice.once_in(2).then_some("web#10")));
    }
    if dice.once_in(8) {
        routes.swap_remove(0);
    }
    let preview_routes = match dice.roll(4) {
        0 => vec![RouteSpec::Listener("preview".to_owned())],
        1 => vec![own_rule(11, dice.once_in(2).then_some("web#11"))],
        _ => Vec::new(),
    };
    let names_some = dice.once_in(2);
    let named = routes.iter().chain(&preview_routes).filter(|_| names_some && dice.once_in(2));
    let names = named.map(|route| (route.key(), "api".to_owned())).collect();
    let intent = Intent {
        name: "app".to_owned(),
        names,
        active: None,
        environments: COLORS[..colors].iter().map(environment).collect(),
        routes,
        preview_routes,
        record: (!dice.once_in(5)).then(|| "/app/live".to_owned()),
        removed: if dice.once_in(4) { vec![own_rule(12, Some("web#12"))] } else { Vec::new() },
        ..Intent::default()
    };
    let mut intent = intent;
    for route in intent.routes.iter_mut().chain(&mut intent.preview_routes) {
        let key = route.key();
        if let RouteSpec::OwnRule { processing, .. } = route {
            processing.url_rewrite = dice.once_in(4).then(|| rewrite("^/a"));
            let made = Processing { url_rewrite: dice.once_in(2).then(|| rewrite("^/a")), ..Processing::default() };
            intent.processed.insert(key, made);
        }
    }
    // What a way back left out of an action; it may be there again by now.
    for route in &intent.routes.clone() {
        if !dice.once_in(4) {
            continue;
        }
        let groups = COLORS[..colors].iter().filter_map(|color| intent.group(route, color));
        let out = groups.filter(|_| dice.once_in(2)).map(str::to_owned).collect();
        intent.left_out.insert(route.key(), out);
    }
    wished(dice, intent)
}

/// The same switch with other wishes.
fn wished(dice: &mut Dice, mut intent: Intent) -> Intent {
    let colors: Vec<String> = intent.environments.keys().cloned().collect();
    intent.active = (!dice.once_in(5)).then(|| dice.pick(&colors));
    let http = Check::Http(HttpCheck { url: "http://{color}.test/".to_owned(), ..HttpCheck::default() });
    let checking = |block, n| Checking { block, index: Some(n), subject: Subject::default(), check: http.clone() };
    intent.validation.checks = (0..dice.roll(3)).map(|n| checking(Block::Validation, n)).collect();
    if dice.once_in(3) {
        let metric =
            serde_json::json!({ "metric": "error_rate", "max": 0.1, "target_group": dice.pick(&[None, Some("api")]) });
        let check = Check::Metric(crate::argument::Field::read(&metric).unwrap());
        intent.validation.checks.push(Checking { check, ..checking(Block::Validation, 0) });
    }
    let mut parts: Vec<u32> =
        (0..dice.roll(4)).map(|_| dice.pick(&[5, 10, 100, 250, 333, 500, 900, 990, 999])).collect();
    parts.sort_unstable();
    parts.dedup();
    let hold = Duration::from_secs(if dice.once_in(2) { 60 } else { 0 });
    intent.strategy.steps = parts.into_iter().map(|permille| Shift { permille, hold }).collect();
    intent.strategy.settle = Duration::from_secs(if dice.once_in(2) { 30 } else { 0 });
    intent.verification = dice.once_in(2).then(|| Verification {
        duration: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        error_level: 0.01,
        max_failures: 0,
        checks: (0..dice.roll(2)).map(|n| checking(Block::Verification, n)).collect(),
    });
    intent.strategy.cohort = dice.once_in(2).then(|| {
        let headers = BTreeMap::from([("x-tester".to_owned(), vec![dice.pick(&["1", "2"]).to_owned()])]);
        let conditions = Conditions { http_headers: headers, ..Conditions::default() };
        Cohort { conditions, hold: Duration::from_secs(60) }
    });
    intent.stickiness = dice.once_in(3).then(|| Duration::from_secs(300));
    intent.capacity = dice.once_in(2).then(|| CapacityPolicy {
        before: dice.pick(&[Before::MatchLive, Before::Number(3)]),
        after_idle: dice.pick(&[None, Some(0), Some(1)]),
    });
    intent
}

fn rewrite(regex: &str) -> Rewrite {
    Rewrite { regex: regex.to_owned(), replace: "/b".to_owned() }
}

fn observed(dice: &mut Dice, route: &RouteSpec, colors: usize) -> Observed {
    let mut terminal = terminal(dice, colors);
    let (mut conditions, mut place) = (None, None);
    if let RouteSpec::OwnRule { priority, conditions: wanted, arn, .. } = route {
        // One that a killed run made is known by its looks alone.
        let is_as_made = arn.is_none() || dice.once_in(2);
        conditions = Some(if is_as_made { wanted.clone() } else { Conditions::default() });
        place = Some(Place { priority: if dice.once_in(3) { 77 } else { *priority }, taken_by: None });
        let colors_only = (0..colors).map(|n| (group(COLORS[n]), u32::from(n == 0))).collect();
        terminal = Terminal::Forward(Forward { groups: colors_only, stickiness: None });
    }
    // What somebody made of it meanwhile.
    let url_rewrite = dice.once_in(4).then(|| rewrite("^/a"));
    let is_known = route.processing().is_some_and(|wished| wished.url_rewrite.is_some()) || !dice.once_in(12);
    let processing = is_known.then(|| Processing { url_rewrite, ..Processing::default() });
    Observed { conditions, processing, place, ..Observed::leading(route.key(), terminal) }
}

/// The same to the target groups of the colors that have a name.
fn lead_to_named(terminal: &mut Terminal, colors: &[&str]) {
    let Terminal::Forward(forward) = terminal else { return };
    for (arn, _) in &mut forward.groups {
        if let Some(color) = colors.iter().find(|color| group(color) == *arn) {
            *arn = group(&format!("{color}-api"));
        }
    }
}

fn world(dice: &mut Dice, intent: &Intent) -> World {
    let colors = intent.environments.len();
    let alike = (!dice.once_in(3)).then(|| terminal(dice, colors));
    let mut routes = BTreeMap::new();
    for route in intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed) {
        let is_own = matches!(route, RouteSpec::OwnRule { .. });
        if is_own && dice.once_in(2) {
            continue;
        }
        let mut seen = observed(dice, route, colors);
        if let Some(alike) = alike.as_ref().filter(|_| !is_own) {
            seen.terminal = alike.clone();
        }
        // Somebody may have led it to another target group of a color.
        if intent.name(route).is_some() != dice.once_in(12) {
            lead_to_named(&mut seen.terminal, &COLORS[..colors]);
        }
        routes.insert(route.key(), seen);
    }
    let record = dice.pick(&[None, Some("blue"), Some("green"), Some("purple")]).filter(|_| intent.record.is_some());
    let capacity = |dice: &mut Dice| {
        let (min, desired) = (dice.roll(3) as i32, 2 + dice.roll(4) as i32);
        Capacity { min: (!dice.once_in(4)).then_some(min), max: 9, desired, pinned: None }
    };
    let mut capacities: BTreeMap<String, Capacity> =
        intent.environments.keys().map(|color| (color.clone(), capacity(dice))).collect();
    capacities.retain(|_, _| !dice.once_in(8));
    let groups = intent.groups().map(str::to_owned).chain([group("legacy")]);
    let sticky = groups.filter(|_| dice.once_in(5)).collect();
    World { routes, record: record.map(str::to_owned), capacities, sticky, ..World::default() }
}

/// The world with what the listener's rules tell, others among them.
fn placed(dice: &mut Dice, intent: &Intent, world: World) -> World {
    let rules = world.routes.iter().filter(|(key, _)| key.starts_with("web#"));
    let mut rules: Vec<Observed> = rules.map(|(_, seen)| seen.clone()).collect();
    for priority in [5, 9, 49_999].into_iter().filter(|_| dice.once_in(4)) {
        let place = Some(Place { priority, taken_by: None });
        let terminal = Terminal::Redirect(Redirect::default());
        let (arn, conditions) = (format!("other {priority}"), Some(Conditions::default()));
        rules.push(Observed { conditions, place, ..Observed::leading(arn, terminal) });
    }
    let mut world = world;
    world.cohort.noted = world.lock_record.iter().flat_map(|left| left.cohort.values().flatten().cloned()).collect();
    planner::placed(intent, world, planner::Listener { arn: "web", rules: &rules, foreign: &[] })
}

/// The world when so many steps are done, and what is written down of them where that is not all.
fn play(intent: &Intent, world: &World, runbook: &Runbook, done: usize) -> World {
    let ids: Vec<StepId> = runbook.steps().map(|(id, _)| id).take(done.max(runbook.taken_over.len())).collect();
    let mut after = runbook.after(world, |id| ids.contains(&id));
    for (key, seen) in &mut after.routes {
        seen.arn.clone_from(key);
        seen.place = seen.place.take().or_else(|| {
            let (_, priority) = key.split_once('#')?;
            Some(Place { priority: priority.parse().ok()?, taken_by: None })
        });
    }
    let is_whole = ids.len() == runbook.steps().count();
    after.lock_record = (!is_whole).then(|| written(intent, world, runbook, &ids));
    after
}

/// What a rollout that died after these steps wrote down.
fn written(intent: &Intent, world: &World, runbook: &Runbook, done: &[StepId]) -> LockRecord {
    let left = situation::unfinished(intent, world);
    let (from, to) = (situation::current(intent, world).live, situation::target_color(intent, world));
    let (from, to) = match left {
        Some(left) if left.to == to || left.from == to => (left.from.clone(), left.to.clone()),
        Some(left) => (left.from.clone(), to),
        None => (from, to),
    };
    let origins = left.map(|left| left.origins.clone()).unwrap_or_default();
    let record = left.map_or_else(|| world.record.clone(), |left| left.record.clone());
    let mut led = left.map_or_else(|| Some(Vec::new()), |left| left.led.clone());
    let mut sizes: BTreeMap<String, Raised> = world.lock_record.iter().flat_map(|left| left.sizes.clone()).collect();
    let target = to.as_ref().and_then(|to| intent.environments.get(to));
    for (id, step) in runbook.steps() {
        match step {
            Step::Route { route, after, .. } if intent.routes.contains(route) && done.contains(&id) => {
                let group = target.and_then(|one| one.group(intent.name(route)));
                let share = group.map_or(0.0, |group| after.share(group));
                led.get_or_insert_default().push((share * 10.0).round() as u32);
            }
            Step::Capacity { color, before, after, .. } if after.desired > before.desired => {
                let before = sizes.get(color).map_or(before.desired, |size| size.before);
                sizes.insert(color.clone(), Raised { before, raised: after.desired });
            }
            _ => {}
        }
    }
    let mut lock_record = LockRecord {
        version: VERSION,
        switch: intent.name.clone(),
        from,
        to,
        record,
        led,
        sizes,
        origins,
        ..LockRecord::default()
    };
    let seen = intent.routes.iter().filter_map(|route| Some((route.key(), world.routes.get(&route.key())?)));
    lock_record.note_origins(seen, &intent.environments);
    lock_record.note_cohort("app", world.cohort.noted.iter().cloned());
    lock_record.note_cohort(
        "app",
        runbook.steps().filter_map(|(_, step)| match step {
            Step::Route { route, .. } if world.cohort.has(route) => Some(route.key()),
            _ => None,
        }),
    );
    lock_record
}

/// What came of all stories.
#[derive(Default)]
struct Found {
    /// By kind how often, and where first.
    findings: BTreeMap<Kind, (usize, String)>,
    /// How many runbooks had a step of each sort.
    shapes: BTreeMap<&'static str, usize>,
}

/// What a step is, told apart as far as the rules do.
fn shape(step: &Step) -> &'static str {
    match step {
        Step::Check(Checking { check: Check::Healthy(_), .. }) => "health",
        Step::Check(_) => "check",
        Step::Converge(convergence) if convergence.previews => "previews",
        Step::Converge(_) => "converge",
        Step::Watch(watch) if watch.of_cohort => "cohort",
        Step::Watch(_) => "watch",
        Step::Route { before: None, .. } => "make",
        Step::Route { .. } => "route",
        Step::Priority { .. } => "priority",
        Step::Conditions { .. } => "conditions",
        Step::Processing { .. } => "processing",
        Step::Remove { .. } => "remove",
        Step::Capacity { before, after, .. } if after.desired < before.desired => "lower",
        Step::Capacity { .. } => "raise",
        Step::Record { .. } => "record",
    }
}

fn judge(found: &mut Found, runbook: &Runbook, (intent, world): (&Intent, &World), purpose: Purpose<'_>, story: &str) {
    let sorts: BTreeSet<&str> = runbook.steps().map(|(_, step)| shape(step)).collect();
    let resumed = (!runbook.taken_over.is_empty()).then_some("taken over");
    let whole = runbook.afterwards.map(|_| "afterwards");
    for sort in sorts.into_iter().chain(resumed).chain(whole) {
        *found.shapes.entry(sort).or_default() += 1;
    }
    for finding in lint(runbook, intent, world, purpose) {
        let words = runbook.summary().join("\n");
        let example = || (0, format!("{story}: {finding}\n{words}\n{intent:?}\n{world:?}"));
        found.findings.entry(finding.kind).or_insert_with(example).0 += 1;
    }
}

fn tell(seed: u64, found: &mut Found) {
    let mut dice = Dice(seed);
    let colors = 2 + dice.pick(&[0, 0, 1, 1, 3]);
    let mut intent = intent(&mut dice, colors);
    let mut world = world(&mut dice, &intent);
    let first = world.clone();
    for rollout in 0..4 {
        world = placed(&mut dice, &intent, world);
        if let Ok(runbook) = planner::plan(&intent, &world) {
            let story = format!("story {seed}, rollout {rollout}");
            judge(found, &runbook, (&intent, &world), Purpose::Rollout, &story);
            let count = runbook.steps().count();
            let done = if dice.once_in(3) { count } else { dice.roll(count + 1) };
            world = play(&intent, &world, &runbook, done);
        }
        if let Some(lock_record) = &mut world.lock_record {
            // An older version wrote less down, and the lock may be another switch's.
            match dice.roll(12) {
                0 | 1 => lock_record.led = None,
                2 => lock_record.switch = "other".to_owned(),
                _ => {}
            }
        }
        intent = wished(&mut dice, intent);
        if dice.once_in(8)
            && let Some(seen) = world.routes.get_mut("web")
        {
            seen.terminal = terminal(&mut dice, colors);
        }
    }
    let foreign = intent.routes.iter().chain(&intent.preview_routes);
    let foreign = foreign.filter(|route| !matches!(route, RouteSpec::OwnRule { .. }));
    let originals: Vec<(RouteSpec, Terminal)> =
        foreign.filter_map(|route| Some((route.clone(), first.routes.get(&route.key())?.terminal.clone()))).collect();
    let runbook = planner::plan_restoration(&intent, &originals, &world);
    let purpose = Purpose::Restoration(&originals);
    judge(found, &runbook, (&intent, &world), purpose, &format!("story {seed}, restored"));
    world = runbook.after(&world, |_| true);
    let own = intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed);
    let own_rules = own.filter(|route| matches!(route, RouteSpec::OwnRule { .. })).cloned().collect();
    let record = intent.record.clone().map(|parameter| (parameter, dice.pick(&[None, first.record.clone()])));
    let runbook = planner::plan_removal(&Removal { own_rules, record }, &world);
    judge(found, &runbook, (&intent, &world), Purpose::Removal, &format!("story {seed}, removed"));
}

#[test]
fn nothing_is_found_in_what_the_planner_makes() {
    let mut found = Found::default();
    (0..STORIES).for_each(|seed| tell(seed, &mut found));
    let lines = found.findings.iter().map(|(kind, (count, example))| format!("{kind:?}, {count} times. {example}\n\n"));
    assert!(found.findings.is_empty(), "{}", lines.collect::<String>());
    assert_eq!(found.shapes.len(), 17, "{:?}", found.shapes);
    assert!(found.shapes.values().all(|count| *count > 50), "{:?}", found.shapes);
}
