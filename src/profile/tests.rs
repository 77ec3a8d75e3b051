use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, TimestampSecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Int32Type};

use super::measures::drift;
use super::*;

fn profile(array: &ArrayRef) -> ColumnProfile {
    let bytes: Vec<Vec<u8>> =
        (0..array.len())
            .map(|row| {
                if array.is_null(row) { Vec::new() } else { arrow::util::display::array_value_to_string(array, row).unwrap().into_bytes() }
            })
            .collect();
    let mut builder = ProfileBuilder::new().unwrap();
    builder.add(array, |row| bytes[row].as_slice());
    builder.finish()
}

fn floats(values: impl Iterator<Item = f64>) -> ColumnProfile {
    profile(&(Arc::new(Float64Array::from_iter_values(values)) as ArrayRef))
}

fn texts(values: &[(&str, usize)]) -> ColumnProfile {
    let all: Vec<&str> = values.iter().flat_map(|(value, count)| std::iter::repeat_n(*value, *count)).collect();
    profile(&(Arc::new(StringArray::from_iter_values(all)) as ArrayRef))
}

/// Numbers that look random, the same each time, between 0 and 1.
fn scattered(n: u64) -> impl Iterator<Item = f64> {
    (0..n).map(|i| u64_to_f64(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) / u64_to_f64(1 << 53))
}

#[test]
fn a_profile_counts_what_is_there() {
    let array: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(3.0), Some(3.0)]));
    let found = profile(&array);
    assert_eq!((found.rows, found.nulls, found.nans, found.values()), (5, 1, 1, 3));
    assert_eq!((found.moments.min, found.moments.max), (1.0, 3.0));
    assert!((found.moments.mean - 7.0 / 3.0).abs() < 1e-12 && (found.moments.variance() - 8.0 / 9.0).abs() < 1e-12);
    assert_eq!(found.distinct(), 2.0);
    assert_eq!(found.frequent(), (vec![("3.0".to_owned(), 2), ("1.0".to_owned(), 1)], 0));
}

#[test]
fn merged_parts_are_like_the_whole() {
    let values: Vec<f64> = scattered(40_000).map(|v| v * 100.0).collect();
    let whole = floats(values.iter().copied());
    let mut merged = ColumnProfile::empty().unwrap();
    for part in values.chunks(7000) {
        merged.merge(&floats(part.iter().copied())).unwrap();
    }
    assert_eq!((merged.rows, merged.moments.count), (40_000, 40_000));
    assert!((merged.moments.mean - whole.moments.mean).abs() < 1e-9 && (merged.moments.variance() - whole.moments.variance()).abs() < 1e-6);
    assert!((merged.distinct() / 40_000.0 - 1.0).abs() < 0.15, "{}", merged.distinct());
    for (rank, value) in [0.1, 0.5, 0.9].iter().zip(merged.quantiles(&[0.1, 0.5, 0.9])) {
        assert!((value / 100.0 - rank).abs() < 0.05, "{rank}: {value}");
    }
}

#[test]
fn a_profile_reads_back_and_a_damaged_one_is_refused() {
    let found = floats(scattered(5000));
    let stored = found.sketches();
    let back = ColumnProfile::from_stored(found.rows, 0, 0, found.moments, &stored).unwrap();
    assert_eq!((back.distinct(), back.quantiles(&[0.3]), back.frequent()), (found.distinct(), found.quantiles(&[0.3]), found.frequent()));
    assert!(ColumnProfile::from_stored(10, 11, 0, found.moments, &stored).is_err(), "more nulls than rows");
    assert!(ColumnProfile::from_stored(found.rows, 0, 0, Moments::default(), &stored).is_err(), "other counts");
    for at in 0..stored.quantiles.len().min(200) {
        let mut bad = stored.clone();
        bad.quantiles.truncate(at);
        assert!(ColumnProfile::from_stored(found.rows, 0, 0, found.moments, &bad).is_err(), "cut at {at}");
    }
}

#[test]
fn instants_are_compared_in_one_unit() {
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from_iter_values([10, 20]));
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values([10_000_000, 20_000_000]));
    assert_eq!(profile(&seconds).moments, profile(&micros).moments);
}

#[test]
fn the_same_distribution_does_not_drift() {
    let found = drift(&floats(scattered(20_000)), &floats(scattered(40_000).skip(20_000)));
    assert!(found.psi.unwrap() < 0.02 && found.ks.unwrap() < 0.05 && found.cohens_d.unwrap().abs() < 0.05, "{found:?}");
    let same = drift(&texts(&[("a", 500), ("b", 500)]), &texts(&[("a", 510), ("b", 490)]));
    assert!(same.chi_square_p.unwrap() > 0.05 && same.new_values == Some(0) && same.psi.unwrap() < 0.01, "{same:?}");
}

#[test]
fn shifts_scales_new_categories_and_nulls_drift() {
    let base = floats(scattered(20_000));
    let shifted = drift(&base, &floats(scattered(20_000).map(|v| v + 0.3)));
    assert!(shifted.psi.unwrap() > 0.25 && (shifted.ks.unwrap() - 0.3).abs() < 0.05 && shifted.ks_p.unwrap() < 1e-6, "{shifted:?}");
    assert!((shifted.cohens_d.unwrap() - 0.3 / (1.0_f64 / 12.0).sqrt()).abs() < 0.05, "{shifted:?}");
    let flipped = drift(&texts(&[("a", 900), ("b", 100)]), &texts(&[("a", 700), ("b", 290), ("c", 10)]));
    assert!(flipped.chi_square_p.unwrap() < 1e-6 && flipped.cramers_v.unwrap() > 0.1 && flipped.new_values == Some(1), "{flipped:?}");
    let array: ArrayRef = Arc::new(Int32Array::from((0..1000).map(|i| (i % 4 > 0).then_some(i)).collect::<Vec<_>>()));
    let nulled = drift(&profile(&(Arc::new(Int32Array::from_iter_values(0..1000)) as ArrayRef)), &profile(&array));
    assert!((nulled.null_shift - 0.25).abs() < 1e-12 && (nulled.distinct_ratio.unwrap() - 0.75).abs() < 0.1, "{nulled:?}");
}

#[test]
fn infinite_values_leave_a_mean_and_no_variance() {
    let whole = floats([1.0, f64::INFINITY, 2.0].into_iter());
    assert_eq!((whole.moments.count, whole.moments.min, whole.moments.max), (3, 1.0, f64::INFINITY));
    assert!(whole.moments.mean == f64::INFINITY && whole.moments.variance().is_nan(), "{:?}", whole.moments);
    assert!(floats([f64::INFINITY, f64::NEG_INFINITY].into_iter()).moments.mean.is_nan());
    assert!(floats(std::iter::once(f64::NEG_INFINITY)).moments.variance().is_nan());
    assert_eq!(floats(std::iter::once(3.0)).moments.variance(), 0.0);
    // As the whole, in whichever parts and order.
    let parts = [vec![1.0], vec![f64::INFINITY, 2.0]].map(|part| floats(part.into_iter()).moments);
    for order in [[0, 1], [1, 0]] {
        let mut merged = Moments::default();
        order.iter().for_each(|at: &usize| merged.merge(&parts[*at]));
        assert_eq!(merged, whole.moments);
    }
    assert_ne!(floats([1.0, f64::NEG_INFINITY, 2.0].into_iter()).moments, whole.moments);
    assert_eq!(whole.clone(), whole, "equal to itself, though its variance is no number");
    let back = ColumnProfile::from_stored(whole.rows, 0, 0, whole.moments, &whole.sketches()).unwrap();
    assert_eq!(back.moments, whole.moments);
    let same = drift(&whole, &whole);
    assert_eq!((same.cohens_d, same.ks, same.null_shift, same.nan_shift), (None, Some(0.0), 0.0, 0.0));
    assert!(!crate::sql::is_alert(&same), "{same:?}");
}

#[test]
fn numbers_that_become_nan_drift() {
    let sealed = floats(scattered(45));
    let found = floats(std::iter::repeat_n(f64::NAN, 45));
    let all = drift(&sealed, &found);
    assert_eq!((all.nan_shift, all.null_shift, all.psi), (1.0, 0.0, None));
    assert!(crate::sql::is_alert(&all));
    let few = drift(&floats(scattered(1000)), &floats(scattered(960).chain(std::iter::repeat_n(f64::NAN, 40))));
    assert!((few.nan_shift - 0.04).abs() < 1e-12 && !crate::sql::is_alert(&few), "{few:?}");
    let back = drift(&found, &sealed);
    assert!(back.nan_shift == -1.0 && crate::sql::is_alert(&back), "{back:?}");
}

/// Where a measure has nothing to go by, that must not look as if nothing had moved; nor the other way round.
#[test]
fn odd_columns_drift_where_they_do_and_only_there() {
    let empty = || ColumnProfile::empty().unwrap();
    let of = |array: ArrayRef| profile(&array);
    let nulls = |rows| of(new_null_array(&DataType::Float64, rows));
    let partly = |values: usize, rows: usize| of(Arc::new(Float64Array::from_iter((0..rows).map(|i| (i < values).then_some(1.5)))));
    let nans = |rows, then: u32| floats(std::iter::repeat_n(f64::NAN, rows).chain((0..then).map(f64::from)));
    let decimals = |by: i128| {
        let values = Decimal128Array::from_iter_values((0..1000).map(|i| i + by)).with_precision_and_scale(20, 2);
        of(Arc::new(values.unwrap()))
    };
    let dates = |from| -> ArrayRef { Arc::new(Date32Array::from_iter_values(from..from + 1000)) };
    let keys = || Int32Array::from_iter_values(0..1000);
    let dictionary = |values: ArrayRef| of(Arc::new(DictionaryArray::<Int32Type>::new(keys(), values)));
    let integers = || -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..1000)) };
    let codes: Vec<String> = (0..200).map(|i| format!("code {i}")).collect();
    let each = |count: usize, of: usize| texts(&codes.iter().take(of).map(|code| (code.as_str(), count)).collect::<Vec<_>>());
    let distinct = || of(Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("text {i}")))));
    let seventy = || {
        let counted = |(at, code): (usize, &'static str)| (code, if at < 30 { 2 } else { 1 });
        let codes = codes.iter().take(40).map(|code| &*code.clone().leak());
        texts(&codes.enumerate().map(counted).collect::<Vec<_>>())
    };
    for (case, sealed, found, alert) in [
        ("no rows on both sides", empty(), empty(), false),
        ("the first rows, half of them null", empty(), partly(5, 10), false),
        ("no rows any more, which whoever asks for the table says", partly(5, 10), empty(), false),
        ("nulls alone on both sides", nulls(1000), nulls(10), false),
        ("a few values where there were nulls alone", nulls(1000), partly(10, 1000), true),
        ("a few numbers where there were NaNs alone", nans(1000, 0), nans(990, 10), true),
        ("numbers that became texts", floats(scattered(1000)), distinct(), true),
        ("texts that became numbers", distinct(), floats(scattered(1000)), true),
        ("the same decimals", decimals(0), decimals(0), false),
        ("other decimals", decimals(0), decimals(500), true),
        ("other dates", of(dates(0)), of(dates(365)), true),
        (
            "the same instants in another unit and zone",
            of(Arc::new(TimestampSecondArray::from_iter_values(0..1000).with_timezone("UTC"))),
            of(Arc::new(TimestampMicrosecondArray::from_iter_values((0..1000).map(|i| i * 1_000_000)))),
            false,
        ),
        ("the same numbers in a dictionary", of(integers()), dictionary(integers()), false),
        ("the same dates in a dictionary", of(dates(0)), dictionary(dates(0)), false),
        ("many categories as they were", each(10, 200), each(10, 200), false),
        ("many categories that became one", each(10, 200), texts(&[("code 7", 2000)]), true),
        ("many categories in a small append", each(10, 200), each(1, 3), false),
        ("forty categories in a small append", each(100, 40), seventy(), false),
        ("more new categories than can be listed", texts(&[("a", 500), ("b", 500)]), distinct(), true),
    ] {
        let found = drift(&sealed, &found);
        assert_eq!(crate::sql::is_alert(&found), alert, "{case}: {found:?}");
        let numbers = [found.psi, found.ks, found.ks_p, found.chi_square, found.cramers_v, Some(found.null_shift), found.distinct_ratio];
        assert!(numbers.iter().flatten().all(|number| number.is_finite()), "{case}: {found:?}");
    }
    let new = drift(&texts(&[("a", 500), ("b", 500)]), &distinct());
    assert!(new.new_values >= Some(1), "{new:?}");
    // Half of the values are the least one: what is less is not taken for it.
    let heavy = |low: f64| floats(std::iter::repeat_n(low, 500).chain(scattered(500).map(|v| v + 1.0)));
    let fell = drift(&heavy(0.0), &heavy(-1.0));
    assert!(fell.psi.unwrap() > 0.25, "{fell:?}");
    assert!(drift(&heavy(0.0), &heavy(0.0)).psi.unwrap() < 0.01);
}
