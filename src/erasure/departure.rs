//! Where the shards of a region that has left are now.
//!
//! A manifest names the regions of its shards for ever. When a region leaves, each shard that it held goes to one of the regions that stay and hold no other
//! shard of that version. Which one is computed, from the manifest and the order in which regions left: nothing is written down, and
//! everybody computes the same.

/// A region that has left, or is leaving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// The region's index.
    pub region: u8,
    /// The indexes of the regions that stayed, ascending: those that can have its shards.
    pub heirs: Vec<u8>,
}

impl Departure {
    /// Puts an heir in the region's place, if it has one in `placement`. `seed` (the first bytes of a write id) spreads them.
    ///
    /// There is an heir whenever at least as many regions stayed as a version has shards; else the place stays as it is.
    pub fn apply(&self, placement: &mut [u8], seed: [u8; 2]) {
        let free: Vec<u8> = self.heirs.iter().copied().filter(|heir| !placement.contains(heir)).collect();
        let Some(place) = placement.iter_mut().find(|place| **place == self.region) else { return };
        let chosen = usize::from(u16::from_le_bytes(seed)).checked_rem(free.len());
        if let Some(heir) = chosen.and_then(|chosen| free.get(chosen)) {
            *place = *heir;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_one_heir_that_holds_no_other() {
        let departure = Departure { region: 2, heirs: vec![0, 1, 3, 4, 5] };
        let mut taken = [0; 6];
        for seed in 0..=u16::MAX {
            let mut placement = [4, 2, 0];
            departure.apply(&mut placement, seed.to_le_bytes());
            assert!(placement[0] == 4 && placement[2] == 0 && ![0, 2, 4].contains(&placement[1]), "{placement:?}");
            taken[usize::from(placement[1])] += 1;
        }
        assert!([1, 3, 5].iter().all(|heir| taken[*heir] > 21_000), "shards are spread: {taken:?}");
        let mut elsewhere = [0, 1, 3];
        departure.apply(&mut elsewhere, [7, 7]);
        assert_eq!(elsewhere, [0, 1, 3]);
        let mut nowhere = [2, 0, 1, 3, 4, 5];
        departure.apply(&mut nowhere, [7, 7]);
        assert_eq!(nowhere, [2, 0, 1, 3, 4, 5], "no region stayed that holds no other shard");
    }

    #[test]
    fn an_heir_that_leaves_has_an_heir_itself() {
        let first = Departure { region: 0, heirs: vec![1, 2, 3] };
        let second = Departure { region: 3, heirs: vec![1, 2, 4] };
        let mut placement = [0, 1, 2];
        first.apply(&mut placement, [9, 0]);
        assert_eq!(placement, [3, 1, 2]);
        second.apply(&mut placement, [9, 0]);
        assert_eq!(placement, [4, 1, 2]);
    }
}
