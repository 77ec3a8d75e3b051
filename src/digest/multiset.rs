//! A hash of a multiset of byte strings: order does not matter, sums add and subtract.
//!
//! LtHash (Bellare and Micciancio 1997; Lewi, Kim, Maykov and Weis, "Securing Update Propagation with Homomorphic Hashing",
//! 2019) with 512 lanes of 64 bits. Each element is stretched by keyed BLAKE3 to 4096 bytes, read as 512 little-endian
//! integers, and added lane by lane modulo 2^64. Narrower lanes would let 2^16 or 2^32 equal elements vanish.

use std::fmt;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Number of lanes of 64 bits.
pub const LANES: usize = 512;
/// Size of a stored state, in bytes.
pub const STATE_BYTES: usize = LANES * 8;
const DIGEST_TAG: &str = "lakeseal 2026 multiset state v1";

/// The sum of a multiset's elements. Equal sums under one key mean equal multisets, but for a break of BLAKE3.
#[derive(Clone, PartialEq, Eq)]
pub struct MultisetHash {
    lanes: Box<[u64; LANES]>,
}

impl Default for MultisetHash {
    fn default() -> Self {
        Self { lanes: Box::new([0; LANES]) }
    }
}

impl fmt::Debug for MultisetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MultisetHash({})", self.digest())
    }
}

impl MultisetHash {
    /// The sum of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every element of `other`.
    pub fn add(&mut self, other: &Self) {
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes.iter()) {
            *lane = lane.wrapping_add(*more);
        }
    }

    /// Takes away every element of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (lane, less) in self.lanes.iter_mut().zip(other.lanes.iter()) {
            *lane = lane.wrapping_sub(*less);
        }
    }

    /// Adds the element whose keyed hash `hasher` has been fed with.
    fn add_stretched(&mut self, output: &mut blake3::OutputReader) {
        let mut stretched = [0; STATE_BYTES];
        output.fill(&mut stretched);
        let (words, _) = stretched.as_chunks::<8>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
    }

    /// The state as it is stored: 512 little-endian integers.
    pub fn to_bytes(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        for (chunk, lane) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.lanes.iter()) {
            *chunk = lane.to_le_bytes();
        }
        bytes
    }

    /// Reads a stored state.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it has not exactly [`STATE_BYTES`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != STATE_BYTES {
            return Err(Error::new(ErrorKind::Corrupt, "the state of a multiset hash has the wrong size")
                .with("bytes", bytes.len())
                .with("expected", STATE_BYTES));
        }
        let mut state = Self::new();
        for (lane, chunk) in state.lanes.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*chunk);
        }
        Ok(state)
    }

    /// A digest of the state, which reveals nothing of the elements.
    pub fn digest(&self) -> Digest {
        Digest::tagged(DIGEST_TAG, &self.to_bytes())
    }
}

/// Adds elements under one key. Cost per element: 4 KiB of BLAKE3 output.
#[derive(Debug)]
pub struct MultisetHasher {
    hasher: blake3::Hasher,
    sum: MultisetHash,
}

impl MultisetHasher {
    /// A hasher under `key`, which has seen nothing.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { hasher: blake3::Hasher::new_keyed(key), sum: MultisetHash::new() }
    }

    /// Adds one element.
    pub fn add(&mut self, element: &[u8]) {
        self.hasher.reset();
        self.hasher.update(element);
        self.sum.add_stretched(&mut self.hasher.finalize_xof());
    }

    /// The sum of all that was added.
    pub fn finish(self) -> MultisetHash {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn sum<T: AsRef<[u8]>>(elements: &[T]) -> MultisetHash {
        let mut hasher = MultisetHasher::new(&KEY);
        elements.iter().for_each(|element| hasher.add(element.as_ref()));
        hasher.finish()
    }

    /// Slow and obvious: whole big-integer-like lanes, a fresh hash per element.
    fn reference(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut lanes = vec![0_u128; LANES];
        for element in elements {
            let mut bytes = vec![0; STATE_BYTES];
            blake3::Hasher::new_keyed(&KEY).update(element).finalize_xof().fill(&mut bytes);
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = (*lane + u128::from(u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap()))) % (1 << 64);
            }
        }
        lanes.iter().flat_map(|lane| u64::try_from(*lane).unwrap().to_le_bytes()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_agrees_with_the_reference_in_any_order(mut elements in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12)) {
            let forward = sum(&elements);
            prop_assert_eq!(forward.to_bytes().to_vec(), reference(&elements));
            elements.reverse();
            prop_assert_eq!(sum(&elements), forward);
        }

        #[test]
        fn sums_add_and_subtract(a in proptest::collection::vec(any::<[u8; 4]>(), 0..6), b in proptest::collection::vec(any::<[u8; 4]>(), 0..6)) {
            let mut both = sum(&a);
            both.add(&sum(&b));
            prop_assert_eq!(&both, &sum(&[a.clone(), b.clone()].concat()));
            both.subtract(&sum(&b));
            prop_assert_eq!(both, sum(&a));
        }
    }

    #[test]
    fn equal_elements_do_not_vanish() {
        let one = sum(&[b"x"]);
        let mut many = MultisetHash::new();
        let mut power = one.clone();
        // 2^32 equal elements by doubling: lanes of 32 bits would be zero now.
        for _ in 0..32 {
            let twice = power.clone();
            power.add(&twice);
        }
        many.add(&power);
        assert_ne!(many, MultisetHash::new());
        assert_ne!(sum(&[b"x", b"x"]), sum::<&[u8]>(&[]));
    }

    #[test]
    fn the_key_matters_and_a_state_reads_back() {
        let state = sum(&[b"row"]);
        let mut other = MultisetHasher::new(&[8; 32]);
        other.add(b"row");
        assert_ne!(other.finish(), state);
        assert_eq!(MultisetHash::from_bytes(&state.to_bytes()).unwrap(), state);
        assert!(MultisetHash::from_bytes(&state.to_bytes()[1..]).is_err());
    }
}
