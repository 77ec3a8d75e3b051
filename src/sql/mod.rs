//! SQL over tables that are held against their baselines while they are read.
//!
//! * [`SealedSession`]: a DataFusion session over a lake. Its tables are [`VerifiedTable`]s, its registry of stores fails closed,
//!   and it has the table functions `audit('t')`, `baselines('t')`, `row_groups('t')`, and of lineage `lineage('t')`, `upstream('t', …)`,
//!   `blast_radius('t', …)` and `verify_derivation('t', …)`.
//! * [`VerifiedTable`]: a table provider for any session. Its scan fails, before it plans anything, when log, statistics or
//!   partition values are not the sealed ones, so that not even `COUNT(*)` is answered from forged numbers; and its bytes come
//!   through a [`VerifiedStore`](crate::verify::VerifiedStore), so that no batch is released of a block that was not verified.
//! * [`VerifiedScansOnly`]: the second net, a rule of the optimizer that refuses every plan which reads past such tables.
//!
//! In the mode `Latest`, the default, commits after the baseline are read and noted, but their statistics steer no plan, and rewrites that claim
//! to change no row are passed over while the sealed files are there; what the baseline sealed stays verified. The mode `Sealed` reads nothing else.
//!
//! What is done about a difference is a session's to say ([`VerifyMode`]): `SET lakeseal.verify = 'heal'` serves the sealed bytes from
//! retained versions, `quarantine` leaves row groups out, `warn` delivers what differs; `SET lakeseal.read = 'sealed'` reads exactly the
//! baseline. All of it is told: by [`SealedSession::reports`], the table function `reports()`, and in EXPLAIN ANALYZE.
//!
//! DataFusion's own errors become Lakeseal's with [`to_error`].

mod answer;
mod batches;
mod catalog;
mod check;
mod compared;
mod constants;
mod derivation;
mod dml;
mod drift;
mod early;
mod exec;
mod expectations;
mod floats;
mod folder;
mod functions;
mod guard;
mod held;
mod insert;
mod later;
mod lineage;
mod lineage_graph;
mod newest;
mod null_partitions;
mod open;
mod poison_diff;
mod record;
mod replay;
mod reports;
mod restored;
mod rows_compared;
mod session;
mod settings;
mod table;
mod unsteered;
mod write;

#[cfg(test)]
pub(crate) use drift::is_alert;
pub use expectations::{check_expectations, hold_expectations, violations};
pub use guard::VerifiedScansOnly;
pub use session::{SealedSession, SessionOptions};
pub use settings::{ReadMode, Settings, VerifyMode};
pub use table::{TableOptions, VerifiedTable};

use datafusion::error::DataFusionError;

use crate::error::{Error, ErrorKind};

/// A DataFusion error as ours: a Lakeseal error inside of it is given back with its kind and places.
pub fn to_error(error: DataFusionError) -> Error {
    let Some(inner) = Error::find(&error) else {
        let kind = match error.find_root() {
            DataFusionError::IoError(_) => ErrorKind::Io,
            DataFusionError::ObjectStore(_) => ErrorKind::Unavailable,
            DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
            DataFusionError::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::InvalidInput,
        };
        return Error::new(kind, "the query failed").caused_by(error);
    };
    let mut copy = Error::new(inner.kind(), inner.message());
    for (key, value) in inner.context() {
        copy = copy.with(key, value);
    }
    match std::error::Error::source(inner) {
        Some(cause) => copy.caused_by(cause.to_string()),
        None => copy,
    }
}

pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
