//! Profiles of columns: what the values of a column are like, in a few kilobytes that can be merged.
//!
//! Counts, nulls and NaNs are exact; so are least and greatest value, mean and variance (by Welford's and Chan's updates). Distinct values
//! are estimated by HyperLogLog (lg k = 10: 3% at one standard deviation), quantiles by KLL (k = 128: about 1.7% of rank), frequent values
//! by the Misra-Gries variant of Anderson et al.; all three are Apache DataSketches'. Pure: nothing is read here.
//!
//! Frequent values *are* values: a profile has the confidentiality of its table.

mod builder;
pub mod measures;
mod moments;

pub use builder::ProfileBuilder;
pub use moments::Moments;

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use datasketches::hll::{HllSketch, HllType, HllUnion};
use datasketches::kll::{KllFloat, KllSketch};

use crate::error::{Error, ErrorKind, Result};

/// HyperLogLog's parameter.
const DISTINCT_LG_K: u8 = 10;
/// KLL's parameter.
const QUANTILES_K: u16 = 128;
/// Slots for frequent values; three quarters of them are used.
const FREQUENT_SLOTS: usize = 64;
/// A frequent value is kept up to this many bytes.
const VALUE_LIMIT_BYTES: usize = 128;
/// No serialised sketch of a profile is larger, in bytes.
const SKETCH_LIMIT_BYTES: usize = 1 << 20;

/// What the values of a column are like.
#[derive(Debug, Clone)]
pub struct ColumnProfile {
    /// Rows, nulls included.
    pub rows: u64,
    /// Nulls.
    pub nulls: u64,
    /// NaNs; they count for nothing else.
    pub nans: u64,
    /// Of values that are numbers, instants (as microseconds) or truth values (0 and 1), but neither null nor NaN.
    pub moments: Moments,
    distinct: HllSketch,
    quantiles: KllSketch<KllFloat<f64>>,
    frequent: FrequentItemsSketch<String>,
}

/// The sketches of a profile as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSketches {
    /// HyperLogLog.
    pub distinct: Vec<u8>,
    /// KLL of doubles.
    pub quantiles: Vec<u8>,
    /// Frequent texts.
    pub frequent: Vec<u8>,
}

impl PartialEq for ColumnProfile {
    fn eq(&self, other: &Self) -> bool {
        let exact = |profile: &Self| (profile.rows, profile.nulls, profile.nans, profile.moments);
        exact(self) == exact(other) && self.sketches() == other.sketches()
    }
}

fn failed(e: datasketches::error::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "a column's profile has a malformed sketch").caused_by(e.to_string())
}

impl ColumnProfile {
    /// The profile of no rows.
    ///
    /// # Errors
    /// None that occur: the sketches' parameters are within their limits.
    pub fn empty() -> Result<Self> {
        Ok(Self {
            rows: 0,
            nulls: 0,
            nans: 0,
            moments: Moments::default(),
            distinct: HllSketch::new(DISTINCT_LG_K, HllType::Hll8).map_err(failed)?,
            quantiles: KllSketch::new(QUANTILES_K).map_err(failed)?,
            frequent: FrequentItemsSketch::new(FREQUENT_SLOTS).map_err(failed)?,
        })
    }

    /// Takes in another profile, of other rows of the same column.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the two cannot be merged, which stored ones might claim.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let too_many = || Error::new(ErrorKind::Corrupt, "column profiles count more rows than there can be");
        let rows = self.rows.checked_add(other.rows).ok_or_else(too_many)?;
        self.frequent.total_weight().checked_add(other.frequent.total_weight()).ok_or_else(too_many)?;
        self.rows = rows;
        self.nulls = self.nulls.saturating_add(other.nulls);
        self.nans = self.nans.saturating_add(other.nans);
        self.moments.merge(&other.moments);
        let mut union = HllUnion::new(DISTINCT_LG_K).map_err(failed)?;
        union.update(&self.distinct);
        union.update(&other.distinct);
        self.distinct = union.to_sketch(HllType::Hll8);
        self.quantiles.merge(&other.quantiles).map_err(failed)?;
        self.frequent.merge(&other.frequent);
        Ok(())
    }

    /// Values that are neither null nor NaN.
    pub fn values(&self) -> u64 {
        self.rows.saturating_sub(self.nulls).saturating_sub(self.nans)
    }

    /// An estimate of the number of distinct values.
    pub fn distinct(&self) -> f64 {
        // A sketch of fewer values than it has coupons is exact; more distinct values than values there are not.
        self.distinct.estimate().round().min(u64_to_f64(self.values()))
    }

    /// Whether the values have quantiles: numbers, instants and truth values do.
    pub fn is_numeric(&self) -> bool {
        self.moments.count > 0
    }

    /// The values at these ranks (0 to 1), ascending; empty for columns without an order on numbers.
    pub fn quantiles(&self, ranks: &[f64]) -> Vec<f64> {
        let view = self.quantiles.sorted_view();
        let at = |rank: &f64| view.quantile(rank.clamp(0.0, 1.0), datasketches::common::SearchCriteria::Inclusive).ok().flatten();
        ranks.iter().filter_map(at).map(KllFloat::into_inner).collect()
    }

    /// The fraction of values at or below each of these; all 0 for columns without an order on numbers.
    pub fn ranks(&self, values: &[f64]) -> Vec<f64> {
        let view = self.quantiles.sorted_view();
        let rank = |value: &f64| {
            let value = KllFloat::<f64>::new(*value).ok()?;
            view.rank(&value, datasketches::common::SearchCriteria::Inclusive)
        };
        values.iter().map(|value| rank(value).unwrap_or_default()).collect()
    }

    /// By how much ranks may be off.
    pub fn rank_error(&self) -> f64 {
        if self.quantiles.is_estimation_mode() { self.quantiles.normalized_rank_error() } else { 0.0 }
    }

    /// The frequent values as text with their estimated counts, the most frequent first, and by how much a count may be too large.
    ///
    /// When the error is 0, these are all values there are.
    pub fn frequent(&self) -> (Vec<(String, u64)>, u64) {
        let rows = self.frequent.frequent_items_with_threshold(ErrorType::NoFalseNegatives, 0);
        let mut items: Vec<(String, u64)> = rows.iter().map(|row| (row.item().clone(), row.estimate())).collect();
        items.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        (items, self.frequent.maximum_error())
    }

    /// The sketches' bytes.
    pub fn sketches(&self) -> StoredSketches {
        StoredSketches { distinct: self.distinct.serialize(), quantiles: self.quantiles.serialize(), frequent: self.frequent.serialize() }
    }

    /// A profile from what was stored of it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when a sketch is malformed, too large, or counts other values than the profile.
    pub fn from_stored(rows: u64, nulls: u64, nans: u64, moments: Moments, sketches: &StoredSketches) -> Result<Self> {
        let parts = [&sketches.distinct, &sketches.quantiles, &sketches.frequent];
        if parts.iter().any(|bytes| bytes.len() > SKETCH_LIMIT_BYTES) {
            return Err(Error::new(ErrorKind::Corrupt, "a column's profile has a sketch that is too large"));
        }
        let profile = Self {
            rows,
            nulls,
            nans,
            moments,
            distinct: HllSketch::deserialize(&sketches.distinct).map_err(failed)?,
            quantiles: KllSketch::deserialize(&sketches.quantiles).map_err(failed)?,
            frequent: FrequentItemsSketch::deserialize(&sketches.frequent).map_err(failed)?,
        };
        let counted = nulls.checked_add(nans).is_some_and(|none| none <= rows);
        if !counted || profile.quantiles.n() != profile.moments.count || profile.distinct.lg_config_k() > DISTINCT_LG_K {
            return Err(Error::new(ErrorKind::Corrupt, "a column's profile contradicts itself"));
        }
        Ok(profile)
    }
}

pub(crate) fn u64_to_f64(n: u64) -> f64 {
    // Exact up to 2^53; counts beyond are estimates anyway.
    #[expect(clippy::cast_precision_loss, reason = "counts are compared as fractions")]
    let float = n as f64;
    float
}

#[cfg(test)]
mod tests;
