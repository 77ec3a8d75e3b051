//! How much two profiles differ: measures of drift with effect sizes.
//!
//! PSI and KS are the customary measures; alerts on PSI customarily begin at 0.1 (some shift) and 0.25 (a large one). All of them are
//! relative to the whole of what is compared, so they cannot see a small number of poisoned rows in a large table: compare changed rows.

use super::{ColumnProfile, u64_to_f64};

/// Equal parts of the sealed values between which PSI counts.
const BINS: usize = 10;
/// Points at which the distribution functions are compared, for KS.
const KS_POINTS: usize = 100;
/// Fractions are not taken for less than this, so that no logarithm is infinite.
const LEAST_FRACTION: f64 = 1e-4;

/// What of a column's values may be missing in the counts of one: in long batches of values that are nearly all different, those that are there once are not
/// counted.
const MISSED_FRACTION: f64 = 1.0 / 64.0;
/// So often a value must be found to be called more frequent than before, and by so many standard deviations.
const GROWN_COUNT: u64 = 10;
const GROWN_DEVIATIONS: f64 = 4.0;

/// What drifted in a column, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Drift {
    /// Population stability index over the deciles of the sealed values, or over categories; absent without values on both sides.
    pub psi: Option<f64>,
    /// Kolmogorov-Smirnov distance: the largest difference of the two distribution functions; absent for columns that are no numbers.
    pub ks: Option<f64>,
    /// The probability of so large a distance by chance (asymptotic).
    pub ks_p: Option<f64>,
    /// Chi-square statistic of the categories; absent where values are not few.
    pub chi_square: Option<f64>,
    /// The probability of so large a statistic by chance.
    pub chi_square_p: Option<f64>,
    /// Cramér's V: the effect size of chi-square, 0 to 1.
    pub cramers_v: Option<f64>,
    /// Cohen's d: the difference of the means in standard deviations of the sealed values; absent for columns that are no numbers.
    pub cohens_d: Option<f64>,
    /// The difference of the fractions of nulls, found less sealed; 0 where one side has no rows.
    pub null_shift: f64,
    /// The difference of the fractions of NaNs, found less sealed; 0 where one side has no rows. They are values to whoever learns from them, and count
    /// for no other measure.
    pub nan_shift: f64,
    /// The ratio of the numbers of distinct values, found to sealed; absent without sealed values.
    pub distinct_ratio: Option<f64>,
    /// Values among the found frequent ones that were not sealed at all; absent where the sealed values are too many to be listed.
    pub new_values: Option<u64>,
    /// By how much, of all values, one value is certainly more frequent than it was; only where values are too many to be listed, and are no numbers.
    pub frequency_shift: Option<f64>,
    /// Whether there are numbers on one side and none on the other, so that most measures are absent.
    pub other_kind: bool,
}

/// Compares what is found with what was sealed.
pub fn drift(sealed: &ColumnProfile, found: &ColumnProfile) -> Drift {
    let shift = |part: fn(&ColumnProfile) -> u64| match (sealed.rows, found.rows) {
        // Of no rows there is no fraction that another could be held against.
        (0, _) | (_, 0) => 0.0,
        (before, after) => u64_to_f64(part(found)) / u64_to_f64(after) - u64_to_f64(part(sealed)) / u64_to_f64(before),
    };
    let mut drift = Drift {
        null_shift: shift(|profile| profile.nulls),
        nan_shift: shift(|profile| profile.nans),
        distinct_ratio: (sealed.distinct() > 0.0).then(|| found.distinct() / sealed.distinct()),
        ..Drift::default()
    };
    if sealed.values() == 0 || found.values() == 0 {
        // Where rows were sealed that had no value, every value is a new one.
        let is_new = sealed.rows > 0 && found.values() > 0;
        drift.new_values = is_new.then(|| (found.frequent().0.len() as u64).max(1));
        return drift;
    }
    drift.other_kind = sealed.is_numeric() != found.is_numeric();
    if sealed.is_numeric() && found.is_numeric() {
        let (ks, p) = kolmogorov_smirnov(sealed, found);
        (drift.ks, drift.ks_p) = (Some(ks), Some(p));
        drift.psi = Some(stability_by_deciles(sealed, found));
        let deviation = sealed.moments.variance().sqrt();
        let difference = found.moments.mean - sealed.moments.mean;
        // Among infinite values there are neither standard deviations nor differences that can be told in them.
        let effect = if difference == 0.0 { 0.0 } else { difference / deviation };
        drift.cohens_d = (difference.is_finite() && deviation.is_finite()).then_some(effect);
    }
    if let Some(categories) = Categories::of(sealed, found) {
        let (statistic, p, v) = categories.chi_square();
        (drift.chi_square, drift.chi_square_p, drift.cramers_v) = (Some(statistic), Some(p), Some(v));
        drift.new_values = Some(categories.new_values);
        drift.psi = drift.psi.or_else(|| Some(categories.stability()));
    } else if !sealed.is_numeric() && !found.is_numeric() {
        drift.frequency_shift = certain_growth(sealed, found);
    }
    drift
}

/// By how much the most grown value's part of all values grew at the least, whatever the sketches do not know; absent where that may be chance.
fn certain_growth(sealed: &ColumnProfile, found: &ColumnProfile) -> Option<f64> {
    let ((before, error), (after, slack)) = (sealed.frequent(), found.frequent());
    let (sealed_values, found_values) = (u64_to_f64(sealed.values()), u64_to_f64(found.values()));
    let growth = |(value, count): &(String, u64)| {
        let count = count.saturating_sub(slack);
        let known = before.iter().find(|(other, _)| other == value).map_or(error, |(_, count)| *count);
        let most = (u64_to_f64(known) / sealed_values + MISSED_FRACTION).min(1.0);
        let expected = most * found_values;
        let deviation = (expected * (1.0 - most)).sqrt().max(1.0);
        let is_chance = count < GROWN_COUNT || u64_to_f64(count) < expected + GROWN_DEVIATIONS * deviation;
        (!is_chance).then(|| u64_to_f64(count) / found_values - most)
    };
    after.iter().filter_map(growth).max_by(f64::total_cmp)
}

/// The PSI of two distributions over the same bins, as fractions.
fn stability(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs
        .map(|(before, after)| {
            let (before, after) = (before.max(LEAST_FRACTION), after.max(LEAST_FRACTION));
            (after - before) * (after / before).ln()
        })
        .sum()
}

fn stability_by_deciles(sealed: &ColumnProfile, found: &ColumnProfile) -> f64 {
    let ranks: Vec<f64> = (1..BINS).map(|at| u64_to_f64(at as u64) / u64_to_f64(BINS as u64)).collect();
    let mut edges = sealed.quantiles(&ranks);
    edges.dedup();
    // Edges belong to the part below them. Where the least value is an edge, what is less than any sealed value needs a part of its own.
    if edges.first() == Some(&sealed.moments.min) {
        edges.insert(0, sealed.moments.min.next_down());
    }
    let parts = |profile: &ColumnProfile| {
        let mut before = 0.0;
        let mut parts: Vec<f64> = Vec::with_capacity(edges.len() + 1);
        for rank in profile.ranks(&edges) {
            parts.push(rank - before);
            before = rank;
        }
        parts.push(1.0 - before);
        parts
    };
    stability(parts(sealed).into_iter().zip(parts(found)))
}

fn kolmogorov_smirnov(sealed: &ColumnProfile, found: &ColumnProfile) -> (f64, f64) {
    let ranks: Vec<f64> = (0..=KS_POINTS).map(|at| u64_to_f64(at as u64) / u64_to_f64(KS_POINTS as u64)).collect();
    let mut points = sealed.quantiles(&ranks);
    points.extend(found.quantiles(&ranks));
    let differences = sealed.ranks(&points).into_iter().zip(found.ranks(&points)).map(|(a, b)| (a - b).abs());
    let distance = differences.fold(0.0, f64::max);
    let (n, m) = (u64_to_f64(sealed.moments.count), u64_to_f64(found.moments.count));
    let scale = (n * m / (n + m)).sqrt();
    (distance, kolmogorov_p((scale + 0.12 + 0.11 / scale) * distance))
}

/// The asymptotic Kolmogorov distribution's upper tail (Numerical Recipes, section 14.3).
fn kolmogorov_p(lambda: f64) -> f64 {
    if lambda < 0.2 {
        return 1.0;
    }
    let mut sum = 0.0;
    let mut sign = 1.0;
    for k in 1..=100_u64 {
        let k = u64_to_f64(k);
        sum += sign * (-2.0 * k * k * lambda * lambda).exp();
        sign = -sign;
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Counts of the same values on both sides.
struct Categories {
    counts: Vec<(f64, f64)>,
    new_values: u64,
}

impl Categories {
    /// Only where the sealed values are few enough to be listed with exact counts.
    fn of(sealed: &ColumnProfile, found: &ColumnProfile) -> Option<Self> {
        let ((before, error), (after, _)) = (sealed.frequent(), found.frequent());
        let listed = before.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
        if error > 0 || listed != sealed.values() || before.is_empty() {
            return None;
        }
        let mut counts: Vec<(f64, f64)> = before
            .iter()
            .map(|(value, count)| {
                let there = after.iter().find(|(other, _)| other == value).map_or(0, |(_, count)| *count);
                (u64_to_f64(*count), u64_to_f64(there))
            })
            .collect();
        let known: f64 = counts.iter().map(|(_, after)| after).sum();
        let rest = u64_to_f64(found.values()) - known;
        let new_values = after.iter().filter(|(value, _)| !before.iter().any(|(other, _)| other == value)).count() as u64;
        if rest > 0.0 {
            counts.push((0.0, rest));
        }
        // Those that are too many to be listed are there all the same.
        Some(Self { counts, new_values: new_values.max(u64::from(rest > 0.0)) })
    }

    fn totals(&self) -> (f64, f64) {
        self.counts.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y))
    }

    fn stability(&self) -> f64 {
        let (before, after) = self.totals();
        stability(self.counts.iter().map(|(x, y)| (x / before, y / after)))
    }

    /// Statistic, probability and Cramér's V of the table of two rows.
    fn chi_square(&self) -> (f64, f64, f64) {
        let (before, after) = self.totals();
        let total = before + after;
        let mut statistic = 0.0;
        let mut filled: u64 = 0;
        for (x, y) in &self.counts {
            let column = x + y;
            if column > 0.0 {
                filled += 1;
                for (found, row) in [(x, before), (y, after)] {
                    let expected = row * column / total;
                    statistic += (found - expected) * (found - expected) / expected;
                }
            }
        }
        let freedom = filled.saturating_sub(1);
        if freedom == 0 {
            return (0.0, 1.0, 0.0);
        }
        (statistic, chi_square_p(statistic, freedom), (statistic / total).sqrt().min(1.0))
    }
}

/// The upper tail of the chi-square distribution: the regularised incomplete gamma function Q(freedom / 2, statistic / 2).
fn chi_square_p(statistic: f64, freedom: u64) -> f64 {
    upper_gamma(u64_to_f64(freedom) / 2.0, statistic / 2.0)
}

/// Series below a + 1, Lentz's continued fraction above (Numerical Recipes, section 6.2).
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let front = (-x + a * x.ln() - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..1000 {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term.abs() < sum.abs() * 1e-15 {
                break;
            }
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / tiny;
    let mut d = 1.0 / b;
    let mut h = d;
    for i in 1..1000_u64 {
        let i = u64_to_f64(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / nonzero(an * d + b, tiny);
        c = nonzero(b + an / c, tiny);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front * h).clamp(0.0, 1.0)
}

fn nonzero(value: f64, tiny: f64) -> f64 {
    if value.abs() < tiny { tiny } else { value }
}

/// Lanczos' approximation, g = 7.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (at, coefficient) in COEFFICIENTS.iter().enumerate() {
        sum += coefficient / (x + u64_to_f64(at as u64) + 1.0);
    }
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_tables() {
        // Abramowitz and Stegun, table 26.8; Kolmogorov's own table.
        for (statistic, freedom, p) in
            [(3.841_459, 1, 0.05), (5.991_465, 2, 0.05), (18.307_04, 10, 0.05), (29.588_3, 10, 0.001), (0.0, 3, 1.0)]
        {
            assert!((chi_square_p(statistic, freedom) - p).abs() < 1e-6, "{statistic} {freedom}: {}", chi_square_p(statistic, freedom));
        }
        for (lambda, p) in [(1.358, 0.05), (1.628, 0.01), (1.224, 0.10)] {
            assert!((kolmogorov_p(lambda) - p).abs() < 1e-3, "{lambda}: {}", kolmogorov_p(lambda));
        }
        assert!((ln_gamma(5.0) - 24.0_f64.ln()).abs() < 1e-12 && (ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
    }
}
