use super::*;

fn key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

const PLACE: EntryPlace<'static> =
    EntryPlace { lake: LakeId([1; 16]), configuration: 3, region: 2, path: "t/_delta_log/0.json", slot: 9, seq: 4 };

fn ballot() -> Ballot {
    Ballot { round: 5, proposer: ProposerId([6; 8]) }
}

fn keys(all: &[PublicKey]) -> EntryKeys<'_> {
    EntryKeys { writers: all, collectors: all }
}

#[test]
fn every_kind_reads_back() {
    let vote = EntryBody::Accept(ballot(), Bytes::from_static(b"manifest"));
    for body in [EntryBody::Promise(ballot()), vote, EntryBody::Undecided(ballot())] {
        let bytes = Bytes::from(body.seal(&PLACE, &key()).unwrap());
        assert_eq!(EntryBody::open(&bytes, &PLACE, keys(&[key().public()])).unwrap(), body);
    }
    let first = EntryPlace { seq: 0, ..PLACE };
    for body in [EntryBody::Accept(Ballot::FAST, Bytes::from_static(b"manifest")), EntryBody::Stub(Digest::of(b"manifest"))] {
        let bytes = Bytes::from(body.seal(&first, &key()).unwrap());
        assert_eq!(EntryBody::open(&bytes, &first, keys(&[key().public()])).unwrap(), body);
    }
}

#[test]
fn any_changed_bit_and_any_cut_is_refused() {
    let bytes = EntryBody::Accept(ballot(), Bytes::from_static(b"value")).seal(&PLACE, &key()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(EntryBody::open(&changed.into(), &PLACE, keys(&[key().public()])).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(EntryBody::open(&Bytes::copy_from_slice(&bytes[..len]), &PLACE, keys(&[key().public()])).is_err(), "cut at {len}");
    }
}

#[test]
fn an_entry_is_authentic_only_where_it_was_made() {
    let bytes = Bytes::from(EntryBody::Promise(ballot()).seal(&PLACE, &key()).unwrap());
    let elsewhere = [
        EntryPlace { lake: LakeId([2; 16]), ..PLACE },
        EntryPlace { configuration: 4, ..PLACE },
        EntryPlace { region: 1, ..PLACE },
        EntryPlace { path: "t/_delta_log/1.json", ..PLACE },
        EntryPlace { slot: 8, ..PLACE },
        EntryPlace { seq: 3, ..PLACE },
    ];
    for place in elsewhere {
        assert_eq!(EntryBody::open(&bytes, &place, keys(&[key().public()])).unwrap_err().kind(), ErrorKind::Unauthentic, "{place:?}");
    }
    let other = PrivateKey::from_seed(&[8; 32]).public();
    assert_eq!(EntryBody::open(&bytes, &PLACE, keys(&[other])).unwrap_err().kind(), ErrorKind::Unauthentic);
}

#[test]
fn kinds_and_ballots_that_do_not_fit_are_corrupt() {
    let shared = Ballot { round: 0, proposer: ProposerId([1; 8]) };
    for body in [
        EntryBody::Promise(Ballot::FAST),
        EntryBody::Accept(shared, Bytes::new()),
        // A stub that was not made for entry 0.
        EntryBody::Stub(Digest::of(b"")),
    ] {
        let bytes = Bytes::from(body.seal(&PLACE, &key()).unwrap());
        assert_eq!(EntryBody::open(&bytes, &PLACE, keys(&[key().public()])).unwrap_err().kind(), ErrorKind::Corrupt, "{body:?}");
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = EntryBody::Accept(ballot(), Bytes::from_static(b"value")).seal(&PLACE, &key()).unwrap();
    let path = PLACE.path.as_bytes();
    assert_eq!(&bytes[0..8], b"LKSLREG1");
    assert_eq!(&bytes[8..12], [1, 0, 1, 2], "version, kind, region");
    assert_eq!(&bytes[12..28], [1; 16], "lake");
    assert_eq!(&bytes[28..36], 3_u64.to_le_bytes(), "configuration");
    assert_eq!(&bytes[36..44], 9_u64.to_le_bytes(), "slot");
    assert_eq!(&bytes[44..48], 4_u32.to_le_bytes(), "seq");
    assert_eq!(&bytes[48..56], 5_u64.to_le_bytes(), "round");
    assert_eq!(&bytes[56..64], [6; 8], "proposer");
    assert_eq!(&bytes[64..96], key().public().to_bytes());
    assert_eq!(&bytes[96..100], u32::try_from(path.len()).unwrap().to_le_bytes());
    assert_eq!(&bytes[100..100 + path.len()], path);
    let value = 100 + path.len();
    assert_eq!(&bytes[value..value + 9], b"\x05\0\0\0value");
    assert_eq!(bytes.len(), value + 9 + 64);
    let message = Digest::tagged("lakeseal 2026 register entry v1", &bytes[..value + 9]);
    assert!(key().public().verifies(&message.0, &Signature(bytes[value + 9..].try_into().unwrap())));
}

#[test]
fn stubs_are_signed_by_collectors_and_all_else_by_writers() {
    let place = EntryPlace { seq: 0, ..PLACE };
    let (writer, collector) = (key(), PrivateKey::from_seed(&[9; 32]));
    let (writers, collectors) = ([writer.public()], [collector.public()]);
    let keys = EntryKeys { writers: &writers, collectors: &collectors };
    for body in [EntryBody::Stub(Digest::of(b"x")), EntryBody::Promise(ballot()), EntryBody::Learned(Bytes::from_static(b"x"))] {
        let is_stub = matches!(body, EntryBody::Stub(_));
        for (signer, fits) in [(&writer, !is_stub), (&collector, is_stub)] {
            let bytes = Bytes::from(body.seal(&place, signer).unwrap());
            let opened = EntryBody::open(&bytes, &place, keys);
            if fits {
                assert_eq!(opened.unwrap(), body);
            } else {
                assert_eq!(opened.unwrap_err().kind(), ErrorKind::Unauthentic, "{body:?}");
            }
        }
    }
}

#[test]
fn a_stub_speaks_of_its_slot_in_any_regions_log_and_of_no_other_slot() {
    let made = EntryPlace { seq: 0, ..PLACE };
    let (body, signers) = (EntryBody::Stub(Digest::of(b"x")), [key().public()]);
    let bytes = Bytes::from(body.seal(&made, &key()).unwrap());
    for place in [made, EntryPlace { region: 0, ..made }, EntryPlace { region: 7, seq: 3, ..made }, EntryPlace { configuration: 4, ..made }]
    {
        assert_eq!(EntryBody::open_since(&bytes, &place, 9, keys(&signers)).unwrap(), (body.clone(), 3), "{place:?}");
    }
    let elsewhere = [
        EntryPlace { lake: LakeId([2; 16]), ..made },
        EntryPlace { path: "t/_delta_log/1.json", ..made },
        EntryPlace { slot: 8, ..made },
        EntryPlace { slot: 10, region: 1, ..made },
    ];
    for place in elsewhere {
        assert_eq!(EntryBody::open(&bytes, &place, keys(&signers)).unwrap_err().kind(), ErrorKind::Unauthentic, "{place:?}");
    }
}

#[test]
fn only_facts_are_older_than_the_regions_part_in_the_lake() {
    let place = EntryPlace { seq: 0, ..PLACE };
    let later = EntryPlace { configuration: 9, ..place };
    let oldest = |body: EntryBody| {
        let bytes = Bytes::from(body.seal(&place, &key()).unwrap());
        (0..=9).rev().find(|since| EntryBody::open_since(&bytes, &later, *since, keys(&[key().public()])).is_ok()).unwrap()
    };
    // Made under configuration 3.
    assert_eq!(oldest(EntryBody::Promise(ballot())), 3);
    assert_eq!(oldest(EntryBody::Accept(Ballot::FAST, Bytes::from_static(b"x"))), 3);
    assert_eq!(oldest(EntryBody::Undecided(ballot())), 4, "a region that takes another's place is told one configuration before it votes");
    assert_eq!(oldest(EntryBody::Learned(Bytes::from_static(b"x"))), 9);
    assert_eq!(oldest(EntryBody::Stub(Digest::of(b"x"))), 9);
}

fn marker() -> Marker {
    Marker { kind: ObjectKind::Object, size: 77, modified_ms: 1_790_000_000_000, write_id: WriteId([3; 16]), value: Digest::of(b"m") }
}

#[test]
fn a_marker_reads_back_from_its_name() {
    for marker in [marker(), Marker { kind: ObjectKind::Tombstone, size: 0, modified_ms: -1, ..marker() }] {
        let signed = marker.sign(LakeId([1; 16]), 3, "a/b", 9, &key());
        let text = signed.to_text();
        assert_eq!((text.len(), MARKER_TEXT_BYTES), (185, 185));
        let read = SignedMarker::from_text(&text).unwrap();
        assert_eq!(read, signed);
        assert!(read.is_authentic(LakeId([1; 16]), 3, "a/b", 9, &[PrivateKey::from_seed(&[8; 32]).public(), key().public()]));
    }
}

#[test]
fn a_marker_is_authentic_for_one_path_and_slot_only() {
    let signed = marker().sign(LakeId([1; 16]), 3, "a/b", 9, &key());
    let writers = [key().public()];
    assert!(!signed.is_authentic(LakeId([2; 16]), 3, "a/b", 9, &writers));
    assert!(!signed.is_authentic(LakeId([1; 16]), 2, "a/b", 9, &writers));
    assert!(!signed.is_authentic(LakeId([1; 16]), 3, "a/c", 9, &writers));
    assert!(!signed.is_authentic(LakeId([1; 16]), 3, "a/b", 8, &writers));
    assert!(!signed.is_authentic(LakeId([1; 16]), 3, "a/b", 9, &[PrivateKey::from_seed(&[8; 32]).public()]));
    let grown = SignedMarker { marker: Marker { size: 78, ..marker() }, ..signed };
    assert!(!grown.is_authentic(LakeId([1; 16]), 3, "a/b", 9, &writers));
}

#[test]
fn names_that_are_no_markers_are_refused() {
    let text = marker().sign(LakeId([1; 16]), 3, "a/b", 9, &key()).to_text();
    for wrong in ["", ".", "abc", &text[..184], &format!("{text}A"), &text.replace('.', "")] {
        assert_eq!(SignedMarker::from_text(wrong).unwrap_err().kind(), ErrorKind::Corrupt, "{wrong}");
    }
}
