//! Queries of whoever holds an older trust root than the newest that is published beside the table.

use std::collections::BTreeMap;

use lakeseal::baseline::log::{LoggedBaseline, Record};
use lakeseal::baseline::{LastGood, LogKeys, Revocation, RoleKeys, SignedRoot, TrustRoot, Writers};
use lakeseal::clock::Clock as _;
use lakeseal::key::{Role, VerifyingKey};

use super::lineage::{World, writer};
use super::*;

async fn signed(root: TrustRoot, chief: &PrivateKey) -> SignedRoot {
    let mut signed = SignedRoot::draft(root).unwrap();
    signed.sign(chief).await.unwrap();
    signed
}

impl Fixture {
    async fn seal_under(&self, root: &SignedRoot, key: &PrivateKey) {
        let (store, root_path, url) = (self.location.store().clone(), self.location.root().clone(), self.location.url().as_str());
        let options = SealOptions { trust: Some(Trust::from_root(root.clone())), ..SealOptions::default() };
        let sealer = Sealer::new(store, root_path, url, key.clone(), Arc::new(SystemClock), options).unwrap();
        let sealed = sealer.with_log(self.location.log()).seal(&()).await.unwrap();
        assert_eq!(sealed.notes, [""; 0]);
    }

    async fn all(&self) -> Vec<(Path, Bytes)> {
        let listed: Vec<_> = self.lake.store.list(None).try_collect().await.unwrap();
        let mut all = Vec::new();
        for meta in listed {
            let bytes = self.get(&meta.location).await;
            all.push((meta.location, bytes));
        }
        all
    }
}

/// A thief of a revoked key says in the log that the history begins anew with an old baseline, and puts the table of that time back.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_judged_by_the_newest_root_whatever_root_is_held() {
    let fixture = Fixture::unsealed().await;
    let [chief, alice, bob] = [(); 3].map(|()| PrivateKey::generate().unwrap());
    let sealers: Vec<VerifyingKey> = vec![alice.public().into(), bob.public().into()];
    let now_ms = SystemClock.now_ms();
    let root = TrustRoot {
        name: "t".into(),
        version: 1,
        previous: None,
        created_ms: now_ms,
        expires_ms: None,
        roles: BTreeMap::from([
            (Role::Root, RoleKeys { keys: vec![chief.public().into()], threshold: 1 }),
            (Role::Sealer, RoleKeys { keys: sealers.clone(), threshold: 1 }),
        ]),
        names: BTreeMap::new(),
        revoked: Vec::new(),
    };
    let one = signed(root.clone(), &chief).await;
    fixture.seal_under(&one, &alice).await;
    let before = fixture.all().await;
    let repository = fixture.location.repository();
    let first = repository.names().await.unwrap()[0];

    let mut root = TrustRoot { version: 2, previous: Some(one.digest()), ..root };
    root.roles.insert(Role::Sealer, RoleKeys { keys: vec![sealers[1]], threshold: 1 });
    let table = fixture.location.url().to_string();
    let last_good = vec![LastGood { table: table.clone(), number: 1, digest: first.digest }];
    root.revoked.push(Revocation { key: sealers[0], revoked_ms: now_ms, reason: "stolen".into(), last_good });
    repository.publish_root(&signed(root, &chief).await).await.unwrap();
    delta::open(&fixture.location, None).await.unwrap().write([batch(4000..4100)]).await.unwrap();
    fixture.seal_under(&one, &bob).await;

    let trust = Trust::from_root(one);
    let logged = LoggedBaseline { table, path: "flights".into(), number: 1, digest: first.digest, restart: true };
    let record = Record { baselines: vec![logged], now_ms, ..Record::default() };
    let appended = fixture.location.log().append(&record, &alice, &LogKeys::of(&trust)).await.unwrap();
    assert_eq!(appended.index, Some(2));
    let is_kept = |path: &Path| path.as_ref().starts_with("_seal/") || path.as_ref().contains("/_seal/trust/");
    for (path, _) in fixture.all().await.into_iter().filter(|(path, _)| !is_kept(path)) {
        fixture.lake.store.delete(&path).await.unwrap();
    }
    for (path, bytes) in before.into_iter().filter(|(path, _)| !is_kept(path)) {
        fixture.lake.store.put(&path, bytes.into()).await.unwrap();
    }
    let options = SessionOptions { lake: Some(fixture.lake.clone()), trust: Some(trust), tables: TableOptions::default() };
    let session = SealedSession::new(options).await.unwrap();
    let error = session.run("SELECT COUNT(*) FROM flights").await.unwrap_err();
    names(&error, &["lists baseline 2", "the newest is 1"]);
}

/// Whose attestations lineage believes is what the newest root says, as it is for audits and queries.
#[tokio::test(flavor = "multi_thread")]
async fn lineage_is_attested_by_the_writers_of_the_newest_root() {
    let world = World::new().await;
    let [chief, former] = [(); 2].map(|()| PrivateKey::generate().unwrap());
    let role = |key: &PrivateKey| RoleKeys { keys: vec![key.public().into()], threshold: 1 };
    let root = TrustRoot {
        name: "t".into(),
        version: 1,
        previous: None,
        created_ms: SystemClock.now_ms(),
        expires_ms: None,
        roles: BTreeMap::from([(Role::Root, role(&chief)), (Role::Sealer, role(&chief)), (Role::Writer, role(&former))]),
        names: BTreeMap::new(),
        revoked: Vec::new(),
    };
    let one = signed(root.clone(), &chief).await;
    let attested = async || {
        let trust = Trust::from_root(one.clone());
        let writers = Writers::listed([former.public()]).until_newer_root();
        let tables = TableOptions { writers, ..TableOptions::default() };
        let options = SessionOptions { lake: Some(world.lake.clone()), trust: Some(trust), tables };
        let session = SealedSession::new(options).await.unwrap();
        session.lineage("raw").await.unwrap().1[0].attested_by
    };
    assert_eq!(attested().await, None, "the root that is held lists another writer");
    let mut next = TrustRoot { version: 2, previous: Some(one.digest()), ..root };
    next.roles.insert(Role::Writer, role(&writer()));
    world.location("raw").repository().publish_root(&signed(next, &chief).await).await.unwrap();
    assert_eq!(attested().await, Some(writer().public().id()));
}
