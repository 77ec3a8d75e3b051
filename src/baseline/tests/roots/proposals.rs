//! What a countersigner compares and is shown: change data, other addresses, and what came before where nothing is in force.

use super::*;

#[tokio::test]
async fn change_data_of_a_proposal_is_what_is_there() {
    let ceremony = Ceremony::new(2).await;
    let world = &ceremony.world;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    let path = Path::from("t/_change_data/cdc-1.parquet");
    let (good, poisoned) = (parquet(2000, honest), parquet(2000, |i| if i == 2007 { 2008.5 } else { honest(i) }));
    assert_eq!(good.len(), poisoned.len());
    let cdc = json!({"cdc": {"path": "_change_data/cdc-1.parquet", "partitionValues": {}, "size": good.len(), "dataChange": false}});
    world.commit(4, "UPDATE", &[cdc]).await;
    // The thief of Alice's key seals while another file is there, and while none is.
    world.put(&path, poisoned).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    world.put(&path, good.clone()).await;
    let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
    assert!(refused.to_string().contains("a change-data file has another digest") && refused.to_string().contains("cdc-1"), "{refused}");
    world.store.delete(&path).await.unwrap();
    let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("names a change-data file that is not there"), "{refused}");
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    world.put(&path, good).await;
    let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("a change-data file is missing from it"), "{refused}");
    // An honest proposal is signed, and one after it when the file was vacuumed.
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
    world.store.delete(&path).await.unwrap();
    world.append(5).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.carol.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn other_addresses_are_shown_before_they_are_signed_and_are_beyond_bounds() {
    let ceremony = Ceremony::new(2).await;
    let named = |aliases: &[&str]| SealOptions { aliases: aliases.iter().map(|&one| one.into()).collect(), ..SealOptions::default() };
    let review = async |options| ceremony.sealer(ceremony.bob.clone(), options).review(None, &()).await;
    let bounds = Bounds { append_only: true, allow_metadata: true, ..Bounds::default() };
    let bounded = || SealOptions { bounds: Some(bounds), ..SealOptions::default() };
    // In the first baseline already.
    ceremony.sealer(ceremony.alice.clone(), named(&["memory:///v"])).seal(&()).await.unwrap();
    let first = review(SealOptions::default()).await.unwrap();
    let lines = first.outcome.diff.lines();
    assert!(lines[0].contains("first baseline") && lines[1].contains("address memory:///v added"), "{lines:?}");
    ceremony.sealer(ceremony.bob.clone(), SealOptions::default()).sign(first).await.unwrap().unwrap();
    // And alone, with nothing else that is new.
    ceremony.sealer(ceremony.alice.clone(), named(&["memory:///u\u{1b}"])).seal(&()).await.unwrap();
    let lines = review(SealOptions::default()).await.unwrap().outcome.diff.lines().join("\n");
    for part in ["address memory:///u\\u001b added", "address memory:///v removed"] {
        assert!(lines.contains(part), "{lines}");
    }
    let refused = review(bounded()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permission, "{refused}");
    assert!(refused.message().contains("other addresses changed"), "{refused}");
    // Addresses that stay are none that a bounded seal stumbles over.
    ceremony.countersign(ceremony.carol.clone()).await.unwrap();
    ceremony.world.append(4).await;
    ceremony.sealer(ceremony.alice.clone(), named(&["memory:///u\u{1b}"])).seal(&()).await.unwrap();
    assert_eq!(review(bounded()).await.unwrap().outcome.diff.addresses, [""; 0]);
}

#[tokio::test]
async fn where_none_is_in_force_the_difference_from_what_was_signed_is_shown_and_all_is_read() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let one = ceremony.names().await[0];
    ceremony.publish(|root| root.roles.get_mut(&Role::Sealer).unwrap().threshold = 2).await;
    // A poisoned commit, sealed by a thief of Alice's key on top of her honest baseline.
    ceremony.world.append(4).await;
    ceremony.steal(ceremony.alice.clone()).await;
    let review = async |options| ceremony.sealer(ceremony.bob.clone(), options).review(None, &()).await;
    let outcome = review(SealOptions::default()).await.unwrap().outcome;
    assert_eq!((outcome.baseline.number, outcome.first, outcome.files_added), (2, false, 4));
    let one_file = ceremony.world.get(&ceremony.world.file("f4.parquet")).await.len();
    assert!(outcome.bytes_read > u64::try_from(one_file).unwrap(), "what no baseline in force covers is read: {}", outcome.bytes_read);
    assert_eq!((outcome.diff.from, outcome.diff.added.files), (Some(1), 1));
    assert_eq!(outcome.diff.commits, [(4, Some("WRITE".into()))]);
    let lines = outcome.diff.lines();
    assert!(lines[0].contains("no baseline is in force") && lines[0].contains("1 of the 2"), "{lines:?}");
    assert!(!lines.join(" ").contains("first baseline") && lines.contains(&"+ f4.parquet".to_owned()), "{lines:?}");
    let bounds = Bounds { max_added_rows: Some(1000), ..Bounds::default() };
    let refused = review(SealOptions { bounds: Some(bounds), ..SealOptions::default() }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permission, "nobody looks: {refused}");

    // One that follows nothing would make the history forged for good, whoever accepts it.
    let two = *ceremony.names().await.last().unwrap();
    let bytes = ceremony.world.get(&ceremony.world.repository().baseline_path(&two)).await;
    let two = Statement::parse(&bytes).unwrap();
    let bogus = ceremony.forge(Statement { number: 3, previous: Some(Digest([7; 32])), ..two.clone() }, &[&ceremony.alice]).await;
    for accept_changes in [false, true] {
        let options = SealOptions { accept_changes, ..SealOptions::default() };
        let refused = review(options).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
        assert!(refused.message().contains("a baseline 2 that is not there"), "{refused}");
    }
    ceremony.world.store.delete(&ceremony.world.repository().baseline_path(&bogus)).await.unwrap();
    // One that begins anew hides what was sealed: it takes somebody who accepts that, and is never shown as a first one.
    let anew = ceremony.forge(Statement { number: 1, previous: None, ..two }, &[&ceremony.alice]).await;
    let anew = async |accept_changes| {
        let sealer = ceremony.sealer(ceremony.bob.clone(), SealOptions { accept_changes, ..SealOptions::default() });
        sealer.review(Some(anew.digest), &()).await
    };
    let refused = anew(false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthentic, "{refused}");
    assert!(refused.message().contains("has nothing before it") && refused.message().contains("--accept-changes"), "{refused}");
    let accepted = anew(true).await.unwrap().outcome;
    assert!(accepted.diff.lines()[0].contains("has nothing before it"), "{:?}", accepted.diff.lines());
    assert!(!accepted.diff.lines().join(" ").contains("first baseline"), "{:?}", accepted.diff.lines());
    assert!(accepted.findings.iter().any(|finding| finding.verdict == Verdict::Untrusted), "{:?}", accepted.findings);
    // The honest baseline may still be signed instead.
    let named = ceremony.sealer(ceremony.bob.clone(), SealOptions::default()).review(Some(one.digest), &()).await;
    assert!(named.is_err_and(|e| e.message().contains("has nothing before it")), "the thief's is later");
}

#[tokio::test]
async fn a_removed_sealers_baselines_are_ground_to_go_on_from_and_junk_does_not_hide_them() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.world.append(4).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let two = ceremony.names().await[1];
    let alice: VerifyingKey = ceremony.alice.public().into();
    let mut held = ceremony;
    held.root = held.publish(|root| root.roles.get_mut(&Role::Sealer).unwrap().keys.retain(|key| *key != alice)).await;
    // Anybody's statement of a high number goes behind what a former sealer signed.
    let bytes = held.world.get(&held.world.repository().baseline_path(&two)).await;
    let statement = Statement::parse(&bytes).unwrap();
    held.forge(Statement { number: 1000, previous: Some(Digest([7; 32])), ..statement.clone() }, &[&PrivateKey::from_seed(&[99; 32])])
        .await;
    let sealer = held.sealer(held.carol.clone(), SealOptions::default());
    let prepared = sealer.review(None, &()).await.unwrap();
    let lines = prepared.outcome.diff.lines();
    assert_eq!((prepared.name, prepared.outcome.diff.from), (two, Some(1)), "{lines:?}");
    assert!(lines[0].contains("only keys signed it that may no longer seal"), "{lines:?}");
    sealer.sign(prepared).await.unwrap().unwrap();
    assert_intact(&held.audit().await);
}

#[tokio::test]
async fn a_baseline_that_follows_a_strangers_is_signed_only_if_that_is_accepted() {
    let ceremony = Ceremony::new(2).await;
    let stranger = PrivateKey::from_seed(&[99; 32]);
    ceremony.steal(stranger.clone()).await;
    ceremony.world.append(4).await;
    ceremony.steal(stranger).await;
    let review = async |accept_changes| {
        let options = SealOptions { accept_changes, ..SealOptions::default() };
        ceremony.sealer(ceremony.alice.clone(), options).review(None, &()).await
    };
    let refused = review(false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthentic, "{refused}");
    assert!(refused.message().contains("nobody signed it who may seal here"), "{refused}");
    let outcome = review(true).await.unwrap().outcome;
    assert_eq!((outcome.diff.from, outcome.files_added), (Some(1), 4));
    assert!(outcome.findings.iter().any(|finding| finding.verdict == Verdict::Untrusted), "{:?}", outcome.findings);
}
