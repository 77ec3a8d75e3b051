//! A Merkle tree over a sorted set of leaves: inclusion proofs, and absence by two neighbours.
//!
//! The shape is that of RFC 6962 (section 2.1): the left subtree holds the largest power of two of leaves that leaves at least
//! one to the right. Leaves and nodes are hashed under tags of their own, and the root under a third together with the number
//! of leaves, so that neither can be taken for the other and a tree of another size is another tree.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

const LEAF_TAG: &str = "lakeseal 2026 merkle leaf v1";
const NODE_TAG: &str = "lakeseal 2026 merkle node v1";
const ROOT_TAG: &str = "lakeseal 2026 merkle root v1";
/// A proof for a tree of 2^64 leaves has no more steps.
const STEPS_LIMIT: usize = 64;

/// A tree over leaves that are sorted by their bytes and distinct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    /// `levels[0]` are the leaves' hashes; each further level the nodes above, a last odd one being carried up.
    levels: Vec<Vec<Digest>>,
}

/// Shows that one leaf is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The leaf's position in the sorted order.
    pub index: u64,
    /// Number of leaves of the tree.
    pub leaves: u64,
    /// Hashes of the siblings on the way up, the lowest first.
    pub siblings: Vec<Digest>,
}

impl MerkleTree {
    /// The tree over `leaves`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the leaves are not strictly ascending: then absence could not be shown.
    pub fn new<T: AsRef<[u8]>>(leaves: &[T]) -> Result<Self> {
        let sorted = leaves.iter().zip(leaves.iter().skip(1)).all(|(a, b)| a.as_ref() < b.as_ref());
        if !sorted {
            return Err(Error::new(ErrorKind::InvalidInput, "the leaves of a Merkle tree are not strictly ascending"));
        }
        let mut levels = vec![leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                [only] => Some(*only),
                _ => None,
            });
            let above = above.collect();
            levels.push(above);
        }
        Ok(Self { levels })
    }

    /// Number of leaves.
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Whether there are no leaves.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The root, which binds the number of leaves.
    pub fn root(&self) -> Digest {
        root_hash(self.len() as u64, self.levels.last().and_then(|top| top.first()))
    }

    /// The proof for the leaf at `index`; `None` when there is no such leaf.
    pub fn prove(&self, index: usize) -> Option<InclusionProof> {
        if index >= self.len() {
            return None;
        }
        let mut at = index;
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(at ^ 1).filter(|_| level.len() > 1));
            at /= 2;
        }
        Some(InclusionProof { index: index as u64, leaves: self.len() as u64, siblings })
    }
}

impl InclusionProof {
    /// Whether `leaf` stands at [`Self::index`] of the tree with this `root`.
    pub fn verifies(&self, leaf: &[u8], root: &Digest) -> bool {
        self.top(leaf).is_some_and(|top| root_hash(self.leaves, Some(&top)) == *root)
    }

    fn top(&self, leaf: &[u8]) -> Option<Digest> {
        if self.index >= self.leaves || self.siblings.len() > STEPS_LIMIT {
            return None;
        }
        let (mut at, mut width) = (self.index, self.leaves);
        let mut hash = leaf_hash(leaf);
        let mut siblings = self.siblings.iter();
        while width > 1 {
            // The last node of an odd level has no sibling and is carried up.
            if at ^ 1 < width {
                let sibling = siblings.next()?;
                hash = if at % 2 == 0 { node_hash(&hash, sibling) } else { node_hash(sibling, &hash) };
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        siblings.next().is_none().then_some(hash)
    }
}

fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::tagged(LEAF_TAG, leaf)
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::tagged(NODE_TAG, [left.0, right.0].as_flattened())
}

fn root_hash(leaves: u64, top: Option<&Digest>) -> Digest {
    let mut bytes = leaves.to_le_bytes().to_vec();
    bytes.extend(top.iter().flat_map(|top| top.0));
    Digest::tagged(ROOT_TAG, &bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: u32) -> Vec<[u8; 4]> {
        (0..count).map(u32::to_be_bytes).collect()
    }

    /// RFC 6962's definition, word for word.
    fn reference(leaves: &[[u8; 4]]) -> Digest {
        match leaves {
            [only] => leaf_hash(only),
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&reference(&leaves[..k]), &reference(&leaves[k..]))
            }
        }
    }

    #[test]
    fn it_agrees_with_the_definition_at_every_size() {
        for count in 1..70 {
            let leaves = leaves(count);
            assert_eq!(MerkleTree::new(&leaves).unwrap().root(), root_hash(count.into(), Some(&reference(&leaves))), "{count} leaves");
        }
        assert_eq!(MerkleTree::new::<[u8; 4]>(&[]).unwrap().root(), root_hash(0, None));
    }

    #[test]
    fn every_leaf_is_proved_and_nothing_else() {
        for count in 1..40 {
            let leaves = leaves(count);
            let tree = MerkleTree::new(&leaves).unwrap();
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = tree.prove(index).unwrap();
                assert!(proof.verifies(leaf, &tree.root()));
                assert!(!proof.verifies(b"else", &tree.root()));
                let elsewhere = InclusionProof { index: proof.index + 1, ..proof.clone() };
                assert!(!elsewhere.verifies(leaf, &tree.root()), "{count} leaves, {index}");
            }
            assert_eq!(tree.prove(leaves.len()), None);
        }
    }

    #[test]
    fn unsorted_or_repeated_leaves_are_refused() {
        assert!(MerkleTree::new(&[b"b", b"a"]).is_err());
        assert!(MerkleTree::new(&[b"a", b"a"]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_changed_proof_does_not_verify(count in 1_u32..200, pick in any::<prop::sample::Index>(), bit in 0_usize..256, step in any::<prop::sample::Index>()) {
            let leaves = leaves(count);
            let tree = MerkleTree::new(&leaves).unwrap();
            let index = pick.index(leaves.len());
            let proof = tree.prove(index).unwrap();
            prop_assert!(proof.verifies(&leaves[index], &tree.root()));
            let mut shorter = proof.clone();
            if shorter.siblings.pop().is_some() {
                prop_assert!(!shorter.verifies(&leaves[index], &tree.root()));
                let mut changed = proof.clone();
                let at = step.index(changed.siblings.len());
                changed.siblings[at].0[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!changed.verifies(&leaves[index], &tree.root()));
            }
            let mut longer = proof.clone();
            longer.siblings.push(tree.root());
            prop_assert!(!longer.verifies(&leaves[index], &tree.root()));
            let larger = InclusionProof { leaves: proof.leaves + 1, ..proof };
            prop_assert!(!larger.verifies(&leaves[index], &tree.root()));
        }
    }
}
