//! A file's statistics, which most of those who read a log never look into.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Statistics as JSON. Text is parsed when it is first asked for; text that is no JSON object stays text.
#[derive(Clone)]
pub struct Stats {
    text: Option<Box<str>>,
    value: OnceLock<Value>,
}

impl Stats {
    /// The members that speak of columns.
    pub const OF_COLUMNS: [&str; 3] = ["minValues", "maxValues", "nullCount"];

    /// The statistics that a log states as text.
    pub fn of_text(text: &str) -> Self {
        Self { text: Some(text.into()), value: OnceLock::new() }
    }

    /// Without what `members` (`minValues`, `nullCount`, …) state of these columns, each given by the names on the way to it; `None` where nothing
    /// of that is stated.
    pub fn without<T: AsRef<str>>(&self, members: &[&str], columns: &[Vec<T>]) -> Option<Self> {
        let stated = |member: &str, column: &[T]| {
            self.get(member).and_then(|at| column.iter().try_fold(at, |at, name| at.get(name.as_ref()))).is_some()
        };
        let of_columns = |member: &&str| columns.iter().any(|column| stated(member, column));
        if !members.iter().any(of_columns) {
            return None;
        }
        let mut left = Value::clone(self);
        for member in members {
            for column in columns {
                let Some((name, above)) = column.split_last() else { continue };
                let at = above.iter().try_fold(left.get_mut(*member), |at, name| Some(at?.get_mut(name.as_ref())));
                if let Some(Some(Value::Object(at))) = at {
                    at.remove(name.as_ref());
                }
            }
        }
        Some(Self::from(left))
    }
}

impl From<Value> for Stats {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self { text: Some(text.into()), value: OnceLock::new() },
            value => Self { text: None, value: OnceLock::from(value) },
        }
    }
}

impl Deref for Stats {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.value.get_or_init(|| {
            let text = self.text.as_deref().unwrap_or_default();
            match super::json::parse(text.as_bytes()) {
                Ok(value @ Value::Object(_)) => value,
                _ => Value::from(text),
            }
        })
    }
}

impl PartialEq for Stats {
    fn eq(&self, other: &Self) -> bool {
        self.text.is_some() && self.text == other.text || **self == **other
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for Stats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_read_when_it_is_asked_for_and_stays_text_when_it_is_no_object() {
        let stats = Stats::of_text("{\"numRecords\": 3, \"minValues\": {\"a\": 0.1}}");
        assert!(stats.value.get().is_none());
        assert_eq!(stats, Stats::of_text("{\"numRecords\": 3, \"minValues\": {\"a\": 0.1}}"));
        assert!(stats.value.get().is_none(), "equal text is equal");
        assert_eq!(stats.get("numRecords"), Some(&json!(3)));
        assert_eq!(stats, Stats::from(json!({"minValues": {"a": 0.1}, "numRecords": 3})));
        assert_ne!(stats, Stats::from(json!({"numRecords": 3})));
        for text in ["", "[1]", "3", "{\"a\": 1, \"a\": 2}", "{"] {
            assert_eq!(*Stats::of_text(text), json!(text));
            assert_eq!(*Stats::from(json!(text)), json!(text));
        }
    }
}
