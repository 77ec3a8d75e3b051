//! Whom a read asks first: the data shards themselves, or other shards where a region is dear, slow or failing.

use std::collections::BTreeSet;
use std::ops::Range;

use super::held::{Wanted, clip, whole_blocks};
use super::read::Segment;
use crate::region::Health;

/// What to ask of which shard, in whole blocks.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) asked: Wanted,
    /// Wanted shards that are not asked: they are decoded from those that are.
    pub(super) avoided: BTreeSet<usize>,
}

/// What a plan costs: bytes of failing regions first, then bytes of slow ones, then money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Price {
    failing: u64,
    slow: u64,
    micros: u128,
}

fn sum(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

impl Segment {
    /// The cheapest way to read `wanted`. Where all regions are well and cost the same: the wanted shards themselves.
    pub(super) fn plan(&self, wanted: &Wanted) -> Plan {
        let shape = self.shape();
        let whole = wanted.iter().map(|(shard, ranges)| (*shard, whole_blocks(ranges, shape.shard_len(*shard)))).collect();
        let direct = Plan { asked: whole, avoided: BTreeSet::new() };
        let mut dearest: Vec<usize> = wanted.keys().copied().collect();
        dearest.sort_by_key(|shard| std::cmp::Reverse(self.rank(*shard)));
        let cheapest = (0..shape.shards()).map(|shard| self.rank(shard)).min();
        if dearest.first().map(|shard| self.rank(*shard)) <= cheapest {
            return direct;
        }
        let least = self.price(&direct);
        let (mut best, mut price) = (direct.clone(), least);
        for count in 1..=dearest.len().min(shape.parity) {
            let avoided = dearest.iter().take(count).copied().collect();
            let Some(plan) = self.around(&direct.asked, avoided) else { break };
            let found = self.price(&plan);
            if found < price {
                (best, price) = (plan, found);
            }
        }
        let (asked, extra) = (self.bytes(&direct), self.bytes(&best).saturating_sub(self.bytes(&direct)));
        // A slow region would answer: bytes that are read to go around it are hedges, and have a limit. Parity is a little longer than a
        // last data shard: that is not counted.
        if extra > asked / 16 && price.failing == least.failing && price.slow < least.slow && !self.hedging().spend(extra) {
            return direct;
        }
        self.hedging().avoided(best.avoided.len());
        best
    }

    /// How much a shard is to be avoided. A shard whose region is not known comes last.
    pub(super) fn rank(&self, shard: usize) -> (Health, u64) {
        self.region(shard).map_or((Health::Failing, u64::MAX), |region| (region.health(), region.cost_micros_per_gib()))
    }

    /// Asks for the columns of the avoided shards in as many others as decoding takes, the cheapest ones.
    fn around(&self, direct: &Wanted, avoided: BTreeSet<usize>) -> Option<Plan> {
        let shape = self.shape();
        let ranges = || avoided.iter().filter_map(|shard| direct.get(shard)).flatten();
        let columns = ranges().map(|range| range.start).min()?..ranges().map(|range| range.end).max()?;
        let mut asked: Wanted = direct.iter().filter(|(shard, _)| !avoided.contains(shard)).map(|(s, r)| (*s, r.clone())).collect();
        let mut lacking = shape.data;
        let mut helpers = Vec::new();
        for shard in (0..shape.shards()).filter(|shard| !avoided.contains(shard)) {
            let len = shape.shard_len(shard);
            let part = clip(&columns, len);
            if shard < shape.data && part.is_empty() {
                // A data shard that ends before these columns is padding there, and known.
                lacking = lacking.saturating_sub(1);
                continue;
            }
            let own = asked.get(&shard).cloned().unwrap_or_default();
            let joined = whole_blocks(&own.iter().cloned().chain([part]).collect::<Vec<_>>(), len);
            let extra = sum(&joined).saturating_sub(sum(&own));
            let (health, cost) = self.rank(shard);
            helpers.push(((health, u128::from(cost) * u128::from(extra), extra, shard), joined));
        }
        helpers.sort_by_key(|(rank, _)| *rank);
        if helpers.len() < lacking {
            return None;
        }
        for ((.., shard), ranges) in helpers.into_iter().take(lacking) {
            asked.insert(shard, ranges);
        }
        Some(Plan { asked, avoided })
    }

    fn bytes(&self, plan: &Plan) -> u64 {
        plan.asked.values().map(|ranges| sum(ranges)).sum()
    }

    fn price(&self, plan: &Plan) -> Price {
        let mut price = Price { failing: 0, slow: 0, micros: 0 };
        for (shard, ranges) in &plan.asked {
            let (health, cost) = self.rank(*shard);
            let bytes = sum(ranges);
            match health {
                Health::Failing => price.failing += bytes,
                Health::Slow => price.slow += bytes,
                Health::Well => {}
            }
            price.micros += u128::from(cost) * u128::from(bytes);
        }
        price
    }
}
