//! What a countersigner compares and is shown: change data, other addresses, and what came before where nothing is in force.

use super::*;
use crate::baseline::repository::TrustedBaseline;
use crate::baseline::sealed::SealedCommit;
use crate::baseline::statement::EvidenceRef;
use crate::baseline::{evidence, state};
use crate::table::FileKey;

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

/// Alice's honest proposal with evidence beside it that says more, and with the roots that fit; hers alone is left.
async fn proposed_with(ceremony: &Ceremony, commits: &[(u64, SealedCommit)], tombstones: &[FileKey], keys: &[&dyn Signer]) -> BaselineName {
    let (repository, world) = (ceremony.world.repository(), &ceremony.world);
    let outcome = ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let name = BaselineName { number: outcome.baseline.number, digest: outcome.baseline.digest };
    let mut statement = Statement::parse(&world.get(&repository.baseline_path(&name)).await).unwrap();
    let honest = TrustedBaseline { statement: statement.clone(), summary: outcome.baseline };
    let mut sealed = repository.whole_table(honest).await.unwrap();
    let tombstones: Vec<_> = tombstones.iter().map(|key| (key, None)).collect();
    let delta =
        evidence::Delta { commits: commits.iter().map(|(version, commit)| (*version, commit)).collect(), tombstones, ..Default::default() };
    for (kind, bytes) in delta.encode(&sealed.row_key).unwrap() {
        let (digest, size) = repository.keep_evidence(bytes).await.unwrap();
        statement.evidence.push(EvidenceRef { kind, digest, size, number: statement.number });
    }
    sealed.commits.extend(commits.iter().cloned());
    for (key, at) in delta.tombstones {
        sealed.files.remove(key);
        sealed.removed.insert(key.clone(), at);
    }
    let snapshot = crate::table::load(&*world.store, &world.root, None).await.unwrap();
    statement.state = state::root(&snapshot, &sealed.files, &sealed.removed, &sealed.commits).unwrap();
    world.store.delete(&repository.baseline_path(&name)).await.unwrap();
    ceremony.forge(statement, keys).await
}

fn invented() -> SealedCommit {
    SealedCommit { digest: Digest([7; 32]), size: 1, operation: Some("WRITE".into()) }
}

fn key(path: &str) -> FileKey {
    FileKey { path: path.into(), deletion_vector: None }
}

#[tokio::test]
async fn what_a_proposal_invents_of_the_future_is_not_countersigned() {
    let ceremony = Ceremony::new(2).await;
    let world = &ceremony.world;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    world.append(4).await;
    let alice: [&dyn Signer; 1] = [&ceremony.alice];
    for (commits, tombstones, what) in [
        (&[(5, invented())][..], &[][..], "comes after the version"),
        (&[(4, invented())], &[], "a commit is another"),
        (&[], &[key("f5.parquet")], "a file was removed of which the log does not tell"),
        (&[], &[key("f4.parquet")], "a live file is missing"),
    ] {
        let name = proposed_with(&ceremony, commits, tombstones, &alice).await;
        let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
        assert!(refused.to_string().contains(what), "{refused}");
        world.store.delete(&world.repository().baseline_path(&name)).await.unwrap();
    }
    // An honest proposal is signed, and the next commits, and files that come back by a RESTORE or not, are what they are.
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    world.append(5).await;
    ceremony.seal(ceremony.carol.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
}

/// As an earlier version would have signed it: the false commit is in force, and an honest one takes its place.
#[tokio::test]
async fn a_commit_that_was_sealed_before_it_came_accuses_nobody() {
    for commits_since in [0, 1, 2] {
        let ceremony = Ceremony::new(2).await;
        let world = &ceremony.world;
        proposed_with(&ceremony, &[(4, invented())], &[], &[&ceremony.alice, &ceremony.bob]).await;
        assert_intact(&ceremony.audit().await);
        for version in 4..4 + commits_since {
            world.append(version).await;
        }
        let forced = SealOptions { force: true, ..SealOptions::default() };
        ceremony.sealer(ceremony.alice.clone(), forced).seal(&()).await.unwrap();
        ceremony.countersign(ceremony.carol.clone()).await.unwrap();
        assert_intact(&ceremony.audit().await);
        let newest = world.repository().newest_baseline(&ceremony.trust()).await.unwrap().unwrap();
        assert!(newest.commits.values().all(|commit| *commit != invented()), "{commits_since}");
        world.append(4 + commits_since).await;
        ceremony.seal(ceremony.carol.clone()).await.unwrap();
        ceremony.countersign(ceremony.bob.clone()).await.unwrap();
        assert_intact(&ceremony.audit().await);
    }
}

/// Whoever can guess the name of tomorrow's file must not have it sealed as removed.
#[tokio::test]
async fn a_folder_s_file_to_come_is_not_sealed_as_removed() {
    let mut ceremony = Ceremony::new(2).await;
    ceremony.world = World::new();
    let at = |day: u32| Path::from(format!("t/day-{day}.parquet"));
    ceremony.world.put(&at(1), parquet(0, honest)).await;
    let false_one = proposed_with(&ceremony, &[], &[key("day-2.parquet")], &[&ceremony.alice]).await;
    let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("day-2.parquet"), "{refused}");
    ceremony.world.store.delete(&ceremony.world.repository().baseline_path(&false_one)).await.unwrap();
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    ceremony.world.put(&at(2), parquet(500, honest)).await;
    assert_eq!(ceremony.audit().await.outcome(), Outcome::IntactWithUnsealed);
}
