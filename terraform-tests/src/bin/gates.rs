//! `make gates`: what the gates of a rollout do to colors that are as good as the live one, and to such that are worse, simulated with the
//! provider's own judge. Writes the table of the guide and its picture; the old rule, which holds the number itself against its limit at
//! each look, is beside it in the same runs.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bluegreen::rollout::gate::Verdict;
use bluegreen::rollout::metrics::{Count, Measured, Sample, dispersion, judge, limits, percentile};
use bluegreen::rollout::{Inconclusive, Metric, MetricCheck, MetricTest};
use fastrand::Rng;

/// Failed requests of a healthy color.
const ERRORS: f64 = 0.005;
/// The spread of the logarithm of its latencies, whose median is 100 ms.
const SIGMA: f64 = 0.6;
const MEDIAN: f64 = 0.1;
/// One look a minute.
const LOOKS: usize = 10;
const LEVEL: f64 = 0.01;
const HEALTHY: usize = 10_000;
const WORSE: usize = 1_000;
const TRAFFIC: [f64; 3] = [300.0, 1000.0, 6000.0];
const STEPS: [f64; 3] = [0.05, 0.1, 0.5];

/// How requests come.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// One by one.
    Plain,
    /// Errors and slow requests five at a time, each color by itself.
    Clumps,
    /// Traffic and errors go up and down from minute to minute, for both colors alike.
    Bursts,
}

/// How much worse a color is.
#[derive(Clone, Copy)]
struct Worse {
    errors: f64,
    latency: f64,
}

const AS_GOOD: Worse = Worse { errors: 1.0, latency: 1.0 };

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

fn poisson(rng: &mut Rng, mean: f64) -> f64 {
    if mean > 30.0 {
        return mean.sqrt().mul_add(normal(rng), mean).round().max(0.0);
    }
    let (mut k, mut p, end) = (0.0, rng.f64(), (-mean).exp());
    while p > end {
        k += 1.0;
        p *= rng.f64();
    }
    k
}

/// The shares of a healthy color's requests that take longer than latencies, both as logarithms, the longest latencies first.
fn distribution() -> &'static [(f64, f64)] {
    static POINTS: OnceLock<Vec<(f64, f64)>> = OnceLock::new();
    POINTS.get_or_init(|| {
        let (step, mut above) = (0.001, 0.0);
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let points = (-6_000..6_000).rev().map(|n| {
            let x = f64::from(n) * step;
            above += step * density(x + step / 2.0);
            (above.min(1.0).ln(), SIGMA.mul_add(x, MEDIAN.ln()))
        });
        points.collect()
    })
}

/// The share of a healthy color's requests that take longer.
fn slower(seconds: f64) -> f64 {
    let points = distribution();
    let at = points.partition_point(|(_, latency)| *latency > seconds.ln()).min(points.len() - 1);
    points[at].0.exp()
}

/// The latency above which this share of a healthy color's requests is.
fn latency(share: f64) -> f64 {
    let points = distribution();
    let at = points.partition_point(|(above, _)| *above < share.ln()).min(points.len() - 1);
    points[at].1.exp()
}

/// What came of the requests of a color in a minute.
struct Minute {
    requests: f64,
    failed: f64,
    /// The longest latencies, as many as can matter.
    slowest: Vec<f64>,
}

/// A color: how many requests a minute it gets, how bad it is, and how requests come.
struct Color {
    traffic: f64,
    worse: Worse,
    kind: Kind,
    /// Of so many requests the latencies are drawn: those of the rest are below all limits.
    tail: f64,
}

impl Color {
    fn minute(&self, rng: &mut Rng, (busy, bad): (f64, f64)) -> Minute {
        let requests = poisson(rng, self.traffic * busy);
        let clump = if self.kind == Kind::Clumps { 5.0 } else { 1.0 };
        let many = |rng: &mut Rng, mean: f64| (clump * poisson(rng, mean / clump)).min(requests);
        let failed = many(rng, requests * ERRORS * self.worse.errors * bad);
        let slow = many(rng, requests * self.tail);
        let mut slowest = Vec::new();
        while (slowest.len() as f64) < slow {
            let one = self.worse.latency * latency(self.tail * rng.f64());
            slowest.extend(std::iter::repeat_n(one, clump as usize));
        }
        Minute { requests, failed, slowest }
    }
}

fn sample(minutes: &[Minute], check: &MetricCheck, over: &[f64]) -> Sample {
    let requests: f64 = minutes.iter().map(|one| one.requests).sum();
    let count = |hits: &dyn Fn(&Minute) -> f64| -> Vec<Count> {
        let each = minutes.iter().enumerate();
        each.map(|(n, one)| Count { at: n as i64, of: one.requests, hits: hits(one) }).collect()
    };
    if check.metric == Metric::ErrorRate {
        let counts = count(&|one| one.failed);
        let value = counts.iter().map(|one| one.hits).sum::<f64>() / requests.max(1.0);
        return Sample { value: Some(value), requests, counts: vec![counts], ..Sample::default() };
    }
    let longer = |limit: &f64| count(&|one| one.slowest.iter().filter(|latency| *latency > limit).count() as f64);
    let counts = over.iter().map(longer).collect();
    let points = minutes.iter().filter_map(|one| slowest_but(one.slowest.clone(), one.requests)).collect();
    let value = slowest_but(minutes.iter().flat_map(|one| one.slowest.iter().copied()).collect(), requests);
    Sample { points, value, requests, counts, ..Sample::default() }
}

/// The p99 of so many requests, by their longest latencies.
fn slowest_but(mut slowest: Vec<f64>, requests: f64) -> Option<f64> {
    let place = (requests * 0.01) as usize;
    (place < slowest.len()).then(|| *slowest.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1)
}

/// How what is counted of the live color varied in the hour before.
fn usual(rng: &mut Rng, traffic: f64, kind: Kind, check: &MetricCheck) -> f64 {
    let is_latency = check.metric != Metric::ErrorRate;
    // The percentile of an hour is known to about so much.
    let own = is_latency.then(|| latency(0.01) * (0.1 * normal(rng) / (traffic * 0.6).sqrt()).exp());
    let share = own.map_or(ERRORS, slower);
    let clump = if kind == Kind::Clumps { 5.0 } else { 1.0 };
    let counts = (0..60).map(|at| {
        let (busy, bad) = weather(rng, kind);
        let of = poisson(rng, traffic * busy);
        let bad = if is_latency { 1.0 } else { bad };
        Count { at, of, hits: (clump * poisson(rng, of * share * bad / clump)).min(of) }
    });
    let counts = vec![counts.collect()];
    dispersion(&Sample { counts, ..Sample::default() })
}

fn weather(rng: &mut Rng, kind: Kind) -> (f64, f64) {
    if kind != Kind::Bursts {
        return (1.0, 1.0);
    }
    // Traffic by about a third; errors by about a half, with the same mean.
    let factor = |rng: &mut Rng, spread: f64| (spread.mul_add(normal(rng), -spread * spread / 2.0)).exp();
    (factor(rng, 0.3), factor(rng, 0.5))
}

/// One hold of a step: the look at which each rule throws the color back, from 1.
fn hold(
    rng: &mut Rng,
    checks: &[MetricCheck],
    (traffic, step): (f64, f64),
    kind: Kind,
    worse: Worse,
    level: f64,
) -> [Option<usize>; 2] {
    let tail = |worse: Worse| (slower(1.15 * latency(0.01) / worse.latency) * 1.1).clamp(0.03, 0.95);
    let color = Color { traffic: traffic * step, worse, kind, tail: tail(worse) };
    let live = Color { traffic: traffic * (1.0 - step), worse: AS_GOOD, kind, tail: 0.03 };
    let known: Vec<f64> = checks.iter().map(|check| usual(rng, traffic, kind, check)).collect();
    let (mut own, mut other, mut thrown) = (Vec::new(), Vec::new(), [None, None]);
    for look in 1..=LOOKS {
        let weather = weather(rng, kind);
        own.push(color.minute(rng, weather));
        other.push(live.minute(rng, weather));
        for (rule, test) in [MetricTest::Threshold, MetricTest::Sequential].into_iter().enumerate() {
            if thrown[rule].is_some() {
                continue;
            }
            for (check, dispersion) in checks.iter().zip(&known) {
                let check = MetricCheck { test, ..check.clone() };
                let percentile = percentile(&check, &sample(&other, &check, &[]));
                let limits = limits(&check, percentile);
                let over: Vec<f64> = limits.iter().map(|limit| limit.seconds()).collect();
                let measured = Measured {
                    color: sample(&own, &check, &over),
                    live: Some(sample(&other, &check, percentile.as_slice())),
                    is_complete: true,
                    limits,
                    percentile,
                    dispersion: *dispersion,
                    level,
                    ..Measured::default()
                };
                if matches!(judge(&check, "green", "blue", &measured), Verdict::Fail(_)) {
                    thrown[rule] = Some(look);
                    break;
                }
            }
        }
        if thrown.iter().all(Option::is_some) {
            break;
        }
    }
    thrown
}

fn check(metric: Metric, max: Option<f64>, max_ratio_to_live: Option<f64>) -> MetricCheck {
    MetricCheck {
        metric,
        target_group: None,
        max,
        min: None,
        max_ratio_to_live,
        significance: None,
        test: MetricTest::Sequential,
        min_requests: Some(100),
        inconclusive: Inconclusive::Fail,
        dry_run: false,
        load_balancer_errors: false,
        period: Duration::from_secs(60),
        window: Duration::from_secs(300),
    }
}

fn metrics() -> [(&'static str, MetricCheck); 3] {
    [
        ("`error_rate`, `max = 0.01`", check(Metric::ErrorRate, Some(0.01), None)),
        ("`error_rate`, `max_ratio_to_live = 1.5`", check(Metric::ErrorRate, None, Some(1.5))),
        ("`latency_p99`, `max_ratio_to_live = 1.2`", check(Metric::Latency(99), None, Some(1.2))),
    ]
}

/// What each rule did in so many holds: how many were thrown back, and after how many minutes on average.
fn many(times: usize, mut one: impl FnMut() -> [Option<usize>; 2]) -> [(f64, f64); 2] {
    let mut sums = [(0.0, 0.0); 2];
    for _ in 0..times {
        for (sum, thrown) in sums.iter_mut().zip(one()) {
            if let Some(look) = thrown {
                sum.0 += 1.0;
                sum.1 += look as f64;
            }
        }
    }
    sums.map(|(count, looks)| (count / times as f64, if count > 0.0 { looks / count } else { f64::NAN }))
}

fn percent(share: f64) -> String {
    let digits = if share > 0.0 && share < 0.1 { 2 } else { 1 };
    format!("{:.digits$} %", share * 100.0)
}

/// Healthy colors: a row for each metric and traffic, a column for each step.
fn healthy(rng: &mut Rng, kind: Kind, points: &mut Vec<(f64, f64)>) -> anyhow::Result<String> {
    let mut rows = "| Metric | Requests a minute | 5 % | 10 % | 50 % |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for (name, metric) in metrics() {
        for traffic in TRAFFIC {
            let _ = write!(rows, "| {name} | {traffic:.0} |");
            for step in STEPS {
                let one = || hold(rng, std::slice::from_ref(&metric), (traffic, step), kind, AS_GOOD, LEVEL);
                let [old, new] = many(HEALTHY, one);
                let _ = write!(rows, " {} → **{}** |", percent(old.0), percent(new.0));
                points.push((old.0, new.0));
                ensure!(new.0 <= LEVEL, "{name} at {traffic} a minute and {step}: {} of healthy colors go back", new.0);
            }
            rows.push('\n');
        }
    }
    Ok(rows)
}

/// Colors that are worse: how many are caught within the hold, and after how many minutes.
fn worse(rng: &mut Rng) -> String {
    let mut rows = "| Metric | Requests a minute | Step | 1.5 times | 2 times | 5 times |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for (name, metric) in metrics() {
        for traffic in TRAFFIC {
            for step in [0.1, 0.5] {
                let _ = write!(rows, "| {name} | {traffic:.0} | {:.0} % |", step * 100.0);
                for times in [1.5, 2.0, 5.0] {
                    let of = match metric.metric {
                        Metric::ErrorRate => Worse { errors: times, latency: 1.0 },
                        _ => Worse { errors: 1.0, latency: times },
                    };
                    let one = || hold(rng, std::slice::from_ref(&metric), (traffic, step), Kind::Plain, of, LEVEL);
                    let [_, new] = many(WORSE, one);
                    let after = if new.0 > 0.0 { format!(", {:.1} min", new.1) } else { String::new() };
                    let _ = write!(rows, " {}{after} |", percent(new.0));
                }
                rows.push('\n');
            }
        }
    }
    rows
}

/// The README's rollout: two metrics, 10 %, 50 %, and all of it.
fn readme(rng: &mut Rng) -> anyhow::Result<String> {
    let checks = [check(Metric::ErrorRate, Some(0.01), None), check(Metric::Latency(99), None, Some(1.2))];
    let mut text = "| Requests a minute | As good as live | 2 times the errors | 5 times the errors |\n| --- | --- | --- | --- |\n".to_owned();
    for traffic in TRAFFIC {
        let _ = write!(text, "| {traffic:.0} |");
        for errors in [1.0, 2.0, 5.0] {
            let times = if errors > 1.0 { WORSE } else { HEALTHY };
            let one = || {
                let mut thrown = [None, None];
                for step in [0.1, 0.5] {
                    let held =
                        hold(rng, &checks, (traffic, step), Kind::Plain, Worse { errors, latency: 1.0 }, LEVEL / 6.0);
                    for (all, one) in thrown.iter_mut().zip(held) {
                        *all = all.or(one);
                    }
                }
                thrown
            };
            let [old, new] = many(times, one);
            let _ = write!(text, " {} → **{}** |", percent(old.0), percent(new.0));
            ensure!(errors > 1.0 || new.0 <= LEVEL, "the README's rollout throws {} of healthy colors back", new.0);
        }
        text.push('\n');
    }
    Ok(text)
}

/// A dot for each setting and rule, over a logarithmic share.
fn picture(points: &[(f64, f64)]) -> String {
    let (left, top, width, height) = (70.0, 30.0, 640.0, 260.0);
    let y = |share: f64| top + height * (1.0 - (share.max(1e-4).log10() + 4.0) / 4.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 740 340\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"740\" height=\"340\" fill=\"white\"/>\n<text x=\"{left}\" y=\"18\">Healthy colors that are thrown back within ten looks: by the number itself (red), by evidence (blue)</text>\n"
    );
    for (share, label) in [(1.0, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %"), (0.0001, "0")] {
        let (at, color) = (y(share), if share == 0.01 { "#444" } else { "#ddd" });
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{color}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left + width,
            left - 8.0,
            at + 4.0
        );
    }
    let distance = width / points.len() as f64;
    for (n, (old, new)) in points.iter().enumerate() {
        let x = left + distance * (n as f64 + 0.5);
        for (share, color) in [(old, "#c0392b"), (new, "#2c6fbb")] {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{color}\"/>", y(*share));
        }
    }
    for (n, name) in ["error_rate, max", "error_rate, ratio", "latency_p99, ratio"].iter().enumerate() {
        let x = left + width * (n as f64 + 0.5) / 3.0;
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"312\" text-anchor=\"middle\">{name}</text>");
    }
    let each = "each at 300, 1000 and 6000 requests a minute, with 5, 10 and 50 % of the traffic";
    let _ = writeln!(svg, "<text x=\"{:.0}\" y=\"330\" text-anchor=\"middle\">{each}</text>", left + width / 2.0);
    svg.push_str("</svg>\n");
    svg
}

/// Puts a table between its marks.
fn put(page: &str, name: &str, table: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).with_context(|| format!("the guide has no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("the guide has no {end}"))?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

fn main() -> anyhow::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no folder")?.join("docs");
    let guide = docs.join("guides/gates.md");
    let (mut rng, mut points, mut page) = (Rng::with_seed(1), Vec::new(), std::fs::read_to_string(&guide)?);
    page = put(&page, "healthy", &healthy(&mut rng, Kind::Plain, &mut points)?)?;
    std::fs::write(docs.join("images/gates.svg"), picture(&points))?;
    page = put(&page, "clumps", &healthy(&mut rng, Kind::Clumps, &mut Vec::new())?)?;
    page = put(&page, "bursts", &healthy(&mut rng, Kind::Bursts, &mut Vec::new())?)?;
    page = put(&page, "worse", &worse(&mut rng))?;
    page = put(&page, "readme", &readme(&mut rng)?)?;
    std::fs::write(&guide, page)?;
    Ok(())
}
