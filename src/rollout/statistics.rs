//! The tests that a rollout needs, computed exactly rather than by tables.
//!
//! What is looked at again and again can't be judged by a test that is made for one look: of ten looks at a healthy color one is bad by
//! chance. [`evidence`] may be looked at as often as one likes. It is a mixture of likelihood ratios (Wald, 1945; Robbins, 1970): for
//! whoever keeps to the limit its expectation is at most 1 at any time, so that it reaches `1/level` at some time with a probability of
//! at most `level` (Ville, 1939).

/// The bounds within which the number of hits in `n` draws lies with this confidence, if each hits with probability `p`.
/// Both bounds are included; a share of 0 or 1 allows nothing else.
pub fn binomial_bounds(n: u64, p: f64, confidence: f64) -> (u64, u64) {
    if p <= 0.0 {
        return (0, 0);
    }
    if p >= 1.0 {
        return (n, n);
    }
    let tail = (1.0 - confidence) / 2.0;
    let (mut low, mut high) = (0, n);
    let mut below = 0.0;
    for k in 0..=n {
        below += probability(n, k, p);
        if below > tail {
            low = k;
            break;
        }
    }
    let mut above = 0.0;
    for k in (0..=n).rev() {
        above += probability(n, k, p);
        if above > tail {
            high = k;
            break;
        }
    }
    (low, high)
}

/// The binomial probability of exactly `k` hits; in logarithms, since the coefficients are beyond any float.
fn probability(n: u64, k: u64, p: f64) -> f64 {
    let choose: f64 = (1..=k).map(|i| (((n - k + i) as f64) / (i as f64)).ln()).sum();
    (choose + (k as f64) * p.ln() + ((n - k) as f64) * (1.0 - p).ln()).exp()
}

/// Some draws under one rule: `hits` of them and `misses`, where a hit may have at most the probability `limit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// How many hit.
    pub hits: f64,
    /// How many did not.
    pub misses: f64,
    /// The probability of a hit, from 0 to 1, that is still allowed.
    pub limit: f64,
}

/// How many times the odds of the limit are held against the limit: from what is hardly worse to what fails almost always. All weigh the
/// same, which costs `ln 15` of evidence.
const ODDS: [f64; 15] = [1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, 200.0, 1000.0];

/// The evidence that hits are likelier than allowed, as a natural logarithm: whoever acts on `ln(1/level)` or more is wrong with a
/// probability of at most `level`, at whatever number of looks.
///
/// Where hits come in clumps, so that their number varies `dispersion` times as much as that of single draws, as much more evidence is
/// asked for (a quasi-likelihood; McCullagh and Nelder, 1989, chapter 9).
pub fn evidence(draws: &[Draws], dispersion: f64) -> f64 {
    if draws.iter().any(|draw| draw.limit <= 0.0 && draw.hits > 0.0) {
        return f64::INFINITY;
    }
    let of_odds = |odds: &f64| {
        let one = |draw: &Draws| {
            let limit = draw.limit.clamp(0.0, 1.0);
            draw.hits * odds.ln() - (draw.hits + draw.misses) * (limit * (odds - 1.0)).ln_1p()
        };
        draws.iter().map(one).sum::<f64>() / dispersion.max(1.0)
    };
    let each: Vec<f64> = ODDS.iter().map(of_odds).collect();
    let most = each.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + each.iter().map(|one| (one - most).exp()).sum::<f64>().ln() - (ODDS.len() as f64).ln()
}

/// The evidence that is enough at a level.
pub fn enough(level: f64) -> f64 {
    -level.max(f64::MIN_POSITIVE).ln()
}

/// The largest of the limits from `low` to `high` at which the evidence is still enough: it is at least that. None where it isn't enough
/// at any.
pub fn at_least(level: f64, (low, high): (f64, f64), evidence: impl Fn(f64) -> f64) -> Option<f64> {
    let is_above = |limit: f64| evidence(limit) >= enough(level);
    if !is_above(low) {
        return None;
    }
    let (mut low, mut high) = (low, high);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is_above(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

/// How many times as much as that of single draws the number of hits varies from period to period, at least 1 (Pearson's statistic over
/// its degrees of freedom). Each period has the draws and the hits among them. One bad minute says little about all others: the worst
/// twentieth of them is not of what is usual, and none counts for more than 14 standard deviations. Of fewer than ten nothing is said.
pub fn dispersion(periods: &[(f64, f64)]) -> f64 {
    let mut counted: Vec<(f64, f64)> = periods.iter().copied().filter(|(draws, _)| *draws > 0.0).collect();
    counted.sort_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
    let usual = counted.len() - (counted.len() as f64 * SET_ASIDE) as usize;
    let share = |periods: &[(f64, f64)]| {
        let (draws, hits) = periods.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        hits / draws
    };
    // Where all hits are in a few periods they come in clumps indeed.
    let share = Some(share(&counted[..usual])).filter(|share| *share > 0.0).unwrap_or_else(|| share(&counted));
    if counted.len() < LEAST_PERIODS || share <= 0.0 || share >= 1.0 {
        return 1.0;
    }
    let squared = |(draws, hits): &(f64, f64)| {
        let expected = draws * share;
        ((hits - expected).powi(2) / (expected * (1.0 - share))).min(MOST_OF_A_PERIOD)
    };
    let all: f64 = counted.iter().map(squared).sum();
    (all / (counted.len() - 1) as f64).clamp(1.0, MOST)
}

/// However much the last hour varied, no more evidence than so many times as much is asked for: an incident in it must not blind the
/// gate to a color that fails outright.
const MOST: f64 = 10.0;

/// What one period may add to the dispersion: fourteen standard deviations. After a minute of an hour in which everything failed less than
/// five times the evidence is asked for then.
const MOST_OF_A_PERIOD: f64 = 200.0;
/// The share of the periods that is not of what is usual.
const SET_ASIDE: f64 = 0.05;
/// Fewer periods say nothing of how hits are spread.
const LEAST_PERIODS: usize = 10;

/// How many draws it takes, about, until hits with the probability `truth` are told from a `limit` at this level: the evidence that is
/// needed by what each draw adds on average (Wald, 1945). None where the truth is within the limit.
pub fn draws_to_tell(limit: f64, truth: f64, level: f64, dispersion: f64) -> Option<f64> {
    if truth <= limit || !(0.0..1.0).contains(&limit) {
        return None;
    }
    let each = |odds: &f64| truth * odds.ln() - (limit * (odds - 1.0)).ln_1p();
    let best = ODDS.iter().map(each).fold(f64::NEG_INFINITY, f64::max);
    (best > 0.0).then(|| (enough(level) + (ODDS.len() as f64).ln()) * dispersion.max(1.0) / best)
}

/// The level of one of several looks at growing numbers of points, so that all together are at most `level`: the sum of `1/k²` is
/// `π²/6`. Nothing is spent where there are so few points that no order of them could be below it.
pub fn spent(level: f64, points: usize) -> f64 {
    let share = |k: usize| level * 6.0 / (std::f64::consts::PI * k as f64).powi(2);
    // The number of orders of twice as many points.
    let orders = |points: usize| (1..=points).map(|i| (points + i) as f64 / i as f64).product::<f64>();
    let first = (1..=MOST_POINTS).find(|points| 1.0 / orders(*points) < share(1)).unwrap_or(MOST_POINTS);
    share((points + 1).saturating_sub(first).max(1))
}

/// The probability that a sample is as much above another as seen, or more, if both are of one kind (Mann and Whitney,
/// 1947; one-sided). None where there are so few points that no order of them would be below this level.
///
/// Exact: the distribution of U is counted out. Ties count half, which makes the answer cautious.
pub fn mann_whitney(larger: &[f64], smaller: &[f64], level: f64) -> Option<f64> {
    let (m, n) = (larger.len().min(MOST_POINTS), smaller.len().min(MOST_POINTS));
    if m == 0 || n == 0 {
        return None;
    }
    // The latest points say more about now.
    let (larger, smaller) = (&larger[larger.len() - m..], &smaller[smaller.len() - n..]);
    let mut twice_u = 0_usize;
    for x in larger {
        for y in smaller {
            twice_u += match x.total_cmp(y) {
                std::cmp::Ordering::Greater => 2,
                std::cmp::Ordering::Equal => 1,
                std::cmp::Ordering::Less => 0,
            };
        }
    }
    let counts = distribution(m, n);
    let total: f64 = counts.iter().sum();
    if 1.0 / total >= level {
        return None;
    }
    let as_much: f64 = counts.iter().enumerate().filter(|(u, _)| 2 * u >= twice_u).map(|(_, count)| count).sum();
    Some(as_much / total)
}

/// An hour of minutes; the counting grows with the fourth power.
const MOST_POINTS: usize = 60;

/// In how many of the orders of `m` and `n` points U has each value: the coefficients of the Gaussian binomial.
fn distribution(m: usize, n: usize) -> Vec<f64> {
    let size = m * n + 1;
    let mut counts = vec![0.0; size];
    counts[0] = 1.0;
    for i in 1..=m {
        // Times (1 - q^(n+i)), by (1 - q^i).
        for u in (n + i..size).rev() {
            counts[u] -= counts[u - n - i];
        }
        for u in i..size {
            counts[u] += counts[u - i];
        }
    }
    counts
}

/// Numbers from 0 to 1 that are the same in every run (SplitMix64; Steele, Lea and Flood, 2014).
#[cfg(test)]
pub(super) struct Chance(pub(super) u64);

#[cfg(test)]
impl Chance {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How often something rare happens that happens `mean` times on average.
    fn poisson(&mut self, mean: f64) -> f64 {
        let (mut k, mut p, end) = (0.0, self.next(), (-mean).exp());
        while p > end {
            k += 1.0;
            p *= self.next();
        }
        k
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // scipy.stats.binom.interval(0.999, 1000, 0.1), and the like.
        assert_eq!(binomial_bounds(1000, 0.1, 0.999), (70, 132));
        assert_eq!(binomial_bounds(20, 0.5, 0.95), (6, 14));
        assert_eq!(binomial_bounds(50, 0.0, 0.999), (0, 0));
        assert_eq!(binomial_bounds(50, 1.0, 0.999), (50, 50));
    }

    /// In how many of so many rollouts the evidence is enough at one of thirty looks, a minute apart, of `n` requests each.
    fn thrown_back(rollouts: u32, n: f64, (truth, limit): (f64, f64), clumps: f64) -> u32 {
        let mut chance = Chance(7);
        let mut thrown = 0;
        for _ in 0..rollouts {
            let minute = |chance: &mut Chance| (n, clumps * chance.poisson(n * truth / clumps));
            let usual: Vec<(f64, f64)> = (0..60).map(|_| minute(&mut chance)).collect();
            let dispersion = dispersion(&usual);
            let mut seen = Draws { hits: 0.0, misses: 0.0, limit };
            thrown += u32::from((0..30).any(|_| {
                let (draws, hits) = minute(&mut chance);
                seen.hits += hits;
                seen.misses += draws - hits;
                evidence(&[seen], dispersion) >= enough(0.01)
            }));
        }
        thrown
    }

    #[test]
    fn whoever_keeps_to_the_limit_is_hardly_ever_thrown_back_however_often_it_is_looked_at() {
        for n in [30.0, 100.0, 1000.0] {
            // At the very limit, and at half of it.
            assert!(thrown_back(2000, n, (0.01, 0.01), 1.0) <= 20, "{n}");
            assert!(thrown_back(2000, n, (0.005, 0.01), 1.0) <= 2, "{n}");
        }
        // Where errors come five at a time the hour before says so.
        for n in [100.0, 1000.0] {
            assert!(thrown_back(1000, n, (0.005, 0.01), 5.0) <= 10, "{n}");
        }
        assert!(thrown_back(200, 1000.0, (0.02, 0.01), 1.0) > 198, "twice the limit is seen");
        assert!(thrown_back(200, 100.0, (0.05, 0.01), 1.0) > 198);
    }

    #[test]
    fn what_fails_outright_is_told_by_a_few_requests() {
        let broken = |hits: f64| evidence(&[Draws { hits, misses: 0.0, limit: 0.01 }], 1.0);
        assert!(broken(2.0) < enough(0.001) && broken(3.0) > enough(0.001));
        // At a limit of 0 the first one is too much; where nothing is allowed to be better, nothing is.
        assert_eq!(evidence(&[Draws { hits: 1.0, misses: 999.0, limit: 0.0 }], 1.0), f64::INFINITY);
        assert!(evidence(&[Draws { hits: 9.0, misses: 0.0, limit: 1.0 }], 1.0) <= 0.0);
        assert!(evidence(&[], 1.0).abs() < 1e-9);
        // 50 of 1000 are at least 2.7 %, 99 of 100 sure; and the more is seen the closer it gets.
        let least = |times: f64| {
            let seen = |limit: f64| evidence(&[Draws { hits: 50.0 * times, misses: 950.0 * times, limit }], 1.0);
            at_least(0.01, (0.0, 1.0), seen).unwrap()
        };
        assert!(
            (0.025..0.04).contains(&least(1.0)) && (0.045..0.05).contains(&least(100.0)),
            "{} {}",
            least(1.0),
            least(100.0)
        );
        assert_eq!(
            at_least(0.01, (0.06, 1.0), |limit| evidence(&[Draws { hits: 50.0, misses: 950.0, limit }], 1.0)),
            None
        );
    }

    #[test]
    fn it_is_foreseen_how_many_requests_it_takes() {
        let mut chance = Chance(3);
        for (limit, truth) in [(0.01, 0.02), (0.01, 0.05), (0.05, 0.5)] {
            let foreseen = draws_to_tell(limit, truth, 0.01, 1.0).unwrap();
            let mut needed = 0.0;
            for _ in 0..200 {
                let mut seen = Draws { hits: 0.0, misses: 0.0, limit };
                while evidence(&[seen], 1.0) < enough(0.01) {
                    if chance.next() < truth { seen.hits += 1.0 } else { seen.misses += 1.0 }
                }
                needed += (seen.hits + seen.misses) / 200.0;
            }
            assert!((0.6..1.7).contains(&(needed / foreseen)), "{limit} {truth}: {needed} of {foreseen}");
        }
        assert_eq!(draws_to_tell(0.01, 0.01, 0.01, 1.0), None);
    }

    #[test]
    fn one_bad_minute_says_little_of_all_others() {
        let mut quiet: Vec<(f64, f64)> = (0..60).map(|n| (1000.0, if n % 2 == 0 { 4.0 } else { 6.0 })).collect();
        assert_eq!(dispersion(&quiet), 1.0);
        quiet[7].1 = 900.0;
        assert!(dispersion(&quiet) < 5.0, "{}", dispersion(&quiet));
        let clumps: Vec<(f64, f64)> = (0..60).map(|n| (1000.0, if n % 5 == 0 { 25.0 } else { 0.0 })).collect();
        assert_eq!(dispersion(&clumps), MOST);
        let some: Vec<(f64, f64)> = (0..60).map(|n| (1000.0, if n % 3 == 0 { 9.0 } else { 0.0 })).collect();
        assert!((5.0..8.0).contains(&dispersion(&some)), "{}", dispersion(&some));
        // All of them in two minutes of an hour.
        let rare: Vec<(f64, f64)> = (0..60).map(|n| (1000.0, if n % 40 == 1 { 9.0 } else { 0.0 })).collect();
        assert!(dispersion(&rare) > 4.0, "{}", dispersion(&rare));
        assert_eq!((dispersion(&clumps[..9]), dispersion(&[(0.0, 0.0); 60]), dispersion(&[])), (1.0, 1.0, 1.0));
    }

    #[test]
    fn looks_at_growing_numbers_of_points_spend_one_level() {
        let all: f64 = (5..10_000).map(|points| spent(0.01, points)).sum();
        assert!(all < 0.01 && all > 0.0099, "{all}");
        // Five points above five are one order in 252.
        let five = spent(0.01, 5);
        let (above, below) = ([6.0, 7.0, 8.0, 9.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(mann_whitney(&above, &below, five).unwrap() < five);
        assert_eq!(mann_whitney(&above[1..], &below[1..], spent(0.01, 4)), None);
    }

    #[test]
    fn ranks_tell_samples_apart() {
        let p = |a: &[f64], b: &[f64]| mann_whitney(a, b, 0.05);
        // All of five above all of five: one order in C(10, 5) = 252.
        let above = p(&[6.0, 7.0, 8.0, 9.0, 10.0], &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert!((above - 1.0 / 252.0).abs() < 1e-9, "{above}");
        // scipy.stats.mannwhitneyu([1,3,5,7],[2,4,6,8], alternative="greater", method="exact") is 0.757142857.
        let mixed = p(&[1.0, 3.0, 5.0, 7.0], &[2.0, 4.0, 6.0, 8.0]).unwrap();
        assert!((mixed - 0.757_142_857).abs() < 1e-6, "{mixed}");
        assert!(p(&[1.0; 10], &[1.0; 10]).unwrap() > 0.4);
        // With four points each the smallest probability is 1 in 70, which is above 1 %.
        assert_eq!(mann_whitney(&[5.0, 6.0, 7.0, 8.0], &[1.0, 2.0, 3.0, 4.0], 0.01), None);
        assert_eq!(p(&[1.0, 2.0], &[1.0; 4]), None);
        assert!(p(&[2.0; 200], &[1.0; 200]).unwrap() < 1e-9);
    }
}
