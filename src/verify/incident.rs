//! What was done where a table was not what was sealed, for those who ask afterwards.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::damage::Damage;

/// Incidents that are kept; more are counted.
const KEPT: usize = 10_000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The read failed.
    Refused,
    /// The sealed bytes were served from elsewhere.
    Healed,
    /// Rows were left out.
    Skipped,
    /// What differs was delivered as it is.
    Delivered,
}

impl Action {
    /// The name in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Healed => "healed",
            Self::Skipped => "skipped",
            Self::Delivered => "delivered",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place where a table was not what was sealed, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// What was done.
    pub action: Action,
    /// What differs, and where.
    pub damage: Damage,
    /// Where the served bytes came from; only of what was healed.
    pub source: Option<String>,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.damage.table)?;
        if !self.damage.file.is_empty() {
            write!(f, " file {}", self.damage.file)?;
        }
        for (what, values) in [("row group", self.damage.row_groups()), ("column", self.damage.columns())] {
            if !values.is_empty() {
                write!(f, " {what}{} {}", if values.len() == 1 { "" } else { "s" }, values.join(", "))?;
            }
        }
        write!(f, ": {}", self.damage.detail)?;
        match &self.source {
            Some(source) => write!(f, "; served from {source}"),
            None => Ok(()),
        }
    }
}

/// The incidents of a session, shared by all that reads in it.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    incidents: Vec<Incident>,
    dropped: u64,
}

impl Reports {
    /// All incidents so far, in the order in which they happened; of a file, what was done alike is one incident.
    pub fn incidents(&self) -> Vec<Incident> {
        self.0.lock().incidents.clone()
    }

    /// How many incidents there were beyond those that are kept.
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Whether anything was done so.
    pub fn any(&self, action: Action) -> bool {
        self.0.lock().incidents.iter().any(|incident| incident.action == action)
    }

    /// Adds an incident, or its places to one of the same file; says it to the log when it is news.
    pub fn add(&self, incident: Incident) {
        let mut kept = self.0.lock();
        let same = |known: &&mut Incident| {
            known.action == incident.action
                && known.source == incident.source
                && known.damage.table == incident.damage.table
                && known.damage.file == incident.damage.file
                && known.damage.detail == incident.damage.detail
        };
        if let Some(known) = kept.incidents.iter_mut().find(same) {
            known.damage.add_places(&incident.damage.places);
            return;
        }
        if kept.incidents.len() >= KEPT {
            kept.dropped += 1;
            return;
        }
        let Incident { action, damage, source } = &incident;
        tracing::warn!(%action, table = %damage.table, file = %damage.file, source = source.as_deref(), "{}", damage.detail);
        kept.incidents.push(incident);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(action: Action, file: &str, group: u32) -> Incident {
        let places = vec![(Some(group), Some("c".to_owned()))];
        Incident { action, damage: Damage { table: "t".into(), file: file.into(), places, detail: "differs".into() }, source: None }
    }

    #[test]
    fn the_same_file_is_told_once_with_all_its_places() {
        let reports = Reports::default();
        reports.add(incident(Action::Skipped, "f", 1));
        reports.add(incident(Action::Skipped, "f", 3));
        reports.add(incident(Action::Skipped, "f", 3));
        reports.add(incident(Action::Delivered, "f", 3));
        let all = reports.incidents();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].to_string(), "skipped: t file f row groups 1, 3 column c: differs");
        assert!(reports.any(Action::Skipped) && !reports.any(Action::Healed));
    }

    #[test]
    fn memory_is_bounded() {
        let reports = Reports::default();
        for n in 0..KEPT + 5 {
            reports.add(incident(Action::Healed, &n.to_string(), 0));
        }
        assert_eq!((reports.incidents().len(), reports.dropped()), (KEPT, 5));
    }
}
