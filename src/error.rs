//! The one public error: what went wrong, where, why, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

/// A result with Lakeseal's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What kind of failure an [`Error`] is; callers match on this and never on the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A configuration file or command line that cannot mean anything, or contradicts the lake.
    Config,
    /// An argument or input file that is not what it has to be.
    InvalidInput,
    /// The named thing is known not to exist. Never used when it merely could not be reached.
    NotFound,
    /// Something else already has the name.
    AlreadyExists,
    /// The condition of a conditional request does not hold.
    Precondition,
    /// The condition of a conditional get says that nothing changed.
    NotModified,
    /// Too few regions (or no network, or no server) to answer; trying again may help.
    Unavailable,
    /// A write was sent but it could not be learned whether it took effect.
    OutcomeUnknown,
    /// Stored bytes contradict their digests, their lengths or their format.
    Corrupt,
    /// A signature does not verify, or was made by a key that is not trusted for it.
    Unauthentic,
    /// A sealed table differs from its baseline.
    Mismatch,
    /// A feature, format version or table that this version does not handle.
    Unsupported,
    /// The caller lacks the right, or the key, to do this.
    Permission,
    /// The operating system refused: disk full, permissions, a broken pipe.
    Io,
    /// A fault of Lakeseal itself.
    Internal,
}

impl ErrorKind {
    /// The kind's name as messages and JSON print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::InvalidInput => "invalid input",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::Precondition => "precondition failed",
            Self::NotModified => "not modified",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome unknown",
            Self::Corrupt => "corrupt",
            Self::Unauthentic => "not authentic",
            Self::Mismatch => "mismatch",
            Self::Unsupported => "unsupported",
            Self::Permission => "not permitted",
            Self::Io => "input/output",
            Self::Internal => "internal error",
        }
    }
}

/// An error with its kind, a message for people, the places it speaks of, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind`; the message says what happened and, where it helps, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), source: None }
    }

    /// Adds a place: a region, path, file, row group, …
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((key, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message alone, without places or cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The places, in the order in which they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::OutcomeUnknown)
    }

    /// What happened where it happened: the message of the last error of ours among the causes, and what that was caused by.
    pub fn innermost(&self) -> String {
        let mut last = self;
        while let Some(own) = StdError::source(last).and_then(Self::find) {
            last = own;
        }
        match StdError::source(last) {
            Some(cause) => format!("{}: {cause}", last.message),
            None => last.message.clone(),
        }
    }

    /// Finds a Lakeseal error in a chain of causes, as `object_store`, DataFusion and deltalake wrap it.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (i, (key, value)) in self.context.iter().enumerate() {
            write!(f, "{}{key}: {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.context.is_empty() {
            f.write_str(")")?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, "the operating system reported an error").caused_by(error)
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        // A wrapped Lakeseal error keeps its own kind and places.
        let (kind, message) = match &error {
            E::NotFound { path, .. } => (ErrorKind::NotFound, format!("no object at {path}")),
            E::AlreadyExists { path, .. } => (ErrorKind::AlreadyExists, format!("an object already exists at {path}")),
            E::Precondition { path, .. } => (ErrorKind::Precondition, format!("the condition on {path} does not hold")),
            E::NotModified { path, .. } => (ErrorKind::NotModified, format!("{path} was not modified")),
            E::NotSupported { .. } | E::NotImplemented { .. } => (ErrorKind::Unsupported, "the store does not support this".to_owned()),
            E::PermissionDenied { path, .. } | E::Unauthenticated { path, .. } => {
                (ErrorKind::Permission, format!("the store refuses access to {path}"))
            }
            E::Generic { source, .. } if denies_a_key(source.as_ref()) => {
                (ErrorKind::Permission, "the store refuses to delete the object".to_owned())
            }
            E::InvalidPath { .. } => (ErrorKind::InvalidInput, "not a valid object path".to_owned()),
            E::UnknownConfigurationKey { key, .. } => (ErrorKind::Config, format!("unknown store option {key}")),
            _ => match Self::find(&error) {
                Some(inner) => (inner.kind, "the store failed".to_owned()),
                None => (ErrorKind::Unavailable, "the store failed".to_owned()),
            },
        };
        Self::new(kind, message).caused_by(error)
    }
}

/// S3 and Azure answer a request that deletes several keys with a code for each; `object_store` hands that on as text only.
fn denies_a_key(source: &(dyn std::error::Error + 'static)) -> bool {
    let text = source.to_string();
    [("DeleteObjects request failed for key", "(code: AccessDenied)"), ("Bulk delete request failed for key", "(code: 403)")]
        .iter()
        .any(|(begins, ends)| text.starts_with(begins) && text.ends_with(ends))
}

/// The name that `object_store` errors carry for where they come from.
pub(crate) const STORE_NAME: &str = "lakeseal";

impl Error {
    /// This error as `object_store`'s, for `path`. Unavailable and corrupt never become *not found*.
    pub fn into_object_store(self, path: &object_store::path::Path) -> object_store::Error {
        use object_store::Error as E;
        let path = path.to_string();
        match self.kind {
            ErrorKind::NotFound => E::NotFound { path, source: Box::new(self) },
            ErrorKind::AlreadyExists => E::AlreadyExists { path, source: Box::new(self) },
            ErrorKind::Precondition => E::Precondition { path, source: Box::new(self) },
            ErrorKind::NotModified => E::NotModified { path, source: Box::new(self) },
            ErrorKind::Unsupported => E::NotSupported { source: Box::new(self) },
            ErrorKind::Permission => E::PermissionDenied { path, source: Box::new(self) },
            _ => E::Generic { store: STORE_NAME, source: Box::new(self) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &'static str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn what_happened_is_found_behind_what_was_made_of_it() {
        let full = Error::new(ErrorKind::Io, "the disk is full").caused_by(std::io::Error::other("no space left"));
        let wrapped = Error::from(full.into_object_store(&"k".into())).with("region", "a");
        let outer = Error::new(ErrorKind::Unavailable, "too few regions").caused_by(wrapped);
        assert_eq!(outer.innermost(), "the disk is full: no space left");
        assert_eq!(Error::new(ErrorKind::Io, "alone").innermost(), "alone");
    }

    #[test]
    fn a_deletion_that_is_denied_for_its_key_is_a_refusal_and_no_outage() {
        for denied in [
            "DeleteObjects request failed for key a/b: Access Denied. (code: AccessDenied)",
            "Bulk delete request failed for key a/b: This request is not authorized. (code: 403)",
        ] {
            assert_eq!(Error::from(failed(denied)).kind(), ErrorKind::Permission);
        }
        for other in [
            "DeleteObjects request failed for key (code: AccessDenied): Try again (code: SlowDown)",
            "Bulk delete request failed for key a/b: Busy (code: 503)",
            "refused (code: AccessDenied)",
        ] {
            assert_eq!(Error::from(failed(other)).kind(), ErrorKind::Unavailable, "{other}");
        }
    }
}
