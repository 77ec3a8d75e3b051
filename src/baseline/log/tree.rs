//! The Merkle tree of RFC 6962 (section 2.1) over SHA-256, with the verification of RFC 9162 (sections 2.1.3.2 and 2.1.4.2). Pure.
//!
//! A log's tree is this one, and not that of [`crate::digest::merkle`], because other programs verify logs: their tools expect SHA-256 and
//! the order of appending.

use sha2::{Digest as _, Sha256};

/// SHA-256 of a leaf, a node or a tree.
pub type Hash = [u8; 32];

/// A proof for a tree of 2^64 leaves has no more hashes.
pub(super) const PROOF_LIMIT: usize = 64;

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The hash of the tree without leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The hash of the tree over these leaves' hashes. Cost: one hash per leaf.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The path that shows the leaf at `index` in the tree over `leaves`; `None` when there is no such leaf.
pub fn prove_inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut part, mut at, mut path) = (leaves, index, Vec::new());
    while part.len() > 1 {
        let (left, right) = part.split_at_checked(split(part.len()))?;
        if at < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            at -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `path` shows `leaf` at `index` of the tree of `size` leaves with this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size || path.len() > PROOF_LIMIT {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The proof that the tree over `leaves` is an extension of the tree over the first `size` of them; `None` unless 0 < `size` <= their number.
pub fn prove_consistency(leaves: &[Hash], size: usize) -> Option<Vec<Hash>> {
    if size == 0 || size > leaves.len() {
        return None;
    }
    let (mut part, mut at, mut whole, mut path) = (leaves, size, true, Vec::new());
    while at != part.len() {
        let (left, right) = part.split_at_checked(split(part.len()))?;
        if at <= left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            at -= left.len();
            part = right;
            whole = false;
        }
    }
    if !whole {
        path.push(root(part));
    }
    path.reverse();
    Some(path)
}

/// Whether `path` shows that the tree of `second` leaves with the root `second_root` is an extension of the tree of `first` with `first_root`.
pub fn verify_consistency(first: u64, second: u64, path: &[Hash], first_root: &Hash, second_root: &Hash) -> bool {
    if first == 0 || first >= second {
        // The empty tree begins every tree, and a tree itself; neither needs a path.
        let empty = first == 0 && *first_root == empty_root();
        return path.is_empty() && (empty || (first == second && first_root == second_root));
    }
    if path.len() > PROOF_LIMIT {
        return false;
    }
    let (mut node, mut last) = (first - 1, second - 1);
    while node % 2 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut rest = path.iter();
    // Of a first tree that is a whole subtree of the second, the hash is known already.
    let start = if first.is_power_of_two() { Some(first_root) } else { rest.next() };
    let Some(start) = start else { return false };
    let (mut one, mut two) = (*start, *start);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            one = node_hash(sibling, &one);
            two = node_hash(sibling, &two);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            two = node_hash(&two, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && one == *first_root && two == *second_root
}

/// What suffices of a tree to append to it: the roots of its whole subtrees, the largest first. At most 64 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a tree of `size` leaves; `None` when the number of roots is not that of such a tree.
    pub fn new(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (u64::try_from(roots.len()) == Ok(u64::from(size.count_ones()))).then_some(Self { size, roots })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the whole subtrees, the largest first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The root of the whole tree.
    pub fn root(&self) -> Hash {
        let mut from_right = self.roots.iter().rev();
        match from_right.next() {
            None => empty_root(),
            Some(last) => from_right.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962's MTH, word for word.
    fn reference(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest(b"").into(),
            [only] => Sha256::digest([&[0][..], only].concat()).into(),
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                let (left, right) = (reference(&leaves[..k]), reference(&leaves[k..]));
                Sha256::digest([&[1][..], &left, &right].concat()).into()
            }
        }
    }

    /// RFC 6962's PATH, word for word.
    fn reference_path(index: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let mut k = 1;
        while k * 2 < leaves.len() {
            k *= 2;
        }
        let (mut path, last) = if index < k {
            (reference_path(index, &leaves[..k]), reference(&leaves[k..]))
        } else {
            (reference_path(index - k, &leaves[k..]), reference(&leaves[..k]))
        };
        path.push(last);
        path
    }

    /// RFC 6962's SUBPROOF, word for word.
    fn reference_subproof(m: usize, leaves: &[Vec<u8>], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![reference(leaves)] };
        }
        let mut k = 1;
        while k * 2 < leaves.len() {
            k *= 2;
        }
        let (mut path, last) = if m <= k {
            (reference_subproof(m, &leaves[..k], whole), reference(&leaves[k..]))
        } else {
            (reference_subproof(m - k, &leaves[k..], false), reference(&leaves[..k]))
        };
        path.push(last);
        path
    }

    fn leaves(count: usize) -> (Vec<Vec<u8>>, Vec<Hash>) {
        let leaves: Vec<Vec<u8>> = (0..count).map(|i| format!("leaf {i}").into_bytes()).collect();
        let hashes = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        (leaves, hashes)
    }

    #[test]
    fn the_vectors_of_certificate_transparency() {
        // The leaves and roots that the implementations of RFC 6962 test themselves with.
        let inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let hashes: Vec<Hash> = inputs.iter().map(|input| leaf_hash(&hex::decode(input).unwrap())).collect();
        for (i, expected) in roots.iter().enumerate() {
            assert_eq!(hex::encode(root(&hashes[..=i])), *expected, "{} leaves", i + 1);
        }
    }

    #[test]
    fn roots_and_proofs_are_those_of_the_definition_at_every_size() {
        for count in 0..40 {
            let (leaves, hashes) = leaves(count);
            assert_eq!(root(&hashes), reference(&leaves), "{count}");
            assert_eq!(prove_inclusion(&hashes, count), None);
            assert_eq!(prove_consistency(&hashes, 0), None);
            assert_eq!(prove_consistency(&hashes, count + 1), None);
            for index in 0..count {
                assert_eq!(prove_inclusion(&hashes, index).unwrap(), reference_path(index, &leaves), "{index} of {count}");
                let expected = reference_subproof(index + 1, &leaves, true);
                assert_eq!(prove_consistency(&hashes, index + 1).unwrap(), expected, "{} to {count}", index + 1);
            }
        }
    }

    #[test]
    fn every_proof_verifies_for_what_it_shows_and_for_nothing_else() {
        for count in 1..34_usize {
            let (_, hashes) = leaves(count);
            let (size, whole) = (count as u64, root(&hashes));
            for index in 0..count {
                let path = prove_inclusion(&hashes, index).unwrap();
                let shows = |leaf: usize, at: u64, size: u64| verify_inclusion(&hashes[leaf], at, size, &path, &whole);
                assert!(shows(index, index as u64, size));
                for other in (0..count).filter(|other| *other != index) {
                    assert!(!shows(other, index as u64, size), "leaf {other} at {index} of {count}");
                    assert!(!shows(index, other as u64, size), "leaf {index} at {other} of {count}");
                }
                assert!(!shows(index, size, size));

                let first = root(&hashes[..=index]);
                let path = prove_consistency(&hashes, index + 1).unwrap();
                assert!(verify_consistency(index as u64 + 1, size, &path, &first, &whole));
                for other in (1..=count).filter(|other| *other != index + 1) {
                    assert!(!verify_consistency(other as u64, size, &path, &first, &whole), "{other} for {}", index + 1);
                    assert!(!verify_consistency(index as u64 + 1, size, &path, &root(&hashes[..other]), &whole));
                }
            }
            assert!(verify_consistency(0, size, &[], &empty_root(), &whole));
            assert!(!verify_consistency(0, size, &[], &whole, &whole));
            assert!(!verify_consistency(size + 1, size, &[], &whole, &whole));
        }
    }

    #[test]
    fn a_frontier_grows_as_the_tree_does() {
        let (_, hashes) = leaves(70);
        let mut frontier = Frontier::default();
        for (i, leaf) in hashes.iter().enumerate() {
            assert_eq!(frontier.root(), root(&hashes[..i]));
            let copy = Frontier::new(frontier.size(), frontier.roots().to_vec()).unwrap();
            assert_eq!(copy, frontier);
            assert_eq!(Frontier::new(frontier.size(), vec![[0; 32]; 65]), None);
            frontier.push(*leaf);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_changed_proof_shows_nothing(count in 2_usize..200, pick in any::<prop::sample::Index>(), step in any::<prop::sample::Index>(), bit in 0_usize..256) {
            let (_, hashes) = leaves(count);
            let (whole, size, index) = (root(&hashes), count as u64, pick.index(count));
            let path = prove_inclusion(&hashes, index).unwrap();
            let consistency = prove_consistency(&hashes, index + 1).unwrap();
            let first = root(&hashes[..=index]);
            let shown = |path: &[Hash]| verify_inclusion(&hashes[index], index as u64, size, path, &whole);
            let consistent = |path: &[Hash]| verify_consistency(index as u64 + 1, size, path, &first, &whole);
            prop_assert!(shown(&path) && consistent(&consistency));
            for (path, verifies) in [(path, &shown as &dyn Fn(&[Hash]) -> bool), (consistency, &consistent)] {
                let longer = [&path[..], &[whole]].concat();
                prop_assert!(!verifies(&longer));
                if path.is_empty() {
                    continue;
                }
                prop_assert!(!verifies(&path[1..]) && !verifies(&path[..path.len() - 1]));
                let mut changed = path.clone();
                changed[step.index(path.len())][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!verifies(&changed));
            }
        }

        #[test]
        fn no_path_makes_a_verifier_fail_otherwise(index in any::<u64>(), size in any::<u64>(), count in 0_usize..80, root in any::<[u8; 32]>()) {
            let path = vec![root; count];
            prop_assert!(!verify_inclusion(&root, index, size, &path, &[0; 32]));
            prop_assert!(!verify_consistency(index, size, &path, &root, &[0; 32]) || (index == size && count == 0));
        }
    }
}
