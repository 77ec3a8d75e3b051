//! Identifiers: fixed-width random bytes with a textual form, and the names of regions.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Fills `N` bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    #[cfg(test)]
    if seeded::fill(&mut bytes) {
        return Ok(bytes);
    }
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Internal, "the operating system gave no random bytes").caused_by(e.to_string()))?;
    Ok(bytes)
}

/// Randomness that a seed decides, so that a simulation can be run again: it belongs to one thread, on which all of the simulation runs.
#[cfg(test)]
pub mod seeded {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Ends the seeding of its thread.
    #[derive(Debug)]
    #[must_use = "the thread is seeded as long as this lives"]
    pub struct Seeded(());

    impl Drop for Seeded {
        fn drop(&mut self) {
            STATE.set(None);
        }
    }

    /// From here on `random_bytes` on this thread follows from `seed`.
    pub fn seed(seed: u64) -> Seeded {
        STATE.set(Some(seed));
        Seeded(())
    }

    /// Whether this thread's randomness follows from a seed.
    pub fn is_seeded() -> bool {
        STATE.get().is_some()
    }

    /// The next number of this thread's generator (splitmix64), if it is seeded.
    pub fn next() -> Option<u64> {
        let state = STATE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(Some(state));
        let mut x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(x ^ (x >> 31))
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        for chunk in bytes.chunks_mut(8) {
            let Some(number) = next() else { return false };
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
        is_seeded()
    }

    #[test]
    fn one_seed_gives_the_same_identifiers_and_its_end_gives_others() {
        let draw = || super::WriteId::random().unwrap();
        let first = {
            let _seeded = seed(7);
            (draw(), draw())
        };
        let seeded = seed(7);
        assert_eq!((draw(), draw()), first);
        assert_ne!(first.0, first.1);
        drop(seeded);
        assert_ne!(draw(), draw());
        assert!(!is_seeded());
    }
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
