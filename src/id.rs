//! Identifiers: fixed-width random bytes with a textual form, and the names of regions.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Fills `N` bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Internal, "the operating system gave no random bytes").caused_by(e.to_string()))?;
    Ok(bytes)
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// A fresh random identifier.
            pub fn random() -> Result<Self> {
                Ok(Self(random_bytes()?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|e| {
                    Error::new(ErrorKind::InvalidInput, concat!("not a ", stringify!($name), ": ", $len, " bytes in hexadecimal are expected"))
                        .with("text", text)
                        .caused_by(e)
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

random_id!(
    /// The identity of a lake, made when it is initialised.
    LakeId, 16
);
random_id!(
    /// One incarnation of one region: a region that was wiped and made again has another.
    IncarnationId, 16
);
random_id!(
    /// One attempt to write one version of an object. It names the shards and is the object's `e_tag`.
    WriteId, 16
);
random_id!(
    /// One attempt of one proposer; the second half of a ballot.
    ProposerId, 8
);

/// The name of a region: 1 to 32 of `a-z`, `0-9`, `-`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(String);

impl RegionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegionName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.len() <= 32
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorKind::Config, "a region's name is 1 to 32 lower-case letters, digits and '-', beginning with a letter")
            .with("name", text))
    }
}
