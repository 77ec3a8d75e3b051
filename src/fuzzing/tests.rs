//! Bytes that were changed: no decoder panics, takes memory that they do not account for, or takes them for what they were.

use std::process::Command;

use super::*;
use crate::format::entry::Ballot;
use crate::format::manifest::Content;
use crate::id::{IncarnationId, ProposerId};
use crate::lake::{ProfileConfig, RegionPlace, RegionState};

/// Changes of each seed that are tried; `LAKESEAL_MUTATIONS` says otherwise.
const MUTATIONS: u64 = 400;
/// Address space of the process that tries them, in KiB.
const MEMORY_KIB: u64 = 8 << 20;

/// Honest bytes for a decoder of the store. Those of tables have their own.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let hexadecimal = |name: &str| {
        let text = std::fs::read_to_string(format!("{}/docs/format/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"))).unwrap();
        hex::decode(text.split_whitespace().collect::<String>()).unwrap()
    };
    let manifest = || ObjectManifest::decode(&hexadecimal("manifest-sharded").into()).unwrap();
    match name {
        "manifest" => ["manifest-inline", "manifest-sharded", "manifest-tombstone"].map(hexadecimal).to_vec(),
        "register_entry" => {
            let value = manifest().encode().unwrap();
            let ballot = Ballot { round: 5, proposer: ProposerId([6; 8]) };
            let vote = EntryBody::Accept(Ballot::FAST, value.clone().into());
            [vote, EntryBody::Stub(Digest::of(&value)), EntryBody::Promise(ballot), EntryBody::Undecided(ballot)]
                .iter()
                .map(|body| body.seal(&PLACE, &key()).unwrap())
                .collect()
        }
        "shard_trailer" => {
            let trailer = Trailer { lake: LAKE, configuration: 1, write_id: WRITE, slot: 3, path: "t/a".into() };
            vec![trailer.seal(&key()).unwrap().to_vec()]
        }
        "binding" => [Binding::Abort, Binding::Bind { path: "t/a".into(), slot: 9 }]
            .iter()
            .map(|binding| binding.encode(LAKE, WRITE, 4).unwrap().to_vec())
            .collect(),
        "lake_record" => vec![lake_record_sample().seal(&key()).unwrap()],
        "region_record" => {
            let record = RegionRecord { lake: LAKE, name: "eu".parse().unwrap(), incarnation: IncarnationId([4; 16]), created_ms: 5 };
            vec![record.seal(&key()).unwrap()]
        }
        "block_list" => vec![BlockList::of(&BLOCKS_OF).to_bytes()],
        "multiset" => {
            assert!(matches!(manifest().content, Content::Shards(_)));
            vec![MultisetHash::new().to_bytes().to_vec()]
        }
        #[cfg(feature = "tables")]
        _ => crate::baseline::fuzzing_seeds(name),
        #[cfg(not(feature = "tables"))]
        _ => Vec::new(),
    }
}

fn lake_record_sample() -> LakeRecord {
    let place = |name: &str, state| RegionPlace {
        name: name.parse().unwrap(),
        incarnation: IncarnationId([4; 16]),
        since: 0,
        state,
        added: 0,
        left: 0,
    };
    LakeRecord {
        lake: LAKE,
        number: 2,
        created_ms: 1_700_000_000_000,
        name: "lake".into(),
        profile: ProfileConfig::new(2, 1),
        writes_paused: false,
        regions: vec![place("a", RegionState::Voting), place("b", RegionState::Replacing), place("c", RegionState::Voting)],
        writers: public().to_vec(),
        collectors: public().to_vec(),
    }
}

/// A generator that a number decides (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

/// One to three changes: bits, bytes, sizes that lie, pieces taken out, doubled or moved.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x7f, 0x80, b'9', b'"', b'{', b'\n'][random.below(8)],
            2 => {
                // A length, in either width and order, that claims far more than is there.
                let claim = [u64::MAX, u64::from(u32::MAX), 1 << 31, 1 << 40, i64::MAX as u64][random.below(5)].to_le_bytes();
                let width = [4, 8][random.below(2)];
                (at..bytes.len()).zip(claim.into_iter().take(width)).for_each(|(i, byte)| bytes[i] = byte);
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => bytes.insert(at, random.next().to_le_bytes()[0]),
        }
    }
    bytes
}

#[test]
fn every_decoder_has_honest_bytes_that_it_accepts() {
    let mut names = std::collections::BTreeSet::new();
    for decoder in decoders() {
        assert!(names.insert(decoder.name), "{} twice", decoder.name);
        let seeds = seeds(decoder.name);
        assert!(!seeds.is_empty(), "{}", decoder.name);
        let accepted = seeds.iter().filter(|seed| (decoder.decode)(seed).is_some()).count();
        // Row groups without their files, read to the end, are refused: these seeds are there to be changed.
        let expected = if decoder.name == "evidence_row_groups" { 0 } else { seeds.len() };
        assert_eq!(accepted, expected, "{}", decoder.name);
    }
}

/// Run by the next test, in a process of its own whose memory is limited.
#[test]
#[ignore = "run by the test below"]
fn mutations() {
    let count = std::env::var("LAKESEAL_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    let only = std::env::var("LAKESEAL_DECODER").ok();
    for decoder in decoders().into_iter().filter(|decoder| only.as_deref().is_none_or(|name| name == decoder.name)) {
        let mut accepted = 0_u64;
        for (which, seed) in seeds(decoder.name).into_iter().enumerate() {
            let meaning = (decoder.decode)(&seed);
            let mut random = Random(which as u64);
            for i in 0..count {
                let changed = mutated(&seed, &mut random);
                let decode = std::panic::AssertUnwindSafe(|| (decoder.decode)(&changed));
                let Ok(decoded) = std::panic::catch_unwind(decode) else {
                    panic!("{}: seed {which}, mutation {i} makes it panic: {}", decoder.name, hex::encode(&changed));
                };
                let Some(decoded) = decoded else { continue };
                accepted += 1;
                let fits = decoded == changed || Some(&decoded) == meaning.as_ref();
                assert!(fits, "{}: seed {which}, mutation {i} is taken for something else: {}", decoder.name, hex::encode(&changed));
            }
        }
        println!("{}: {accepted} accepted", decoder.name);
    }
}

#[test]
fn changed_bytes_neither_break_a_decoder_nor_mislead_it_nor_fill_the_memory() {
    let program = std::env::current_exe().unwrap();
    let run = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--ignored", "--exact", "--nocapture", "fuzzing::tests::mutations"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("1 passed"), "{out}\n{}", err.chars().take(4000).collect::<String>());
}

/// Writes the seeds where `cargo fuzz` looks for them.
#[test]
#[ignore = "writes fuzz/corpus"]
fn corpus() {
    for decoder in decoders() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(decoder.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (i, seed) in seeds(decoder.name).iter().enumerate() {
            std::fs::write(folder.join(i.to_string()), seed).unwrap();
        }
    }
}
