//! Places where a test can stop or kill the process. Without the feature `failpoints` they do nothing.

/// Stops here if a test said so: `failpoint!("put.before-vote")`. Named `verb.moment`.
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;
