//! Looks, and has what was seen judged: what must hold before, while and after traffic moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::try_join_all;
use regex::Regex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock;
use crate::duration::shown;
use crate::rollout::cookies;
use crate::rollout::gate::{self, FunctionVerdict, HttpAnswer, TargetHealth, Verdict};
use crate::rollout::metrics::{self, Measured};
use crate::rollout::planner::RECHECK;
use crate::rollout::spending::{Exposed, blind, judge, measured};
use crate::rollout::strategy;
use crate::rollout::{
    BudgetCheck, Check, Checking, CommandCheck, Convergence, CountsAs, HealthyPolicy, HttpCheck, Inconclusive,
    LambdaCheck, MetricCheck, Prove, SessionCheck, Subject, Tell, Watch, fill,
};
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::events::{RolloutContext, rfc3339};
use crate::run::rollout::kept::seconds;
use crate::run::rollout::ports::{MetricOf, Ports};
use crate::run::rollout::spending;
use crate::secrets::{self, Reach};

/// Answers of the load balancer are asked for at least so far apart.
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// The first pause between looks while the nodes follow; each is as long as all before it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// More of what a command wrote than a person reads is not shown.
const MOST_CHARS: usize = 4000;

/// Looks on behalf of one rollout.
#[derive(Clone, Copy)]
pub(super) struct CheckRunner<'a> {
    pub ports: &'a Ports,
    pub about: &'a RolloutContext,
    /// What checks saw for which nothing is done.
    pub dry: &'a Mutex<Vec<String>>,
    /// What commands wrote last: it is told beside the reason, and nowhere else.
    pub wrote: &'a Mutex<String>,
    /// The error level of each sequential test.
    pub level: f64,
    /// When users were watched for the first time.
    pub watched: SystemTime,
    /// What was there before traffic moved, once it was asked for.
    pub known: &'a Known,
}

/// Why a step can't be done.
#[derive(Debug)]
pub(super) enum Unmet {
    /// What was to hold does not.
    Failed(String),
    /// Nothing can be said of it, and a person is to decide.
    Unclear(String),
}

impl From<String> for Unmet {
    fn from(seen: String) -> Unmet {
        Unmet::Failed(seen)
    }
}

/// Numbers of before traffic moved, by what was asked: they do not change while a hold is watched.
pub(super) type Known = Mutex<BTreeMap<String, f64>>;

/// With a smaller part of the color's requests the live one has what is left of its traffic: it says nothing of the color.
const FEW: f64 = 0.05;

/// How far back what is usual is asked for.
const USUALLY: Duration = Duration::from_secs(60 * 60);

/// The looks of a hold that failed. Everything that is looked at in one interval is one look.
struct Looks {
    start: Instant,
    hold: Duration,
    interval: Duration,
    /// Since when the nodes do what they were told, once they do: the hold's time is counted from then.
    settled: watch::Receiver<Option<Instant>>,
    failed: Mutex<BTreeSet<u64>>,
}

impl Looks {
    fn settled(&self) -> Option<Instant> {
        *self.settled.borrow()
    }

    /// When the hold ends, once that is known.
    fn end(&self) -> Option<Instant> {
        self.settled().map(|settled| settled + self.hold)
    }

    /// The number of a look by when it began, from 1; the one at the end of the hold is one of its own.
    fn number(&self, began: Instant) -> u64 {
        let in_interval = |time: Duration| time.as_nanos() / self.interval.as_nanos().max(1);
        let number = match self.end().filter(|end| began >= *end) {
            None => in_interval(began.saturating_duration_since(self.start)),
            Some(end) => {
                end.saturating_duration_since(self.start).as_nanos().div_ceil(self.interval.as_nanos().max(1))
                    + in_interval(began.saturating_duration_since(end))
            }
        };
        u64::try_from(number).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Returns when it is time for another look: after an interval, or at the end of the hold. As long as the nodes follow, what
    /// costs little is looked at more often: a color that breaks as the traffic comes breaks then.
    async fn next(&self, began: Instant, check: &Check) {
        let is_cheap = matches!(check, Check::Healthy(_) | Check::Http(_) | Check::Session(_));
        let is_settling = self.settled().is_none();
        let pause = began.saturating_duration_since(self.start).max(FIRST_PAUSE);
        let next = began + if is_cheap && is_settling { pause.min(self.interval) } else { self.interval };
        let mut settled = self.settled.clone();
        tokio::select! {
            () = sleep_until(next) => {}
            end = async { settled.wait_for(Option::is_some).await.ok().and_then(|settled| *settled) } => {
                let end = end.map_or(next, |settled| settled + self.hold);
                sleep_until(next.min(end).max(Instant::now())).await;
            }
        }
    }

    /// How many looks failed.
    fn count(&self) -> usize {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Notes that a look failed; how many have.
    fn fail(&self, number: u64) -> usize {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(number);
        failed.len()
    }
}

/// Since when traffic is as it is: what CloudWatch has of before says nothing.
#[derive(Clone, Copy, Debug)]
struct Since {
    wall: SystemTime,
    instant: Instant,
}

impl Since {
    fn now() -> Since {
        Since { wall: clock::wall(), instant: Instant::now() }
    }

    /// The same, from a later moment on, where there is one.
    fn moved_to(self, later: Option<Instant>) -> Since {
        let instant = later.unwrap_or(self.instant);
        Since { wall: self.wall + instant.saturating_duration_since(self.instant), instant }
    }

    /// What time it is, by a clock that tests move.
    fn wall_now(self) -> SystemTime {
        self.wall + self.instant.elapsed()
    }
}

impl CheckRunner<'_> {
    /// Waits until it holds; otherwise what was seen.
    pub(super) async fn validate(self, checking: &Checking) -> Result<(), Unmet> {
        if let Check::Healthy(policy) = &checking.check {
            return Ok(self.wait_for_health(&checking.subject, policy).await?);
        }
        match self.look(checking, None).await {
            Verdict::Pass => Ok(()),
            Verdict::Inconclusive(seen) | Verdict::Fail(seen) | Verdict::Pending(seen) if is_dry(&checking.check) => {
                self.note_dry(format!("{}: {seen}", checking.place()));
                Ok(())
            }
            Verdict::Inconclusive(_) if passes_inconclusive(&checking.check) => Ok(()),
            // Nobody is there yet: there is nothing to stay for.
            Verdict::Inconclusive(seen) => Err(Unmet::Failed(inconclusive(&seen, Inconclusive::Fail))),
            Verdict::Fail(seen) | Verdict::Pending(seen) => Err(Unmet::Failed(seen)),
        }
    }

    /// Tells what a check would have done that does nothing.
    fn note_dry(self, words: String) {
        tracing::warn!(words, "a dry run would have stopped the rollout");
        self.dry.lock().unwrap_or_else(PoisonError::into_inner).push(words);
    }

    /// Stays for the time of the hold, which begins once the nodes do what they were told, and sees that everything holds, from
    /// the first moment on; otherwise what was seen.
    pub(super) async fn watch(self, watch: &Watch) -> Result<(), Unmet> {
        let (settle, settled) = watch::channel(None);
        let since = Since::now();
        let (start, hold, interval) = (since.instant, watch.hold, watch.interval);
        let looks = Looks { start, hold, interval, settled, failed: Mutex::default() };
        // As long as a number of CloudWatch's is waited for, the other eyes stay open.
        let open = AtomicUsize::new(watch.checks.iter().filter(|one| is_late(&one.check)).count());
        let checks = watch.checks.iter().map(|checking| self.keep_looking(watch, checking, since, (&looks, &open)));
        let checks = async { try_join_all(checks).await.map(drop) };
        let hold = async {
            if let Some(convergence) = &watch.convergence {
                self.converge(convergence).await?;
            }
            let now = Instant::now();
            settle.send_replace(Some(now));
            sleep_until(now + watch.hold).await;
            Ok(())
        };
        futures::future::try_join(hold, checks).await.map(drop)
    }

    /// Looks again and again until the end, and once more then.
    async fn keep_looking(
        self,
        watch: &Watch,
        checking: &Checking,
        since: Since,
        (looks, open): (&Looks, &AtomicUsize),
    ) -> Result<(), Unmet> {
        let (mut ever_passed, mut is_noted) = (false, false);
        // By the front door either color may answer until the nodes have followed: only then that says something.
        if !is_eager(&checking.check) {
            drop(looks.settled.clone().wait_for(Option::is_some).await);
        }
        loop {
            let began = Instant::now();
            let (look, end) = (looks.number(began), looks.end());
            // As it was when the look began: what CloudWatch has had since is for the next one.
            let is_told = end.is_none_or(|end| is_told(&checking.check, since.moved_to(looks.settled()), end));
            // What CloudWatch counted while the nodes were following is neither of this step nor of the one before.
            let verdict = self.look(checking, Some(since.moved_to(looks.settled()))).await;
            let verdict = self.spared((watch, checking), verdict, (look, since), &mut is_noted);
            let failed = match &verdict {
                Verdict::Pass | Verdict::Inconclusive(_) => None,
                Verdict::Pending(seen) | Verdict::Fail(seen) => Some(seen),
            };
            if let Some(seen) = failed {
                let count = looks.fail(look);
                tracing::warn!(check = checking.place(), look, count, "a look failed");
                // What was spent stays so.
                let is_final = matches!((&checking.check, &verdict), (Check::Budget(_), Verdict::Fail(_)));
                if is_final || count > watch.max_failures as usize {
                    return Err(Unmet::Failed(verdict_words(watch, checking, seen, (look, count), since)));
                }
            }
            ever_passed |= failed.is_none();
            if let Some(end) = end.filter(|end| began >= *end) {
                // Where looks take long there may be fewer than may fail: one that never passed has not held.
                if let Some(seen) = failed.filter(|_| !ever_passed) {
                    let count = looks.count();
                    return Err(Unmet::Failed(verdict_words(watch, checking, seen, (look, count), since)));
                }
                let late = is_late(&checking.check);
                // The last minutes of a hold are judged, too, once CloudWatch has them.
                if !late && open.load(Ordering::Relaxed) > 0 || !is_told {
                    sleep(watch.interval).await;
                    continue;
                }
                let verdict = self.look_ahead((watch, checking), verdict, (look, since, looks.settled())).await?;
                let may_come = began < end + patience(&checking.check);
                if matches!(verdict, Verdict::Inconclusive(_)) && !passes_inconclusive(&checking.check) && may_come {
                    // CloudWatch is late: what is not there yet may still come.
                    sleep(watch.interval).await;
                    continue;
                }
                self.ended(checking, verdict, is_noted)?;
                if late {
                    open.fetch_sub(1, Ordering::Relaxed);
                }
                return Ok(());
            }
            looks.next(began, &checking.check).await;
        }
    }

    /// What was seen, but for what is only told: that passes.
    fn spared(
        self,
        (watch, checking): (&Watch, &Checking),
        verdict: Verdict,
        (look, since): (u64, Since),
        is_noted: &mut bool,
    ) -> Verdict {
        match verdict {
            Verdict::Pending(seen) | Verdict::Fail(seen) if is_dry(&checking.check) => {
                if !std::mem::replace(is_noted, true) {
                    self.note_dry(verdict_words(watch, checking, &seen, (look, 0), since));
                }
                Verdict::Pass
            }
            verdict => verdict,
        }
    }

    /// What the last look of a hold comes to.
    fn ended(self, checking: &Checking, verdict: Verdict, is_noted: bool) -> Result<(), Unmet> {
        let Verdict::Inconclusive(seen) = verdict else { return Ok(()) };
        if is_dry(&checking.check) {
            if !is_noted {
                self.note_dry(format!("{}: {seen}; nothing could be said", checking.place()));
            }
            return Ok(());
        }
        if matches!(checking.check, Check::Budget(_)) {
            let words = format!("{seen}; whether the budget is used up is not known ({})", checking.place());
            return Err(Unmet::Failed(words));
        }
        let counts_as = counts_as(&checking.check).unwrap_or_default();
        let words = || format!("{} ({})", inconclusive(&seen, counts_as), checking.place());
        match counts_as {
            Inconclusive::Pass => Ok(()),
            Inconclusive::Fail => Err(Unmet::Failed(words())),
            Inconclusive::Hold => Err(Unmet::Unclear(words())),
        }
    }

    /// Looks once.
    async fn look(self, checking: &Checking, since: Option<Since>) -> Verdict {
        let subject = &checking.subject;
        match &checking.check {
            Check::Healthy(policy) => self.look_at_health(subject, policy).await,
            Check::Http(check) => self.ask(&check.for_color(&subject.color), Shown::All).await.into(),
            Check::Lambda(check) => self.invoke(&check.for_color(&subject.color)).await.into(),
            Check::Command(check) => self.command(check, subject).await.into(),
            Check::Session(check) => self.session(check, subject).await.into(),
            Check::Alarms(check) => {
                let check = check.for_color(&subject.color);
                match self.ports.monitoring.alarms(&check.names).await {
                    Ok(seen) => gate::alarms(&check, &seen),
                    Err(_) if check.policy.unreadable == CountsAs::Pass => Verdict::Pass,
                    Err(error) => Verdict::Fail(error.message),
                }
            }
            Check::Metric(check) => self.measure(check, subject, since).await,
            Check::Budget(check) => match since {
                Some(since) => self.spend(check, subject, since, None).await,
                // Before it has traffic it costs nothing.
                None => Verdict::Pass,
            },
        }
    }

    async fn health(
        self,
        subject: &Subject,
        zones: bool,
    ) -> Result<(Vec<TargetHealth>, Option<Vec<TargetHealth>>), PortError> {
        let of_live = async {
            match &subject.live_group {
                Some(live) => self.ports.load_balancer.target_health(live, zones).await.map(Some),
                None => Ok(None),
            }
        };
        futures::future::try_join(self.ports.load_balancer.target_health(&subject.group, zones), of_live).await
    }

    async fn look_at_health(self, subject: &Subject, policy: &HealthyPolicy) -> Verdict {
        match self.health(subject, policy.each_zone).await {
            Ok((targets, live)) => gate::healthy(&subject.shown(), &targets, live.as_deref(), policy),
            Err(error) => Verdict::Fail(error.message),
        }
    }

    /// Waits until there are enough, and that they stay so where they were not there from the beginning.
    async fn wait_for_health(self, subject: &Subject, policy: &HealthyPolicy) -> Result<(), String> {
        let end = Instant::now() + policy.timeout;
        let mut healthy_since: Option<Instant> = None;
        let mut sustained = policy.sustained;
        loop {
            let (targets, live) = self.health(subject, policy.each_zone).await.map_err(|error| error.message)?;
            match gate::healthy(&subject.shown(), &targets, live.as_deref(), policy) {
                Verdict::Pass => {
                    let since = *healthy_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= sustained.unwrap_or_default() {
                        return Ok(());
                    }
                    if Instant::now() >= end {
                        let needed = shown(sustained.unwrap_or_default());
                        let waited = shown(policy.timeout);
                        return Err(format!(
                            "{} has enough healthy targets, but not for {needed} yet, after {waited} (validation.healthy.timeout)",
                            subject.shown()
                        ));
                    }
                }
                Verdict::Pending(seen) | Verdict::Fail(seen) | Verdict::Inconclusive(seen) => {
                    if Instant::now() >= end {
                        let of = if policy.timeout == RECHECK { "" } else { " (validation.healthy.timeout)" };
                        return Err(format!("{seen}\nafter {}{of}", shown(policy.timeout)));
                    }
                    tracing::info!(seen, "waiting for healthy targets");
                    healthy_since = None;
                    // A target that comes up is healthy after one pass.
                    sustained = policy.sustained.or(Some(policy.interval * 2));
                }
            }
            sleep(policy.interval.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn ask(self, check: &HttpCheck, shown: Shown) -> Result<HttpAnswer, String> {
        let mut tries = 0;
        loop {
            let seen = match self.ports.http.probe(check).await {
                Ok(answer) => match gate::http(check, &shown.of(&answer)) {
                    Verdict::Pass => return Ok(answer),
                    Verdict::Pending(seen) | Verdict::Fail(seen) | Verdict::Inconclusive(seen) => seen,
                },
                Err(error) => error.message,
            };
            if tries >= check.retries.unwrap_or_default() {
                let plural = if tries == 0 { "try" } else { "tries" };
                return Err(format!("{seen} ({} {plural})", tries + 1));
            }
            tries += 1;
            tracing::info!(tries, "the check is repeated");
            sleep(check.retry_delay).await;
        }
    }

    /// Asks a function until it is done. One that takes long says so, and is asked again.
    async fn invoke(self, check: &LambdaCheck) -> Result<(), String> {
        let payload = check.payload.as_deref().unwrap_or("{}");
        let name = check.name();
        let work = async {
            loop {
                let answer = self.ports.functions.invoke(check, payload).await.map_err(|error| error.message)?;
                match gate::function(&name, &answer) {
                    FunctionVerdict::Passed => return Ok(()),
                    FunctionVerdict::Failed(seen) => return Err(seen),
                    FunctionVerdict::AskAgain(delay) => {
                        tracing::info!(function = name, "it isn't done yet");
                        sleep(delay.unwrap_or(check.interval)).await;
                    }
                }
            }
        };
        let late = || format!("the function {name} was not done after {}", shown(check.timeout));
        timeout(check.timeout, work).await.unwrap_or_else(|_| Err(late()))
    }

    async fn command(self, check: &CommandCheck, subject: &Subject) -> Result<(), String> {
        let argv: Vec<String> = check.argv.iter().map(|part| fill(part, &subject.color)).collect();
        let mut variables = self.variables(subject);
        variables.extend(check.environment.iter().map(|(name, value)| (name.clone(), fill(value, &subject.color))));
        let command = check.shown();
        let filled = CommandCheck { argv, ..check.clone() };
        let end = self.ports.commands.run(&filled, &variables).await.map_err(|error| error.message)?;
        if end.code == Some(0) && !end.timed_out {
            return Ok(());
        }
        let how = match (end.timed_out, end.code) {
            (true, _) => format!("was not done after {} and was killed", shown(check.timeout)),
            (false, Some(code)) => format!("ended with exit code {code}"),
            (false, None) => "was killed".to_owned(),
        };
        // Values may be secret; those that tell what is checked are not.
        let own: Vec<String> = self.variables(subject).iter().map(|(name, value)| format!("{name}={value}")).collect();
        let given: Vec<&str> = check.environment.keys().map(String::as_str).collect();
        let given = if given.is_empty() { String::new() } else { format!(" and {}", given.join(", ")) };
        let wrote = secrets::end(end.output.trim_end(), end.is_cut, MOST_CHARS);
        let nothing = if wrote.is_empty() { ", and wrote nothing" } else { "" };
        *self.wrote.lock().unwrap_or_else(PoisonError::into_inner) = wrote;
        Err(format!("{command} {how}, with {}{given}{nothing}", own.join(" ")))
    }

    /// What a command is told beside its arguments.
    fn variables(self, subject: &Subject) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([
            ("BLUEGREEN_SWITCH".to_owned(), self.about.switch.clone()),
            ("BLUEGREEN_ROLLOUT".to_owned(), self.about.id.clone()),
            ("BLUEGREEN_COLOR".to_owned(), subject.color.clone()),
            ("BLUEGREEN_TARGET_GROUP_ARN".to_owned(), subject.group.clone()),
        ]);
        variables.extend(subject.live_color.iter().map(|live| ("BLUEGREEN_LIVE".to_owned(), live.clone())));
        variables
    }

    /// Logs in on the live color, and asks the idle one with the same cookies.
    async fn session(self, check: &SessionCheck, subject: &Subject) -> Result<(), String> {
        let Some(live) = &subject.live_color else { return Ok(()) };
        let login = check.login.for_color(live);
        let answer = self.ask(&login, Shown::NoBody).await.map_err(|seen| format!("logging in on {live}: {seen}"))?;
        let mut check = check.check.for_color(&subject.color);
        let set = answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str());
        let cookies = cookies::cookies(set, &login, &check, clock::wall().into());
        // What a color tells back of the session is as secret as the session.
        secrets::learn(cookies.sent.iter().map(|(_, value)| value), Reach::Everywhere);
        let kept: Vec<String> = cookies.kept.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        let (color, asked) = (&subject.color, check.shown_url());
        if cookies.sent.is_empty() {
            let from = format!("{} {}", login.method, login.shown_url());
            return Err(match kept.as_slice() {
                [] => format!("logging in on {live}: {from} set no cookie"),
                kept => format!("a browser would send no cookie that {from} set to {asked}: {}", kept.join("; ")),
            });
        }
        let names: Vec<&str> = cookies.sent.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let not_sent = if kept.is_empty() { String::new() } else { format!("; not sent: {}", kept.join("; ")) };
        let pairs: Vec<String> = cookies.sent.iter().map(|(name, value)| format!("{name}={value}")).collect();
        check.headers.insert("Cookie".to_owned(), pairs.join("; "));
        let asked = self.ask(&check, Shown::All).await;
        asked.map(drop).map_err(|seen| format!("{color} with the cookies of {live} ({names}{not_sent}): {seen}"))
    }

    async fn measure(self, check: &MetricCheck, subject: &Subject, since: Option<Since>) -> Verdict {
        let (Some(group), Some(load_balancer)) =
            (Subject::group_dimension(&subject.group), subject.load_balancer_dimension())
        else {
            return Verdict::Inconclusive(format!(
                "{} of {}: not a load balancer of AWS's",
                check.metric.name(),
                subject.shown()
            ));
        };
        let window = window(check, since);
        let Some((from, to)) = window else {
            return metrics::judge(check, &subject.shown(), &subject.live_name(), &Measured::default());
        };
        let name = subject.live_color.clone().unwrap_or_else(|| subject.live_name());
        let live = subject.live_group.as_deref().and_then(Subject::group_dimension);
        let live = live.map(|group| MetricOf { color: &name, group, load_balancer: &load_balancer, over: &[] });
        let of = MetricOf { color: &subject.color, group, load_balancer: &load_balancer, over: &[] };
        match self.measured(check, (&of, live.as_ref()), (from, to), since.is_some()).await {
            Ok(measured) => metrics::judge(check, &subject.shown(), &subject.live_name(), &measured),
            Err(error) => unread(error),
        }
    }

    /// Whether something is left of the budget, and, where it is known how much the color would get next, whether it would be then.
    async fn spend(self, check: &BudgetCheck, subject: &Subject, since: Since, next: Option<Exposed>) -> Verdict {
        let monitoring = &*self.ports.monitoring;
        let ask = async { Ok(spending::left(monitoring, check, &subject.color, self.watched).await?.left) };
        let read = async {
            let left = self.once(format!("{check:?}"), ask).await?;
            let spent = spending::spent(monitoring, check, &subject.color, (self.watched, since.wall_now())).await?;
            Ok((left, spent))
        };
        match read.await {
            Ok((Some(left), spent)) => judge(&subject.color, left, spent, next),
            Ok((None, _)) => Verdict::Inconclusive("CloudWatch has no requests of the time before".to_owned()),
            Err(error) => unread(error),
        }
    }

    /// What the last look of a hold comes to where a budget has no room for the step that comes next.
    async fn look_ahead(
        self,
        (watch, checking): (&Watch, &Checking),
        verdict: Verdict,
        (look, since, settled): (u64, Since, Option<Instant>),
    ) -> Result<Verdict, Unmet> {
        let (Check::Budget(check), Verdict::Pass) = (&checking.check, &verdict) else { return Ok(verdict) };
        match self.room_for_next(watch, (checking, check), since.moved_to(settled)).await {
            Verdict::Fail(seen) => Err(Unmet::Failed(verdict_words(watch, checking, &seen, (look, 0), since))),
            verdict => Ok(verdict),
        }
    }

    /// Whether a budget has room for the step that comes next: until anything can be seen of it, it is as bad as it was so far.
    async fn room_for_next(self, watch: &Watch, (checking, check): (&Checking, &BudgetCheck), since: Since) -> Verdict {
        let Some(percent) = check.next else { return Verdict::Pass };
        let (color, metric) = (&checking.subject.color, measured(check.budget.period));
        // Of a short hold there is no whole period: what its first one had before it is taken for the hold's.
        let part = || (since.wall, clock::floor(since.wall_now() - metric.lag(), metric.period));
        let (from, to) = window(&metric, Some(since)).unwrap_or_else(part);
        let seen = match spending::spent(&*self.ports.monitoring, check, color, (from, to)).await {
            Ok(seen) => seen,
            Err(error) => return unread(error),
        };
        let a_second = seen.requests / to.duration_since(from).unwrap_or_default().as_secs_f64().max(1.0);
        let unseen = a_second * percent / watch.percent * blind(&check.budget, watch.interval).as_secs_f64();
        self.spend(check, &checking.subject, since, Some(Exposed { percent, seen, unseen })).await
    }

    /// Measures a color, and the live one where it is compared with that. Once traffic has moved (`is_moved`) the live color may have
    /// none any more.
    async fn measured(
        self,
        check: &MetricCheck,
        (of, live): (&MetricOf<'_>, Option<&MetricOf<'_>>),
        (from, to): (SystemTime, SystemTime),
        is_moved: bool,
    ) -> Result<Measured, PortError> {
        let dispersion = match live {
            Some(live) if check.counted().is_some() => self.dispersion(check, live, from).await?,
            _ => 0.0,
        };
        let compares = check.max_ratio_to_live.is_some() || check.significance.is_some();
        let live = live.filter(|_| compares);
        let mut measured = self.beside(check, (of, live), (from, to), (from, to)).await?;
        // A color that has no traffic any more is measured by what it had before.
        let few = (check.least_requests().max(1) as f64).max(FEW * measured.color.requests);
        if is_moved && measured.live.as_ref().is_some_and(|live| live.compared().requests < few) {
            // Evidence goes by the same time at each look.
            let length = match check.counted() {
                Some(_) => USUALLY,
                None => to.duration_since(from).unwrap_or_default().max(check.window),
            };
            measured = self.beside(check, (of, live), (from, to), before(check, from, length)).await?;
            measured.live_when = Some("before");
        }
        Ok(Measured { is_complete: true, level: self.level, dispersion, ..measured })
    }

    /// Measures a color in a time, and the live one, if there is one, in the same or in another.
    async fn beside(
        self,
        check: &MetricCheck,
        (of, live): (&MetricOf<'_>, Option<&MetricOf<'_>>),
        time: (SystemTime, SystemTime),
        live_time: (SystemTime, SystemTime),
    ) -> Result<Measured, PortError> {
        let sample = async |of: &MetricOf<'_>, over: &[f64], time| {
            self.ports.monitoring.sample(check, MetricOf { over, ..of.clone() }, time).await
        };
        let mut other = match live {
            Some(live) => Some(sample(live, &[], live_time).await?),
            None => None,
        };
        let percentile = other.as_ref().and_then(|live| metrics::percentile(check, live));
        let limits = metrics::limits(check, percentile);
        let over: Vec<f64> = limits.iter().map(|limit| limit.seconds()).collect();
        let color = sample(of, &over, time).await?;
        if let (Some(live), Some(own)) = (live, percentile) {
            other = Some(sample(live, &[own], live_time).await?);
        }
        Ok(Measured { color, live: other, limits, percentile, ..Measured::default() })
    }

    /// How many times as much as single requests what a sequential test counts of a target group varied from period to period in the hour
    /// before that time.
    async fn dispersion(self, check: &MetricCheck, of: &MetricOf<'_>, from: SystemTime) -> Result<f64, PortError> {
        let ask = async {
            let hour = before(check, from, USUALLY);
            let mut usual = self.ports.monitoring.sample(check, of.clone(), hour).await?;
            if let Some(own) = metrics::percentile(check, &usual) {
                usual = self.ports.monitoring.sample(check, MetricOf { over: &[own], ..of.clone() }, hour).await?;
            }
            Ok(Some(metrics::dispersion(&usual)))
        };
        Ok(self.once(format!("{check:?} {} {}", of.group, seconds(from)), ask).await?.unwrap_or_default())
    }

    /// A number of before traffic moved: asked for until it is known, and not again.
    async fn once(
        self,
        key: String,
        ask: impl Future<Output = Result<Option<f64>, PortError>>,
    ) -> Result<Option<f64>, PortError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known().get(&key).copied() {
            return Ok(Some(number));
        }
        let number = ask.await?;
        known().extend(number.map(|number| (key, number)));
        Ok(number)
    }

    /// Waits until the nodes do what they were told.
    pub(super) async fn converge(self, convergence: &Convergence) -> Result<(), String> {
        let Some(prove) = &convergence.prove else {
            sleep(convergence.settle).await;
            return Ok(());
        };
        let end = Instant::now() + prove.timeout;
        let needed = prove.needed(&convergence.shares);
        let request = HttpCheck { retries: None, ..prove.request.clone() };
        let pattern = match &prove.by {
            Tell::Body(pattern) => Some(Regex::new(pattern).map_err(|error| error.to_string())?),
            Tell::Header(_) | Tell::Cookie(_) => None,
        };
        let mut answers: Vec<String> = Vec::new();
        loop {
            let seen = match self.ports.http.probe(&request).await {
                Ok(answer) => match told(prove, pattern.as_ref(), &answer)
                    .filter(|_| gate::http(&request, &answer) == Verdict::Pass)
                {
                    Some(told) => {
                        let color = prove.color_of(&told, convergence.shares.keys());
                        answers.push(color.map_or_else(|| format!("{:?}", secrets::outside(&told)), str::to_owned));
                        match strategy::agrees(&answers, &convergence.shares, needed) {
                            Ok(()) => return Ok(()),
                            Err(seen) => seen,
                        }
                    }
                    None => {
                        // In a row means without anything else in between.
                        answers.clear();
                        format!("an answer ({}) does not tell which color gave it", answer.status)
                    }
                },
                Err(error) => {
                    answers.clear();
                    error.message
                }
            };
            if Instant::now() >= end {
                let asked = prove.request.shown_url();
                return Err(format!(
                    "the answers of {asked} do not agree with the weights after {} (strategy.prove.timeout): {seen}",
                    shown(prove.timeout)
                ));
            }
            sleep(PROBE_PAUSE).await;
        }
    }
}

/// The whole periods since traffic moved that CloudWatch has all of; before it moved, those of the check's window. None if there is
/// none yet.
fn window(check: &MetricCheck, since: Option<Since>) -> Option<(SystemTime, SystemTime)> {
    let period = check.period.as_secs().max(1);
    let now = since.map_or_else(clock::wall, Since::wall_now) - check.lag();
    let to = seconds(now) / period * period;
    let from = match since {
        Some(since) => seconds(since.wall).div_ceil(period) * period,
        None => to.saturating_sub(check.window.as_secs().max(period)) / period * period,
    };
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    (to >= from + period).then(|| (at(from), at(to)))
}

/// So long a time before that one. The period in which traffic moved is neither before nor after.
fn before(check: &MetricCheck, from: SystemTime, length: Duration) -> (SystemTime, SystemTime) {
    (from - length - check.period, from - check.period)
}

/// What an answer tells.
fn told(prove: &Prove, pattern: Option<&Regex>, answer: &HttpAnswer) -> Option<String> {
    match &prove.by {
        Tell::Header(name) => answer.header(name).map(str::to_owned),
        Tell::Cookie(name) => answer.cookies().into_iter().find(|(own, _)| own == name).map(|(_, value)| value),
        Tell::Body(_) => {
            let found = pattern?.captures(&answer.body)?;
            found.get(1).or_else(|| found.get(0)).map(|found| found.as_str().to_owned())
        }
    }
}

impl<T> From<Result<T, String>> for Verdict {
    fn from(result: Result<T, String>) -> Verdict {
        result.map_or_else(Verdict::Fail, |_| Verdict::Pass)
    }
}

/// What of an answer may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    All,
    /// A login's answer may hold a token.
    NoBody,
}

impl Shown {
    fn of(self, answer: &HttpAnswer) -> HttpAnswer {
        let mut shown = answer.clone();
        if self == Shown::NoBody {
            shown.excerpt.clear();
        }
        shown
    }
}

/// That it may not be read, or was asked wrongly, stays so; anything else may pass.
fn unread(error: PortError) -> Verdict {
    match error.kind {
        FailureKind::Denied | FailureKind::InvalidRequest => Verdict::Fail(error.message),
        _ => Verdict::Inconclusive(error.message),
    }
}

/// Whether what a check sees is the color's own doing whatever the nodes do: it asks the color itself.
fn is_eager(check: &Check) -> bool {
    let names = |text: &str| text.contains("{color}");
    let asks = |check: &HttpCheck| {
        let headers = check.headers.values().any(|value| names(value));
        names(&check.url) || check.connect_to.as_deref().is_some_and(names) || headers
    };
    match check {
        Check::Healthy(_) | Check::Alarms(_) | Check::Metric(_) | Check::Budget(_) => true,
        Check::Http(check) => asks(check),
        Check::Session(check) => asks(&check.check),
        Check::Lambda(_) | Check::Command(_) => false,
    }
}

/// Whether more may come to be known of it.
fn is_late(check: &Check) -> bool {
    counts_as(check).is_some()
}

/// Whether CloudWatch has all of the hold by now, as far as it is made of whole periods.
fn is_told(check: &Check, since: Since, end: Instant) -> bool {
    let Some((period, lag)) = check.period().zip(check.lag()) else { return true };
    let periods = |time: SystemTime| seconds(time) / period.as_secs().max(1);
    let end = since.wall + end.saturating_duration_since(since.instant);
    let is_short = periods(end) <= periods(since.wall) + 1;
    // A number of requests is known of any time, if only its last period has come.
    if is_short && matches!(check, Check::Budget(_)) {
        return periods(since.wall_now() - lag) > periods(end);
    }
    is_short || periods(since.wall_now() - lag) >= periods(end)
}

/// Whether it is only told.
fn is_dry(check: &Check) -> bool {
    matches!(check, Check::Metric(metric) if metric.dry_run)
}

/// What a check counts as that says nothing; none where each look says something.
fn counts_as(check: &Check) -> Option<Inconclusive> {
    match check {
        Check::Metric(metric) => Some(metric.inconclusive),
        other => other.period().map(|_| Inconclusive::Fail),
    }
}

/// How much later than its time CloudWatch may tell of a period.
fn patience(check: &Check) -> Duration {
    check.period().zip(check.lag()).map_or(Duration::ZERO, |(period, lag)| period * 3 + lag)
}

fn passes_inconclusive(check: &Check) -> bool {
    counts_as(check) == Some(Inconclusive::Pass)
}

fn inconclusive(seen: &str, counts_as: Inconclusive) -> String {
    match counts_as {
        Inconclusive::Hold => format!("{seen}; nothing can be said, so that it stays here (inconclusive = \"hold\")"),
        _ => format!("{seen}; nothing can be said, which counts as failed (inconclusive = \"pass\" would let it pass)"),
    }
}

fn verdict_words(watch: &Watch, checking: &Checking, seen: &str, (look, count): (u64, usize), since: Since) -> String {
    let after = shown(Duration::from_secs(since.instant.elapsed().as_secs()));
    let allowed = watch.max_failures;
    let tolerated =
        if allowed > 0 && count > 0 { format!(", {count} looks failed, {allowed} may fail") } else { String::new() };
    let whom = if watch.of_cohort { "the cohort".to_owned() } else { format!("{} % of the traffic", watch.percent) };
    format!(
        "{seen}\n{} at {}, look {look}, {after} after {whom} was led to {}{tolerated}",
        checking.place(),
        rfc3339(since.wall_now()),
        watch.subject.color
    )
}
