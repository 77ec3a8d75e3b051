//! Block lists: the chaining values of a byte string's 64 KiB blocks.
//!
//! A block list is the level of BLAKE3's own hash tree at which a node covers 64 KiB, so that its root *is* plain BLAKE3
//! of the whole string (Aumasson et al., BLAKE3, section 2.1 and 5). Once the list is checked against the root, each
//! block can be verified alone, in any order. A list takes 32 bytes per block: 0.05% of the string.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// The unit of verification, in bytes.
pub const BLOCK_BYTES: usize = 64 * 1024;
const BLOCK_BYTES_U64: u64 = BLOCK_BYTES as u64;

/// Number of blocks of a string of `len` bytes; an empty string has one empty block.
pub fn block_count(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES_U64).max(1)
}

/// The chaining values of all blocks of a string, and its length.
///
/// A string of at most one block is its own root: its list is that root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockList {
    len: u64,
    values: Vec<ChainingValue>,
}

impl BlockList {
    /// The list of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = BlockHasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Reads a stored list for a string of `len` bytes whose digest is known to be `root`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the list has the wrong size or another root.
    pub fn from_bytes(bytes: &[u8], len: u64, root: Digest) -> Result<Self> {
        let count = block_count(len);
        if u64::try_from(bytes.len()).ok() != count.checked_mul(32) {
            return Err(Error::new(ErrorKind::Corrupt, "a block list has the wrong size").with("blocks", count).with("bytes", bytes.len()));
        }
        let (chunks, _) = bytes.as_chunks::<32>();
        let list = Self { len, values: chunks.to_vec() };
        if list.root() == root {
            return Ok(list);
        }
        Err(Error::new(ErrorKind::Corrupt, "a block list does not belong to its digest").with("expected", root).with("found", list.root()))
    }

    /// The list as it is stored: 32 bytes per block, in order.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.values.concat()
    }

    /// Length in bytes of the string.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the string is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of blocks.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Plain BLAKE3 of the whole string.
    pub fn root(&self) -> Digest {
        match self.values.as_slice() {
            [only] => Digest(*only),
            values => {
                let (left, right) = values.split_at(left_count(values.len()));
                Digest(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
            }
        }
    }

    /// The byte range of block `index`.
    pub fn range(&self, index: usize) -> std::ops::Range<u64> {
        let start = (index as u64).saturating_mul(BLOCK_BYTES_U64).min(self.len);
        start..start.saturating_add(BLOCK_BYTES_U64).min(self.len)
    }

    /// Whether `bytes` are block `index` of the string, in full.
    pub fn verify_block(&self, index: usize, bytes: &[u8]) -> bool {
        let Some(expected) = self.values.get(index) else { return false };
        let range = self.range(index);
        if u64::try_from(bytes.len()).ok() != Some(range.end - range.start) {
            return false;
        }
        let found = if self.values.len() == 1 { *blake3::hash(bytes).as_bytes() } else { block_value(index as u64, bytes) };
        // Digests of stored data are no secret: a plain comparison will do.
        found == *expected
    }

    /// The blocks in which two strings of one length differ.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let same_length = self.len == other.len;
        (0..self.values.len()).filter(move |at| !same_length || self.values.get(*at) != other.values.get(*at))
    }

    /// Verifies `bytes`, which begin at block `first` and cover whole blocks, and names the first block that differs.
    pub fn first_bad_block(&self, first: usize, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() {
            return (self.len != 0).then_some(first);
        }
        bytes
            .chunks(BLOCK_BYTES)
            .enumerate()
            .map(|(i, block)| (first + i, block))
            .find(|(i, block)| !self.verify_block(*i, block))
            .map(|(i, _)| i)
    }
}

/// Builds a [`BlockList`] from bytes as they pass. Holds at most one block's hasher state, not its bytes.
#[derive(Debug)]
pub struct BlockHasher {
    len: u64,
    values: Vec<ChainingValue>,
    current: blake3::Hasher,
    filled: usize,
    // Root and non-root finalisation differ, so the first block stays open until a second one begins.
}

impl Default for BlockHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self { len: 0, values: Vec::new(), current: blake3::Hasher::new(), filled: 0 }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == BLOCK_BYTES {
                self.close_block();
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.filled));
            self.current.update(now);
            self.filled += now.len();
            self.len += now.len() as u64;
            bytes = later;
        }
    }

    fn close_block(&mut self) {
        self.values.push(self.current.finalize_non_root());
        self.filled = 0;
        self.current = blake3::Hasher::new();
        self.current.set_input_offset(self.values.len() as u64 * BLOCK_BYTES_U64);
    }

    /// The list of all that was added.
    pub fn finish(mut self) -> BlockList {
        let last = if self.values.is_empty() { *self.current.finalize().as_bytes() } else { self.current.finalize_non_root() };
        self.values.push(last);
        BlockList { len: self.len, values: self.values }
    }
}

/// The value of block `index` of a string of several blocks; they can be hashed in any order, and joined by a [`BlockJoiner`].
pub fn block_value(index: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * BLOCK_BYTES_U64);
    hasher.update(bytes).finalize_non_root()
}

/// Joins the values of a string's blocks, hashed apart, to plain BLAKE3 of the whole string. Holds a logarithm of them.
///
/// The reference for the order of joining is the one of BLAKE3 itself, section 5.1.2: a subtree is joined once it is known not to be the
/// right end of the tree.
#[derive(Debug, Clone, Default)]
pub struct BlockJoiner {
    last: Option<ChainingValue>,
    /// Blocks in `stack`.
    joined: u64,
    /// Complete subtrees, largest first.
    stack: Vec<ChainingValue>,
}

impl BlockJoiner {
    /// Adds the next block's value: its [`block_value`]; of a string of one block only, its digest.
    pub fn push(&mut self, value: ChainingValue) {
        let Some(mut left) = self.last.replace(value) else { return };
        self.joined += 1;
        for _ in 0..self.joined.trailing_zeros() {
            if let Some(before) = self.stack.pop() {
                left = merge_subtrees_non_root(&before, &left, Mode::Hash);
            }
        }
        self.stack.push(left);
    }

    /// The digest of the whole; of an empty string when there was no block.
    pub fn finish(mut self) -> Digest {
        let Some(mut right) = self.last else { return Digest::of(&[]) };
        let Some(root_left) = (!self.stack.is_empty()).then(|| self.stack.remove(0)) else { return Digest(right) };
        while let Some(left) = self.stack.pop() {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        Digest(*merge_subtrees_root(&root_left, &right, Mode::Hash).as_bytes())
    }
}

/// BLAKE3 puts the largest power of two of blocks that leaves at least one for the right into the left subtree.
fn left_count(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn subtree(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [only] => *only,
        _ => {
            let (left, right) = values.split_at(left_count(values.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    /// Every size at which the tree changes its shape, one less and one more.
    fn sizes() -> Vec<usize> {
        let mut sizes = vec![0, 1, 1023, 1024, 1025];
        for blocks in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17] {
            sizes.extend([blocks * BLOCK_BYTES - 1, blocks * BLOCK_BYTES, blocks * BLOCK_BYTES + 1]);
        }
        sizes
    }

    #[test]
    fn the_root_is_plain_blake3_at_every_boundary() {
        for len in sizes() {
            let bytes = sample(len);
            assert_eq!(BlockList::of(&bytes).root(), Digest::of(&bytes), "length {len}");
        }
    }

    #[test]
    fn feeding_in_pieces_changes_nothing() {
        let bytes = sample(3 * BLOCK_BYTES + 17);
        for step in [1000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES] {
            let mut hasher = BlockHasher::new();
            bytes.chunks(step).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), BlockList::of(&bytes), "step {step}");
        }
    }

    #[test]
    fn blocks_hashed_apart_are_joined_to_plain_blake3_at_every_boundary() {
        for len in sizes().into_iter().chain([100 * BLOCK_BYTES, 127 * BLOCK_BYTES + 5, 128 * BLOCK_BYTES, 129 * BLOCK_BYTES]) {
            let bytes = sample(len);
            let mut joiner = BlockJoiner::default();
            for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                joiner.push(if len <= BLOCK_BYTES { Digest::of(block).0 } else { block_value(index as u64, block) });
            }
            assert!(joiner.stack.len() <= 8, "length {len}");
            assert_eq!(joiner.finish(), Digest::of(&bytes), "length {len}");
        }
    }

    #[test]
    fn every_block_verifies_alone_and_a_changed_byte_is_placed() {
        for len in sizes() {
            let mut bytes = sample(len);
            let list = BlockList::of(&bytes);
            assert_eq!(list.first_bad_block(0, &bytes), None, "length {len}");
            if len > 0 {
                let at = len / 2;
                bytes[at] ^= 1;
                assert_eq!(list.first_bad_block(0, &bytes), Some(at / BLOCK_BYTES), "length {len}");
            }
        }
    }

    #[test]
    fn a_truncated_or_extended_block_does_not_verify() {
        let bytes = sample(BLOCK_BYTES + 10);
        let list = BlockList::of(&bytes);
        assert!(!list.verify_block(1, &bytes[BLOCK_BYTES..BLOCK_BYTES + 9]));
        assert!(!list.verify_block(0, &bytes[..BLOCK_BYTES + 1]));
        assert!(!list.verify_block(2, &[]));
        assert_eq!(list.first_bad_block(0, &[]), Some(0));
    }

    #[test]
    fn a_stored_list_is_refused_when_anything_about_it_is_wrong() {
        let bytes = sample(3 * BLOCK_BYTES);
        let list = BlockList::of(&bytes);
        let stored = list.to_bytes();
        assert_eq!(BlockList::from_bytes(&stored, list.len(), list.root()).unwrap(), list);
        assert!(BlockList::from_bytes(&stored[32..], list.len(), list.root()).is_err());
        assert!(BlockList::from_bytes(&stored, list.len() + 1, list.root()).is_err());
        assert!(BlockList::from_bytes(&stored, list.len(), Digest([0; 32])).is_err());
        let mut damaged = stored;
        damaged[40] ^= 1;
        assert!(BlockList::from_bytes(&damaged, list.len(), list.root()).is_err());
    }
}
