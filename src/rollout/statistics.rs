//! The two tests that a rollout needs, computed exactly rather than by tables.

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
