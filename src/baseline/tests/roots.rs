//! Baselines under trust roots: thresholds, countersigning, revocation, and what a single thief of a key can do.

mod logged;
mod proposals;

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde_json::json;

use super::table::{add, honest, parquet, remove};
use super::*;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::key::dsse::Envelope;
use crate::key::{P256PrivateKey, Role, Signer, VerifyingKey};
use crate::table::{ForeignRoot, ForeignRoots};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A table under a trust root: one root key; Alice (Ed25519), Bob (P-256) and Carol may seal.
struct Ceremony {
    world: World,
    chief: PrivateKey,
    alice: PrivateKey,
    bob: P256PrivateKey,
    carol: PrivateKey,
    root: SignedRoot,
}

impl Ceremony {
    async fn new(threshold: usize) -> Self {
        let seed = |n: u8| PrivateKey::from_seed(&[n; 32]);
        let (chief, alice, bob, carol) = (seed(20), seed(21), P256PrivateKey::generate().unwrap(), seed(23));
        let keys: [VerifyingKey; 3] = [alice.public().into(), bob.public().into(), carol.public().into()];
        let roles = BTreeMap::from([
            (Role::Root, RoleKeys { keys: vec![chief.public().into()], threshold: 1 }),
            (Role::Sealer, RoleKeys { keys: keys.to_vec(), threshold }),
        ]);
        let root = TrustRoot {
            name: "t".into(),
            version: 1,
            previous: None,
            created_ms: NOW_MS,
            expires_ms: Some(NOW_MS + 100 * DAY_MS),
            roles,
            names: BTreeMap::new(),
            revoked: Vec::new(),
        };
        let mut root = SignedRoot::draft(root).unwrap();
        root.sign(&chief).await.unwrap();
        let world = World::new();
        world.create(3).await;
        Self { world, chief, alice, bob, carol, root }
    }

    fn trust(&self) -> Trust {
        Trust::from_root(self.root.clone())
    }

    fn sealer(&self, key: impl Signer + 'static, options: SealOptions) -> Sealer {
        self.world.clock.advance(1000);
        let options = SealOptions { trust: Some(self.trust()), ..options };
        let world = &self.world;
        Sealer::new(world.store.clone(), world.root.clone(), LOCATION, key, world.clock.clone(), options).unwrap()
    }

    async fn seal(&self, key: impl Signer + 'static) -> Result<SealOutcome> {
        self.sealer(key, SealOptions::default()).seal(&()).await
    }

    async fn countersign(&self, key: impl Signer + 'static) -> Result<SealOutcome> {
        let sealer = self.sealer(key, SealOptions::default());
        let prepared = sealer.review(None, &()).await?;
        sealer.sign(prepared).await?.ok_or_else(|| Error::new(ErrorKind::Unavailable, "overtaken"))
    }

    async fn audit(&self) -> AuditReport {
        self.world.audit_with(self.trust(), AuditOptions::default()).await
    }

    /// What a thief of a key makes of the table as it stands, following whatever that key alone has signed.
    async fn steal(&self, key: PrivateKey) -> SealOutcome {
        self.world.clock.advance(1000);
        let world = &self.world;
        let options = SealOptions { record: false, ..SealOptions::default() };
        let sealer = Sealer::new(world.store.clone(), world.root.clone(), LOCATION, key, world.clock.clone(), options).unwrap();
        sealer.seal(&()).await.unwrap()
    }

    /// The next version of the root, changed and signed; published, not yet held.
    async fn publish(&self, change: impl FnOnce(&mut TrustRoot)) -> SignedRoot {
        let mut root = self.root.root().clone();
        (root.version, root.previous) = (root.version + 1, Some(self.root.digest()));
        change(&mut root);
        let mut signed = SignedRoot::draft(root).unwrap();
        signed.sign(&self.chief).await.unwrap();
        self.world.repository().publish_root(&signed).await.unwrap();
        signed
    }

    async fn names(&self) -> Vec<BaselineName> {
        self.world.repository().names().await.unwrap()
    }

    /// A thief's statement: whatever it says, signed by keys that were stolen.
    async fn forge(&self, statement: Statement, keys: &[&dyn Signer]) -> BaselineName {
        let repository = self.world.repository();
        let name = repository.keep_statement(&statement).await.unwrap();
        for key in keys {
            repository.sign(&name, &statement, *key).await.unwrap();
        }
        name
    }

    async fn statement(&self, number: u64) -> Statement {
        let all = self.world.repository().baselines(&self.trust()).await.unwrap();
        all.into_iter().find(|baseline| baseline.summary.number == number).unwrap().statement
    }

    fn last_good(&self, name: BaselineName) -> LastGood {
        LastGood { table: LOCATION.into(), number: name.number, digest: name.digest }
    }
}

/// A purge that names `file` of the table as it is sealed.
fn purge_of(file: &SealedFile) -> Purge {
    Purge {
        location: LOCATION.into(),
        table_id: "the-table".into(),
        baseline: 1,
        created_ms: NOW_MS,
        reason: "request 17".into(),
        files: vec![PurgedFile { path: file.live.key.path.clone(), digest: file.digest, sha256: file.sha256 }],
    }
}

fn revoke(root: &mut TrustRoot, key: VerifyingKey, last_good: Vec<LastGood>) {
    let sealers = root.roles.get_mut(&Role::Sealer).unwrap();
    sealers.keys.retain(|known| *known != key);
    root.revoked.push(Revocation { key, revoked_ms: NOW_MS, reason: "stolen".into(), last_good });
}

#[tokio::test]
async fn a_baseline_is_in_force_when_enough_have_signed_and_not_before() {
    let ceremony = Ceremony::new(2).await;
    let first = ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert!(!first.is_in_force());
    assert_eq!((first.baseline.signed_by.len(), first.baseline.signatures_needed), (1, 2));
    let report = ceremony.audit().await;
    assert_eq!(report.outcome(), Outcome::Mismatch);
    assert_found(&report, Verdict::Untrusted, &["no baseline is in force", "1 of the 2 signatures"]);
    // The same key again, and the same signature under another's name, are no second one.
    let again = ceremony.countersign(ceremony.alice.clone()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{again}");
    let [name] = ceremony.names().await[..] else { panic!("one proposal") };
    let repository = ceremony.world.repository();
    let signature = ceremony.world.get(&repository.signature_path(name.digest, ceremony.alice.public().id())).await;
    for other in [ceremony.bob.public().id(), ceremony.carol.public().id()] {
        ceremony.world.put(&repository.signature_path(name.digest, other), signature.clone()).await;
    }
    assert_eq!(ceremony.audit().await.outcome(), Outcome::Mismatch);
    let stranger = ceremony.countersign(PrivateKey::from_seed(&[99; 32])).await.unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Permission, "{stranger}");

    let second = ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    assert!(second.is_in_force() && second.baseline.digest == first.baseline.digest);
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert_eq!(report.to_json()["baseline"]["signatures_needed"], 2);
    let waits = ceremony.countersign(ceremony.carol.clone()).await.unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::NotFound, "{waits}");

    // The next one waits, and until it has its signatures the one before it is in force.
    ceremony.world.append(4).await;
    assert!(!ceremony.seal(ceremony.bob.clone()).await.unwrap().is_in_force());
    let report = ceremony.audit().await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    assert!(report.notes.iter().any(|note| note.contains("baseline 2 has 1 of the 2")), "{:?}", report.notes);
    let sealed = ceremony.countersign(ceremony.carol.clone()).await.unwrap();
    assert_eq!((sealed.diff.from, sealed.diff.added.files, sealed.diff.added.rows), (Some(1), 1, 200));
    assert!(sealed.diff.is_append() && sealed.diff.commits == [(4, Some("WRITE".into()))]);
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn whoever_has_no_key_prepares_and_others_sign() {
    let ceremony = Ceremony::new(2).await;
    let world = &ceremony.world;
    let prepare = || {
        world.clock.advance(1000);
        let options = SealOptions::default();
        Sealer::preparing(world.store.clone(), world.root.clone(), LOCATION, ceremony.trust(), world.clock.clone(), options)
    };
    let prepared = prepare().prepare(&()).await.unwrap();
    assert_eq!(prepare().sign(prepared).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(ceremony.audit().await.outcome(), Outcome::Mismatch);
    ceremony.countersign(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
    // Of two proposals that nobody has signed, one must be named.
    world.append(4).await;
    prepare().prepare(&()).await.unwrap();
    let second = prepare().prepare(&()).await.unwrap();
    let many = ceremony.countersign(ceremony.alice.clone()).await.unwrap_err();
    assert!(many.message().contains(&second.name.digest.to_string()), "{many}");
    let sealer = ceremony.sealer(ceremony.alice.clone(), SealOptions::default());
    let chosen = sealer.review(Some(second.name.digest), &()).await.unwrap();
    sealer.sign(chosen).await.unwrap().unwrap();
    // Now one has a signature, and that one goes first.
    assert_eq!(ceremony.countersign(ceremony.carol.clone()).await.unwrap().baseline.digest, second.name.digest);
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn a_proposal_that_says_something_else_than_the_table_is_not_countersigned() {
    let ceremony = Ceremony::new(2).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    ceremony.world.append(4).await;
    // Alice's key is stolen: the thief seals a table whose newest file is another, and shows the seal beside the real one.
    let good = ceremony.world.get(&ceremony.world.file("f4.parquet")).await;
    let false_prices = parquet(4000, |i| if i == 4007 { 4008.5 } else { honest(i) });
    assert_eq!(false_prices.len(), good.len());
    ceremony.world.put(&ceremony.world.file("f4.parquet"), false_prices).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.world.put(&ceremony.world.file("f4.parquet"), good).await;
    let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
    assert!(refused.to_string().contains("f4.parquet"), "{refused}");
    assert_eq!(ceremony.audit().await.outcome(), Outcome::IntactWithUnsealed);
    // An honest proposal of the same number takes its place: Alice's own signature of the false one is withdrawn.
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert_eq!(ceremony.names().await.len(), 2, "the false one is gone");
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn terms_of_a_proposal_are_checked() {
    let ceremony = Ceremony::new(2).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    let one = ceremony.statement(1).await;
    let name = ceremony.names().await[0];
    let next = Statement { number: 2, previous: Some(name.digest), created_ms: one.created_ms + 1, ..one.clone() };
    let elsewhere = ForeignRoot { prefix: "s3://b/src".into(), url: "s3://b/src".into(), table_id: "id".into() };
    for (wrong, what) in [
        (Statement { location: "memory:///u".into(), ..next.clone() }, "not at memory:///t"),
        (Statement { trust_root: 7, ..next.clone() }, "version 7 of the trust root"),
        (Statement { created_ms: NOW_MS + DAY_MS, ..next.clone() }, "in the future"),
        (Statement { created_ms: one.created_ms, ..next.clone() }, "before the baseline"),
        (Statement { expires_ms: Some(NOW_MS), ..next.clone() }, "expired"),
        // Nothing is opened because a proposal says so.
        (Statement { foreign_roots: ForeignRoots(vec![elsewhere]), ..next.clone() }, "neither the baseline before it nor you"),
    ] {
        let name = ceremony.forge(wrong, &[&ceremony.alice]).await;
        let refused = ceremony.countersign(ceremony.bob.clone()).await.unwrap_err();
        assert!(refused.message().contains(what), "{refused}");
        ceremony.world.store.delete(&ceremony.world.repository().baseline_path(&name)).await.unwrap();
    }
    let refused = ceremony.forge(Statement { previous: Some(Digest([7; 32])), ..next }, &[&ceremony.alice]).await;
    assert_eq!(refused.number, 2);
    assert_eq!(ceremony.countersign(ceremony.bob.clone()).await.unwrap_err().kind(), ErrorKind::NotFound, "it follows nothing");
}

#[tokio::test]
async fn one_stolen_key_below_the_threshold_neither_forks_nor_blocks() {
    let ceremony = Ceremony::new(2).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    let one = ceremony.statement(1).await;
    let name = ceremony.names().await[0];
    let stolen: [&dyn Signer; 1] = [&ceremony.alice];
    ceremony.forge(Statement { created_ms: 1, ..one.clone() }, &stolen).await;
    ceremony.forge(Statement { number: 2, previous: Some(name.digest), ..one.clone() }, &stolen).await;
    ceremony.forge(Statement { number: 1_000_000, previous: Some(name.digest), ..one.clone() }, &stolen).await;
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
    ceremony.world.append(4).await;
    ceremony.seal(ceremony.bob.clone()).await.unwrap();
    ceremony.forge(Statement { number: 2, previous: Some(name.digest), created_ms: 5, ..one }, &stolen).await;
    let honest = ceremony.sealer(ceremony.carol.clone(), SealOptions::default());
    let many = honest.review(None, &()).await.unwrap_err();
    assert_eq!(many.kind(), ErrorKind::InvalidInput, "{many}");
    let bobs = ceremony.names().await;
    let mut signed = 0;
    for name in bobs.iter().filter(|name| name.number == 2) {
        if let Ok(prepared) = honest.review(Some(name.digest), &()).await {
            assert!(honest.sign(prepared).await.unwrap().unwrap().is_in_force());
            signed += 1;
        }
    }
    assert_eq!(signed, 1, "only what the table is can be countersigned");
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn a_signature_serves_for_no_other_statement() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let one = ceremony.statement(1).await;
    let name = ceremony.names().await[0];
    let repository = ceremony.world.repository();
    let signature = ceremony.world.get(&repository.signature_path(name.digest, ceremony.alice.public().id())).await;
    let later = ceremony.forge(Statement { number: 2, previous: Some(name.digest), expires_ms: None, ..one }, &[]).await;
    ceremony.world.put(&repository.signature_path(later.digest, ceremony.alice.public().id()), signature).await;
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert_eq!(report.baseline.unwrap().number, 1);
}

#[tokio::test]
async fn a_revoked_key_counts_up_to_the_last_good_baseline_and_cannot_back_date() {
    let mut ceremony = Ceremony::new(1).await;
    for version in 4..=6 {
        ceremony.seal(ceremony.alice.clone()).await.unwrap();
        ceremony.world.append(version).await;
    }
    let names = ceremony.names().await;
    let (one, three) = (ceremony.statement(1).await, ceremony.statement(3).await);
    // The thief of Alice's key seals the newest state, and rewrites history.
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
    let good = ceremony.last_good(names[2]);
    let alice: VerifyingKey = ceremony.alice.public().into();
    let two = ceremony.publish(|root| revoke(root, alice, vec![good])).await;

    // Whoever holds the old root learns of the new one from beside the table.
    let report = ceremony.audit().await;
    assert_eq!(report.baseline.as_ref().unwrap().number, 3, "the fourth was signed after the revocation");
    assert_eq!(report.baseline.as_ref().unwrap().trust_root.unwrap().0, 2);
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    let stolen: [&dyn Signer; 1] = [&ceremony.alice];
    for forged in [
        Statement { created_ms: one.created_ms - 1, ..one.clone() },
        Statement { number: 3, expires_ms: None, ..three.clone() },
        Statement { number: 4, previous: Some(names[2].digest), ..three.clone() },
        Statement { number: 2, previous: Some(names[0].digest), created_ms: one.created_ms + 1, ..three.clone() },
    ] {
        ceremony.forge(forged, &stolen).await;
    }
    let report = ceremony.audit().await;
    assert_eq!((report.baseline.as_ref().unwrap().digest, report.outcome()), (names[2].digest, Outcome::IntactWithUnsealed), "{report:#?}");
    assert_eq!(ceremony.seal(ceremony.alice.clone()).await.unwrap_err().kind(), ErrorKind::Permission);
    // Bob goes on from the last good one.
    let bobs = ceremony.seal(ceremony.bob.clone()).await.unwrap();
    assert_eq!((bobs.baseline.number, bobs.diff.from), (4, Some(3)));
    ceremony.root = two;
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn a_revoked_key_without_a_last_good_baseline_counts_for_nothing() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let alice: VerifyingKey = ceremony.alice.public().into();
    ceremony.publish(|root| revoke(root, alice, Vec::new())).await;
    assert_found(&ceremony.audit().await, Verdict::Untrusted, &[]);
    // Another sealer who reads it all again brings it back into force.
    let again = ceremony.countersign(ceremony.carol.clone()).await.unwrap();
    assert!(again.first && again.bytes_read > 0);
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn a_raised_threshold_takes_a_baseline_out_of_force_until_it_is_countersigned() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.world.append(4).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
    ceremony.publish(|root| root.roles.get_mut(&Role::Sealer).unwrap().threshold = 2).await;
    assert_found(&ceremony.audit().await, Verdict::Untrusted, &["1 of the 2"]);
    let anew = ceremony.seal(ceremony.bob.clone()).await.unwrap_err();
    assert!(anew.message().contains("countersign"), "{anew}");
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert_eq!(report.baseline.unwrap().number, 2);
    ceremony.world.append(5).await;
    ceremony.seal(ceremony.carol.clone()).await.unwrap();
    ceremony.countersign(ceremony.alice.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn an_expired_root_is_a_mismatch_until_a_newer_one_is_found() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.world.clock.advance(101 * DAY_MS);
    assert_found(&ceremony.audit().await, Verdict::Expired, &["version 1 of the trust root"]);
    ceremony.world.append(4).await;
    let refused = ceremony.seal(ceremony.alice.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    ceremony.publish(|root| root.expires_ms = Some(NOW_MS + 300 * DAY_MS)).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn roots_that_fork_are_a_mismatch_and_junk_is_ignored() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let repository = ceremony.world.repository();
    // Sealing published version 1; a stranger's version 2, and objects that are none.
    let folder = Path::from("t/_seal/trust");
    let published: Vec<_> = ceremony.world.store.list(Some(&folder)).try_collect().await.unwrap();
    assert_eq!(published.len(), 1);
    let mut strange = ceremony.root.root().clone();
    (strange.version, strange.previous) = (2, Some(ceremony.root.digest()));
    strange.roles.insert(Role::Root, RoleKeys { keys: vec![PrivateKey::from_seed(&[66; 32]).public().into()], threshold: 1 });
    let mut strange = SignedRoot::draft(strange).unwrap();
    strange.sign(&PrivateKey::from_seed(&[66; 32])).await.unwrap();
    repository.publish_root(&strange).await.unwrap();
    for name in ["x.json", "00000000000000000002-x.json"] {
        ceremony.world.put(&folder.clone().join(name), "junk").await;
    }
    ceremony.world.put(&repository.root_path(2, Digest([2; 32])), "junk").await;
    assert_intact(&ceremony.audit().await);

    ceremony.publish(|root| root.name = "one".into()).await;
    assert_intact(&ceremony.audit().await);
    ceremony.publish(|root| root.name = "other".into()).await;
    let report = ceremony.audit().await;
    assert_found(&report, Verdict::Forged, &["two trust roots of version 2"]);
    assert_eq!(ceremony.seal(ceremony.bob.clone()).await.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn poison_is_shown_before_it_is_signed_and_is_beyond_bounds() {
    let ceremony = Ceremony::new(1).await;
    let bounds = Bounds { append_only: true, max_added_rows: Some(200), ..Bounds::default() };
    let bounded = |bounds| ceremony.sealer(ceremony.alice.clone(), SealOptions { bounds: Some(bounds), ..SealOptions::default() });
    let first = bounded(bounds).seal(&()).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Permission, "nothing to compare with: {first}");
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.world.append(4).await;
    assert!(bounded(bounds).seal(&()).await.unwrap().is_in_force());
    // A valid commit replaces a file by one in which a price differs.
    let poisoned = parquet(2000, |i| if i == 2007 { 2008.5 } else { honest(i) });
    let action = add("g2.parquet", 2000, poisoned.len());
    ceremony.world.put(&ceremony.world.file("g2.parquet"), poisoned).await;
    ceremony.world.commit(5, "OPTIMIZE", &[remove("f2.parquet"), action]).await;
    let refused = bounded(bounds).seal(&()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permission);
    assert!(refused.to_string().contains("only appends") && refused.to_string().contains("g2.parquet"), "{refused}");
    let few = Bounds { max_removed_rows: Some(10), ..Bounds::default() };
    assert!(bounded(few).seal(&()).await.unwrap_err().message().contains("200 rows were removed, and at most 10"));
    let sealer = ceremony.sealer(ceremony.alice.clone(), SealOptions::default());
    let diff = sealer.prepare(&()).await.unwrap().outcome.diff;
    assert_eq!((diff.added.rows, diff.removed.rows, diff.same_rows), (200, 200, false));
    assert!(
        diff.lines().iter().any(|line| line.contains("OPTIMIZE")) && diff.lines().contains(&"- f2.parquet".to_owned()),
        "{:?}",
        diff.lines()
    );
    // The same rows laid out anew are no rows changed.
    ceremony.world.put(&ceremony.world.file("g2.parquet"), parquet(2000, honest)).await;
    let size = ceremony.world.get(&ceremony.world.file("g2.parquet")).await.len();
    ceremony.world.commit(5, "OPTIMIZE", &[remove("f2.parquet"), add("g2.parquet", 2000, size)]).await;
    let sealed = bounded(few).seal(&()).await.unwrap();
    assert!(sealed.diff.same_rows && sealed.diff.rows_changed() == (0, 0));
}

#[tokio::test]
async fn changed_properties_and_columns_are_shown_and_bounded() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let text = String::from_utf8(ceremony.world.get(&ceremony.world.log(0)).await).unwrap();
    let line = text.lines().find(|line| line.contains("metaData")).unwrap();
    let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
    action["metaData"]["configuration"]["delta.deletedFileRetentionDuration"] = "interval 0 hours".into();
    let schema =
        action["metaData"]["schemaString"].as_str().unwrap().replace("\"price\",\"type\":\"double\"", "\"price\",\"type\":\"float\"");
    action["metaData"]["schemaString"] = schema.replace("\"name\":\"name\"", "\"name\":\"label\"").into();
    ceremony.world.commit(4, "SET TBLPROPERTIES", &[action]).await;
    let options = SealOptions { bounds: Some(Bounds { append_only: true, ..Bounds::default() }), ..SealOptions::default() };
    let refused = ceremony.sealer(ceremony.alice.clone(), options).seal(&()).await.unwrap_err();
    for part in ["deletedFileRetentionDuration", "interval 0 hours", "column name dropped", "column label added"] {
        assert!(refused.message().contains(part), "{part}: {refused}");
    }
}

#[tokio::test]
async fn what_was_signed_as_one_thing_serves_as_no_other_and_stops_nobody() {
    let ceremony = Ceremony::new(2).await;
    let (world, repository) = (&ceremony.world, ceremony.world.repository());
    let trust = ceremony.trust();
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let one = ceremony.names().await[0];
    let statement = world.get(&repository.baseline_path(&one)).await;
    let purges = |digest: Digest| Path::from(format!("t/_seal/purges/{digest}.json"));
    // A purge that both signed, before there is a baseline in force: copied, it is no proposal that stands in the way of the first.
    let alone = Trust::new([ceremony.alice.public()], TrustLevel::Given).unwrap();
    let purge = purge_of(repository.newest_baseline(&alone).await.unwrap().unwrap().file_at("f1.parquet").unwrap());
    let record = repository.keep_purge(&purge).await.unwrap();
    for key in [&ceremony.alice as &dyn Signer, &ceremony.bob] {
        repository.sign_purge(&purge, key).await.unwrap();
    }
    let copies = async |number: u64, digest: Digest, bytes: Vec<u8>| {
        world.put(&repository.baseline_path(&BaselineName { number, digest }), bytes).await;
    };
    let purge_bytes = world.get(&purges(record)).await;
    for number in [1, 2, 3, 99] {
        copies(number, record, purge_bytes.clone()).await;
    }
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    // A baseline's statement as a purge, and as baselines of other numbers.
    world.put(&purges(one.digest), statement.clone()).await;
    for number in [2, 3, 77] {
        copies(number, one.digest, statement.clone()).await;
    }
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert_eq!(report.notes.iter().filter(|note| note.contains("signatures that it needs")).count(), 0, "{:?}", report.notes);
    assert_eq!(repository.newest_statement(&trust).await.unwrap().unwrap().summary.digest, one.digest);
    let found = repository.purges(&trust).await.unwrap();
    assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), [record]);
    let sealed = repository.newest_baseline(&trust).await.unwrap().unwrap();
    assert!(repository.erased(&trust, &sealed).await.unwrap().is_of(sealed.file_at("f1.parquet").unwrap()));
    // Nor do they stop the next seal.
    world.append(4).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert!(ceremony.countersign(ceremony.bob.clone()).await.unwrap().is_in_force());
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn one_stolen_key_makes_no_table_unreadable_by_a_purge_that_nobody_understands() {
    let ceremony = Ceremony::new(1).await;
    let repository = ceremony.world.repository();
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let sealed = repository.newest_baseline(&ceremony.trust()).await.unwrap().unwrap();
    let purge = purge_of(sealed.file_at("f1.parquet").unwrap());
    let bytes = String::from_utf8(purge.to_bytes()).unwrap().replace("\"format\":1", "\"format\":2").into_bytes();
    let digest = Digest::of(&bytes);
    ceremony.world.put(&Path::from(format!("t/_seal/purges/{digest}.json")), bytes.clone()).await;
    let sign = async |key: &dyn Signer| {
        let object = sign::sign(key, &bytes).await.unwrap();
        ceremony.world.put(&repository.signature_path(digest, key.public().id()), object).await;
    };
    sign(&ceremony.alice).await;
    assert!(repository.purges(&ceremony.trust()).await.unwrap().is_empty());
    assert_intact(&ceremony.audit().await);
    // What enough sealers signed may say that a file must not come back: it is not passed over.
    sign(&ceremony.bob).await;
    assert!(repository.erased(&ceremony.trust(), &sealed).await.is_err());
}

#[tokio::test]
async fn many_false_roots_do_not_keep_readers_from_the_true_one() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let repository = ceremony.world.repository();
    for n in 0..200 {
        ceremony.world.put(&repository.root_path(2, Digest([n; 32])), "junk").await;
    }
    assert_intact(&ceremony.audit().await);
    let alice: VerifyingKey = ceremony.alice.public().into();
    ceremony.publish(|root| revoke(root, alice, Vec::new())).await;
    assert_found(&ceremony.audit().await, Verdict::Untrusted, &[]);
}

#[tokio::test]
async fn a_signed_successor_that_cannot_hold_is_not_passed_over() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let repository = ceremony.world.repository();
    // As an older version of this software let people write it; it may revoke somebody.
    let mut root = ceremony.root.root().clone();
    (root.version, root.previous) = (2, Some(ceremony.root.digest()));
    let timestamps = RoleKeys { keys: vec![ceremony.alice.public().into(), ceremony.carol.public().into()], threshold: 2 };
    root.roles.insert(Role::Timestamp, timestamps);
    let publish = async |root: &TrustRoot, key: &PrivateKey| {
        let mut envelope = Envelope::new(TRUST_ROOT_TYPE, root.to_bytes());
        envelope.sign(key).await.unwrap();
        let path = repository.root_path(2, Digest::of(&root.to_bytes()));
        ceremony.world.put(&path, envelope.to_json().to_string()).await;
    };
    publish(&root, &PrivateKey::from_seed(&[66; 32])).await;
    assert_intact(&ceremony.audit().await);
    publish(&root, &ceremony.chief).await;
    let error = repository.newest_trust(&ceremony.trust()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("role timestamp") && error.to_string().contains("_seal/trust/"), "{error}");
    assert_found(&ceremony.audit().await, Verdict::Undetermined, &["role timestamp"]);
}
