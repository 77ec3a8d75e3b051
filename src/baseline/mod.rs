//! Evidence, signed baselines, comparison, verdicts.
