//! Mean and variance in one pass, mergeable.

/// Count, least and greatest value, mean and sum of squared deviations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    /// How many values.
    pub count: u64,
    /// The least; 0 without values.
    pub min: f64,
    /// The greatest; 0 without values.
    pub max: f64,
    /// Their mean; infinite when there are infinite ones, NaN when there are such of both signs.
    pub mean: f64,
    /// The sum of squared deviations from the mean; NaN when there are infinite values.
    pub squares: f64,
}

impl PartialEq for Moments {
    /// What is not a number is as equal as any other: else a profile would not be equal to itself.
    fn eq(&self, other: &Self) -> bool {
        let numbers = |of: &Self| [of.min, of.max, of.mean, of.squares];
        let same = |(a, b): (f64, f64)| a == b || (a.is_nan() && b.is_nan());
        self.count == other.count && numbers(self).into_iter().zip(numbers(other)).all(same)
    }
}

impl Moments {
    /// Takes in a value (Welford).
    pub fn update(&mut self, value: f64) {
        (self.min, self.max) = if self.count == 0 { (value, value) } else { (self.min.min(value), self.max.max(value)) };
        let is_first = self.count == 0;
        self.count = self.count.saturating_add(1);
        if !value.is_finite() || !self.mean.is_finite() {
            self.mean = if is_first { value } else { self.mean + value };
            self.squares = f64::NAN;
            return;
        }
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
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if !self.mean.is_finite() || !other.mean.is_finite() {
            self.mean += other.mean;
            self.squares = f64::NAN;
            return;
        }
        let delta = other.mean - self.mean;
        let total = own + others;
        self.mean += delta * others / total;
        self.squares += other.squares + delta * delta * own * others / total;
    }

    /// The variance of these values themselves; 0 for fewer than two, NaN when there are infinite ones.
    pub fn variance(&self) -> f64 {
        let variance = if self.count < 2 { self.squares } else { self.squares / super::u64_to_f64(self.count) };
        // The greater of a number and of what is none is the number.
        if variance.is_nan() { variance } else { variance.max(0.0) }
    }
}
