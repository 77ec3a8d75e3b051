//! What the log states about a file, held against its fingerprint.

use std::cmp::Ordering;

use arrow::datatypes::i256;
use serde_json::Value;

use super::encode::whole_float;
use super::range::LeafRange;
use super::scalar::{NANOS_PER_DAY, Scalar};
use super::{ColumnFingerprint, FileFingerprint, StatisticsLie};
use crate::table::{ColumnType, EXACT_DIGITS, LiveFile, PrimitiveType, TableColumn, TableSchema, parse_json};

pub(super) const NANOS_PER_MILLI: i128 = 1_000_000;
/// So much of a stated text is repeated.
const SHOWN_CHARS: usize = 200;

/// Compares `add.stats`, the deletion vector's cardinality and the Parquet footer's statistics with what was recomputed.
///
/// Absent statistics are no lie. Text may be truncated and timestamps may be cut to milliseconds, as Delta allows; integers,
/// floats, dates and booleans must be exact unless `tightBounds` is false or a deletion vector makes them wide. NaN is left out
/// on both sides. What is not understood is a lie: another parser may make a value of it, and engines prune by what theirs makes.
/// The fingerprint must have been made with rows; without them only the row count is compared.
pub fn check_statistics(file: &LiveFile, fingerprint: &FileFingerprint, schema: &TableSchema) -> Vec<StatisticsLie> {
    let mut lies = fingerprint.footer_lies.clone();
    if let Some(descriptor) = &file.deletion_vector {
        let stated = descriptor.get("cardinality").filter(|stated| !stated.is_null());
        let found = fingerprint.deleted.as_ref().map(|deleted| deleted.rows);
        if let Some((stated, found)) = stated.zip(found).filter(|(stated, found)| stated.as_u64() != Some(*found)) {
            lies.push(lie("", "cardinality", stated, found));
        }
    }
    let stats = match file.stats.as_deref() {
        None | Some(Value::Null) => return lies,
        Some(Value::Object(stats)) => stats,
        Some(other) => {
            lies.push(no_object(other));
            return lies;
        }
    };
    if let Some(stated) = stats.get("numRecords").filter(|stated| !stated.is_null() && stated.as_u64() != Some(fingerprint.rows)) {
        lies.push(lie("", "numRecords", stated, fingerprint.rows));
    }
    if !has_rows(fingerprint) {
        return lies;
    }
    let wide = stats.get("tightBounds").and_then(Value::as_bool) == Some(false) || file.deletion_vector.is_some();
    let null = Value::Null;
    let member = |name: &str| stats.get(name).unwrap_or(&null);
    let stated = Stated { nulls: member("nullCount"), min: member("minValues"), max: member("maxValues") };
    let check = Check { fingerprint, wide };
    stated.check_objects("", &mut lies);
    for column in schema.columns.iter().filter(|column| !schema.partition_columns.contains(&column.name)) {
        check.column(column, &[], &stated, &mut lies);
    }
    lies
}

/// Whether rows were decoded to make the fingerprint.
fn has_rows(fingerprint: &FileFingerprint) -> bool {
    let known = |column: &ColumnFingerprint| column.nulls.or(column.container_nulls).is_some();
    fingerprint.row_groups.iter().all(|group| group.columns.is_empty() || group.columns.iter().any(known))
}

fn lie(column: &str, what: &str, stated: impl ToString, found: impl ToString) -> StatisticsLie {
    StatisticsLie {
        row_group: None,
        column: column.to_owned(),
        what: what.to_owned(),
        stated: shortened(stated.to_string()),
        found: found.to_string(),
    }
}

/// Of statistics that are no JSON object, or one that names a member twice: each parser makes something else of them.
fn no_object(stated: &Value) -> StatisticsLie {
    let text = stated.as_str().map_or_else(|| stated.to_string(), str::to_owned);
    let found = parse_json(text.as_bytes()).map_or_else(
        |e| format!("they can be read in more than one way, or in none: {e}"),
        |_| "they are JSON, but no object with a member for each statistic".to_owned(),
    );
    lie("", "statistics", text, found)
}

/// As much of what is stated as an error can show.
fn shortened(text: String) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The statistics' members for one level of nesting.
struct Stated<'a> {
    nulls: &'a Value,
    min: &'a Value,
    max: &'a Value,
}

impl<'a> Stated<'a> {
    fn member(&self, column: &TableColumn) -> Self {
        // Old writers of column-mapped tables use logical names.
        let of = |value: &'a Value| value.get(&column.physical_name).or_else(|| value.get(&column.name)).unwrap_or(&Value::Null);
        Self { nulls: of(self.nulls), min: of(self.min), max: of(self.max) }
    }

    /// What holds the statistics of several fields must be an object of them.
    fn check_objects(&self, path: &str, lies: &mut Vec<StatisticsLie>) {
        for (what, member) in [("nullCount", self.nulls), ("minValues", self.min), ("maxValues", self.max)] {
            if !member.is_null() && !member.is_object() {
                lies.push(lie(path, what, member, "no object with a member for each column"));
            }
        }
    }
}

struct Check<'a> {
    fingerprint: &'a FileFingerprint,
    wide: bool,
}

/// One leaf over all row groups.
struct Found {
    nulls: u64,
    min: Extreme,
    max: Extreme,
}

/// The least or the greatest value of a leaf.
enum Extreme {
    /// All values are null or NaN.
    None,
    Known(Scalar),
    /// There are values, of a type that does not compare with the column's.
    Unknown,
}

impl Extreme {
    /// Takes in the extreme of one row group more.
    fn merge(&mut self, other: Self, better: Ordering) {
        match (&*self, other) {
            (Self::Unknown, _) | (_, Self::None) => {}
            (Self::None, other) | (_, other @ Self::Unknown) => *self = other,
            (Self::Known(best), Self::Known(other)) => match other.compare(best) {
                Some(order) if order == better => *self = Self::Known(other),
                Some(_) => {}
                None => *self = Self::Unknown,
            },
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::None => "no value".to_owned(),
            Self::Known(value) => value.to_json().map_or_else(|| format!("{value:?}"), |value| value.to_string()),
            Self::Unknown => "values that do not compare with the column's type".to_owned(),
        }
    }
}

impl Check<'_> {
    fn column(&self, column: &TableColumn, above: &[String], stated: &Stated<'_>, lies: &mut Vec<StatisticsLie>) {
        let stated = stated.member(column);
        let parts: Vec<String> = above.iter().chain([&column.physical_name]).cloned().collect();
        let path = parts.join(".");
        match &column.data_type {
            ColumnType::Struct(fields) => {
                stated.check_objects(&path, lies);
                fields.iter().for_each(|field| self.column(field, &parts, &stated, lies));
            }
            ColumnType::Primitive(primitive) => self.leaf(&parts, *primitive, &stated, lies),
            // Nothing prunes by bounds of lists, maps and variants; their nulls are counted.
            ColumnType::List(_) | ColumnType::Map(_, _) | ColumnType::Variant => {
                if let Some(found) = self.container_nulls(&parts, &column.data_type) {
                    self.null_count(&path, stated.nulls, found, lies);
                }
            }
        }
    }

    /// Only a JSON integer counts: text and floats are numbers to some parsers.
    fn null_count(&self, path: &str, stated: &Value, found: u64, lies: &mut Vec<StatisticsLie>) {
        let is_wide = |nulls: u64| self.wide && nulls != 0 && nulls != self.fingerprint.rows;
        if !stated.is_null() && !stated.as_u64().is_some_and(|nulls| nulls == found || is_wide(nulls)) {
            lies.push(lie(path, "nullCount", stated, found));
        }
    }

    fn leaf(&self, parts: &[String], primitive: PrimitiveType, stated: &Stated<'_>, lies: &mut Vec<StatisticsLie>) {
        let Some(found) = self.found(parts, primitive) else { return };
        let path = parts.join(".");
        self.null_count(&path, stated.nulls, found.nulls, lies);
        // Nothing prunes by bounds of bytes, for which Delta has no text.
        if primitive == PrimitiveType::Binary {
            return;
        }
        for (what, bound, found) in [("minValues", stated.min, &found.min), ("maxValues", stated.max, &found.max)] {
            if let Some(found) = self.bound_lie(what == "minValues", primitive, bound, found) {
                lies.push(lie(&path, what, bound, found));
            }
        }
    }

    /// What was found instead, where a stated bound is a lie.
    fn bound_lie(&self, is_min: bool, primitive: PrimitiveType, stated: &Value, found: &Extreme) -> Option<String> {
        if stated.is_null() {
            return None;
        }
        let Some(bound) = Scalar::from_json(stated, primitive) else {
            // NaN is above all other values: as the greatest it hides none, as the least it hides all but itself.
            let is_nan = matches!(primitive, PrimitiveType::Float | PrimitiveType::Double) && stated.as_str() == Some("NaN");
            let is_lie = !is_nan || (is_min && !matches!(found, Extreme::None));
            return is_lie.then(|| format!("{}; what is stated is no such value of the column's type", found.shown()));
        };
        let is_lie = match found {
            // Any bound is true of no value, but a tight one cannot be.
            Extreme::None => !self.wide && !matches!(bound, Scalar::Float(_)),
            // Nobody could say that it hides nothing.
            Extreme::Unknown => true,
            Extreme::Known(found) => self.is_wrong(is_min, primitive, &bound, found),
        };
        is_lie.then(|| found.shown())
    }

    fn is_wrong(&self, is_min: bool, primitive: PrimitiveType, bound: &Scalar, found: &Scalar) -> bool {
        match (bound, found) {
            (Scalar::Instant(bound), Scalar::Instant(found)) if is_min => bound > found,
            (Scalar::Instant(bound), Scalar::Instant(found)) => bound.saturating_add(NANOS_PER_MILLI) <= *found,
            _ => match bound.compare(found) {
                None => true,
                Some(Ordering::Equal) => false,
                Some(order) if matches!(bound, Scalar::Text(_)) || self.wide => (order == Ordering::Greater) == is_min,
                // Too narrow by a last digit hides a row; too wide by one does no harm.
                Some(order) if (order == Ordering::Greater) == is_min => !is_spelled_shorter(bound, found, primitive),
                Some(_) => !equal_but_for_rounding(bound, found),
            },
        }
    }

    fn found(&self, parts: &[String], primitive: PrimitiveType) -> Option<Found> {
        let mut all = Found { nulls: 0, min: Extreme::None, max: Extreme::None };
        for group in &self.fingerprint.row_groups {
            let Some(column) = group.columns.iter().find(|column| column.path == parts) else {
                // The table has the column, and the file has not: it is read as nulls.
                all.nulls = all.nulls.saturating_add(group.rows);
                continue;
            };
            let nulls = column.nulls?;
            all.nulls = all.nulls.saturating_add(nulls);
            let extreme = |of: fn(&LeafRange) -> &Option<Scalar>| match column.range.as_ref().map(of) {
                Some(Some(value)) => in_domain(value, primitive).map_or(Extreme::Unknown, Extreme::Known),
                Some(None) if nulls == group.rows || matches!(primitive, PrimitiveType::Float | PrimitiveType::Double) => Extreme::None,
                _ => Extreme::Unknown,
            };
            all.min.merge(extreme(|range| &range.min), Ordering::Less);
            all.max.merge(extreme(|range| &range.max), Ordering::Greater);
        }
        Some(all)
    }

    /// The nulls of a list, a map or a variant, over all row groups; `None` where the file has something else there.
    fn container_nulls(&self, parts: &[String], data_type: &ColumnType) -> Option<u64> {
        let mut all = 0_u64;
        for group in &self.fingerprint.row_groups {
            let below = |column: &&ColumnFingerprint| column.path.starts_with(parts);
            let is_metadata =
                |column: &&ColumnFingerprint| column.path.split_last().is_some_and(|(last, above)| last == "metadata" && above == parts);
            let nulls = match (group.columns.iter().find(below), data_type) {
                (None, _) => group.rows,
                // A variant's metadata is there wherever the variant is.
                (Some(_), ColumnType::Variant) => group.columns.iter().find(is_metadata)?.nulls?,
                (Some(column), _) => column.container_nulls?,
            };
            all = all.saturating_add(nulls);
        }
        Some(all)
    }
}

/// A value of a file as the column's type has it: of itself, or of a type that Delta widens to it; `None` where it is of neither. Text whose mark
/// an old writer left away is text.
fn in_domain(value: &Scalar, primitive: PrimitiveType) -> Option<Scalar> {
    Some(match (value, primitive) {
        (Scalar::Boolean(_), PrimitiveType::Boolean)
        | (Scalar::Integer(_), PrimitiveType::Integer)
        | (Scalar::Float(_), PrimitiveType::Float | PrimitiveType::Double)
        | (Scalar::Decimal(..), PrimitiveType::Decimal(..))
        | (Scalar::Text(_), PrimitiveType::String)
        | (Scalar::Date(_), PrimitiveType::Date)
        | (Scalar::Instant(_), PrimitiveType::Timestamp | PrimitiveType::TimestampNtz) => value.clone(),
        (Scalar::Binary(bytes), PrimitiveType::String) => Scalar::Text(String::from_utf8(bytes.clone()).ok()?),
        (Scalar::Integer(value), PrimitiveType::Double) => Scalar::Float(whole_float(*value)),
        (Scalar::Integer(value), PrimitiveType::Decimal(..)) => Scalar::Decimal(i256::from_i128(*value), 0),
        (Scalar::Date(days), PrimitiveType::TimestampNtz) => Scalar::Instant(i128::from(*days).saturating_mul(NANOS_PER_DAY)),
        _ => return None,
    })
}

/// Whether `stated` is the shortest text of `found` in a column of 32-bit floats, which engines read back as what was found; or a decimal that
/// passed through a double and may have lost digits there, by which engines are not shown to prune ([`may_be_rounded`](crate::table::may_be_rounded)).
fn is_spelled_shorter(stated: &Scalar, found: &Scalar, primitive: PrimitiveType) -> bool {
    match (stated, found) {
        (Scalar::Float(stated), Scalar::Float(found)) if primitive == PrimitiveType::Float => {
            #[expect(clippy::cast_possible_truncation, reason = "it is the question whether anything is lost")]
            let single = *found as f32;
            f64::from(single) == *found && single.to_string().parse() == Ok(*stated)
        }
        (Scalar::Decimal(_, _), _) => {
            matches!(primitive, PrimitiveType::Decimal(digits, _) if digits > EXACT_DIGITS) && equal_but_for_rounding(stated, found)
        }
        _ => false,
    }
}

/// JSON numbers pass through 64-bit floats, and 32-bit floats through decimal text: the last digits may differ.
pub(super) fn equal_but_for_rounding(stated: &Scalar, found: &Scalar) -> bool {
    let float = |scalar: &Scalar| match scalar {
        Scalar::Float(value) => Some(*value),
        Scalar::Decimal(_, _) => scalar.to_json().and_then(|value| value.as_str()?.parse().ok()),
        _ => None,
    };
    let tolerance = if matches!(stated, Scalar::Decimal(_, _)) { 1e-14 } else { 6e-8 };
    float(stated).zip(float(found)).is_some_and(|(a, b)| (a - b).abs() <= tolerance * a.abs().max(b.abs()))
}

#[cfg(test)]
mod tests;
