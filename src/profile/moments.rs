//! Mean and variance in one pass, mergeable.

/// Count, least and greatest value, mean and sum of squared deviations.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// The least; 0 without values.
    pub min: f64,
    /// The greatest; 0 without values.
    pub max: f64,
    /// Their mean; NaN when there are infinite ones of both signs.
    pub mean: f64,
    /// The sum of squared deviations from the mean.
    pub squares: f64,
}

impl Moments {
    /// Takes in a value (Welford).
    pub fn update(&mut self, value: f64) {
        (self.min, self.max) = if self.count == 0 { (value, value) } else { (self.min.min(value), self.max.max(value)) };
        self.count = self.count.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / super::u64_to_f64(self.count);
        self.squares += delta * (value - self.mean);
    }

    /// Takes in the moments of other values (Chan et al.).
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (own, others) = (super::u64_to_f64(self.count), super::u64_to_f64(other.count));
        let delta = other.mean - self.mean;
        let total = own + others;
        self.mean += delta * others / total;
        self.squares += other.squares + delta * delta * own * others / total;
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The variance of these values themselves; 0 for fewer than two.
    pub fn variance(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / super::u64_to_f64(self.count)).max(0.0) }
    }
}
