//! Attacks that need more than edits of one sealed table: other baselines, other times, other plans.

use std::path::Path as FilePath;
use std::sync::Arc;

use deltalake::DeltaTable;
use lakeseal::ErrorKind;
use lakeseal::baseline::{AuditOptions, AuditReport, Outcome, SealOptions, Verdict};
use lakeseal::clock::{Clock as _, ManualClock, SystemClock};
use lakeseal::sql::ReadMode;

use super::super::support::arena::{Arena, Kind, line};
use super::super::support::stock::Stock;
use super::corpus::{Entry, Judged};
use super::outcome;

const COUNT: &str = "SELECT COUNT(*) FROM t";

/// All of them, over both kinds of lake.
pub async fn all(root: &FilePath) -> Vec<Judged> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let mut base = Arena::new(kind).await;
        base.upload(&root.join("bases/flat/t")).await;
        base.seal().await;
        all.push(expired(&mut base).await);
        all.push(expires_while_open(&mut base).await);
        all.push(frozen(&base).await);
        all.push(forked(&base).await);
        all.push(replayed(root, &base, "parted", "on another table").await);
        all.push(stripped(&base).await);
        all.push(signature_gone(&base).await);
        all.push(bypassed(&base).await);
        all.push(paged(root, kind).await);
    }
    all
}

fn judged(arena: &Arena, number: &str, title: &str, stock: &str, owed: &str) -> Judged {
    Judged {
        number: number.to_owned(),
        title: title.to_owned(),
        lake: arena.kind.name().to_owned(),
        stock: stock.to_owned(),
        owed: owed.to_owned(),
        place: "-".to_owned(),
        restored: "-".to_owned(),
        ..Judged::default()
    }
}

/// Requires a verdict of the audit, whose finding is the place.
fn audited(judged: &mut Judged, report: &AuditReport, verdict: Verdict) {
    let found = report.findings.iter().find(|finding| finding.verdict == verdict);
    judged.audit = report.findings.iter().map(|f| f.verdict.to_string()).collect::<Vec<_>>().join(", ");
    match found {
        Some(finding) => judged.place = finding.to_string(),
        None => judged.failures.push(format!("the audit did not find {verdict}: {:?}", report.findings)),
    }
}

async fn refused(judged: &mut Judged, arena: &Arena, kind: ErrorKind) {
    let result = match arena.session(ReadMode::Latest).await {
        Ok(session) => session.run(COUNT).await.map(|_| ()),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == kind => judged.query = format!("refused ({kind:?})"),
        other => judged.failures.push(format!("the query was not refused: {other:?}")),
    }
}

async fn expired(base: &mut Arena) -> Judged {
    let mut judged = judged(base, "13", "freeze at a state whose baseline has expired", "no notion of it", "detected");
    let year = 366 * 86_400_000;
    base.clock = Arc::new(ManualClock::new(SystemClock.now_ms() + year));
    audited(&mut judged, &base.audit().await, Verdict::Expired);
    refused(&mut judged, base, ErrorKind::Mismatch).await;
    base.clock = Arc::new(SystemClock);
    judged
}

async fn expires_while_open(base: &mut Arena) -> Judged {
    let mut judged = judged(base, "Q", "freeze: the baseline expires while a session is open", "no notion of it", "detected");
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    base.clock = clock.clone();
    let session = base.session(ReadMode::Latest).await.unwrap();
    session.run(COUNT).await.unwrap();
    clock.advance(366 * 86_400_000);
    match session.run(COUNT).await {
        Err(error) if error.kind() == ErrorKind::Mismatch => judged.query = "refused (Mismatch)".to_owned(),
        other => judged.failures.push(format!("an expired baseline still serves: {other:?}")),
    }
    audited(&mut judged, &base.audit().await, Verdict::Expired);
    base.clock = Arc::new(SystemClock);
    judged
}

/// Appends a row by deltalake, over the arena's own store.
async fn append(arena: &Arena, id: i64) {
    use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
    let row = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![id])) as _),
        ("label", Arc::new(StringArray::from(vec!["0"])) as _),
        ("value", Arc::new(Float64Array::from(vec![5.0])) as _),
        ("note", Arc::new(StringArray::from(vec!["appended"])) as _),
    ]);
    let mut table = DeltaTable::try_from_url(arena.engine_url()).await.unwrap();
    table.load().await.unwrap();
    table.write([row.unwrap()]).await.unwrap();
}

async fn frozen(base: &Arena) -> Judged {
    let mut judged = judged(base, "13", "freeze at a stale, validly signed state; the reader has a pin", "silent", "detected");
    let newer = base.copy().await;
    append(&newer, 9000).await;
    let sealed = newer.seal().await.baseline;
    let options = AuditOptions { pin: Some((sealed.number, sealed.digest)), ..AuditOptions::default() };
    audited(&mut judged, &base.audit_with(options).await.unwrap(), Verdict::RolledBack);
    judged.query = "pins are the audit's".to_owned();
    judged
}

async fn forked(base: &Arena) -> Judged {
    let mut judged = judged(base, "14", "fork: two histories for two readers; one has a pin", "silent", "detected");
    let (one, other) = (base.copy().await, base.copy().await);
    append(&one, 9000).await;
    append(&other, 9001).await;
    let pin = one.seal().await.baseline;
    other.seal().await;
    let options = AuditOptions { pin: Some((pin.number, pin.digest)), ..AuditOptions::default() };
    audited(&mut judged, &other.audit_with(options).await.unwrap(), Verdict::Forged);
    judged.query = "pins are the audit's".to_owned();
    judged
}

/// The seals of one table beside another one.
async fn replayed(root: &FilePath, base: &Arena, other: &str, title: &str) -> Judged {
    let mut judged = judged(base, "33", &format!("seals replayed {title}"), "no notion of it", "detected");
    let target = Arena::new(base.kind).await;
    target.upload(&root.join("bases").join(other).join("t")).await;
    copy_seals(base, &target).await;
    audited(&mut judged, &target.audit().await, Verdict::Untrusted);
    refused(&mut judged, &target, ErrorKind::Mismatch).await;
    judged
}

async fn seals(arena: &Arena) -> Vec<String> {
    use futures::TryStreamExt as _;
    let all: Vec<_> = arena.store.list(Some(&arena.path("_seal"))).try_collect().await.unwrap();
    all.into_iter().map(|meta| meta.location.as_ref().strip_prefix("t/").unwrap().to_owned()).collect()
}

async fn copy_seals(from: &Arena, to: &Arena) {
    for name in seals(from).await {
        to.put(&name, from.get(&name).await.unwrap()).await;
    }
}

async fn stripped(base: &Arena) -> Judged {
    let mut judged = judged(base, "41", "strip: delete all of _seal/; the reader has a pin", "no notion of it", "detected");
    let pin = base.try_seal(SealOptions::default()).await.unwrap().baseline;
    let arena = base.copy().await;
    for name in seals(&arena).await {
        arena.replace(&name, None, None).await;
    }
    let options = AuditOptions { pin: Some((pin.number, pin.digest)), ..AuditOptions::default() };
    audited(&mut judged, &arena.audit_with(options).await.unwrap(), Verdict::RolledBack);
    judged.query = "pins are the audit's".to_owned();
    judged
}

async fn signature_gone(base: &Arena) -> Judged {
    let mut judged = judged(base, "R", "overwrite the newest signature with junk; the reader has a pin", "no notion of it", "detected");
    let arena = base.copy().await;
    append(&arena, 9000).await;
    let pin = arena.seal().await.baseline;
    let name = seals(&arena).await.into_iter().find(|name| name.contains("signatures") && name.contains(&pin.digest.to_string())).unwrap();
    arena.replace(&name, Some(b"junk".to_vec()), None).await;
    let report = arena.audit().await;
    if report.outcome() == Outcome::Intact {
        judged.failures.push("without a pin, a baseline that lost its signature leaves no trace".to_owned());
    }
    let options = AuditOptions { pin: Some((pin.number, pin.digest)), ..AuditOptions::default() };
    audited(&mut judged, &arena.audit_with(options).await.unwrap(), Verdict::RolledBack);
    judged.query = "unsealed, noted; pins are the audit's".to_owned();
    judged
}

/// The page index of attack 25, stored before anything was sealed: no statistics of column chunks contradict it.
async fn paged(root: &FilePath, kind: Kind) -> Judged {
    let entries: Vec<Entry> = serde_json::from_slice(&std::fs::read(root.join("attacks.json")).unwrap()).unwrap();
    let entry = entries.into_iter().find(|entry| entry.number == "25").unwrap();
    let arena = Arena::new(kind).await;
    arena.upload(&root.join("bases").join(&entry.base).join("t")).await;
    let honest = Stock::open(&arena).await.probe(&entry.probe, &entry.query).await;
    for (name, file) in &entry.edits {
        arena.put(name, std::fs::read(root.join(file.as_ref().unwrap())).unwrap()).await;
    }
    arena.seal().await;
    let stock = Stock::open(&arena).await.probe(&entry.probe, &entry.query).await;
    let mut judged = judged(&arena, "25", "edit the page index before the first seal", &stock.beside(&honest), "hidden");
    if stock == honest {
        judged.failures.push("the page index misleads nobody".to_owned());
    }
    let report = arena.audit().await;
    judged.audit = format!("{:?}", report.outcome()).to_lowercase();
    if report.outcome() != Outcome::Intact {
        judged.failures.push(format!("what was sealed is not intact: {:?}", report.findings));
    }
    let found = outcome::sealed_query(&arena, ReadMode::Latest, &entry.probe, &entry.query).await;
    judged.query = found.beside(&honest);
    if found.error.is_some() || found.answer != honest {
        judged.failures.push(format!("the page index steers a verified query: {:?}", found.answer));
    }
    judged
}

/// deltalake's own provider of a sealed table in a sealed session, over a store that was registered beside it.
async fn bypassed(base: &Arena) -> Judged {
    let mut judged = judged(base, "S", "a plan that scans the sealed table past its verification", "-", "detected");
    let session = base.session(ReadMode::Latest).await.unwrap();
    let context = session.context();
    context.runtime_env().register_object_store(base.location.engine_url(), base.store.clone());
    let mut table = DeltaTable::try_from_url(base.engine_url()).await.unwrap();
    table.load().await.unwrap();
    context.runtime_env().register_object_store(table.log_store().object_store_url().as_ref(), base.store.clone());
    context.register_table("past", table.table_provider().await.unwrap()).unwrap();
    for query in ["SELECT SUM(value) FROM past", "SELECT t.id FROM t JOIN past ON t.id = past.id", "SELECT COUNT(*) FROM past WHERE id > 3"]
    {
        match session.run(query).await {
            Err(error) if error.kind() == ErrorKind::Permission => judged.query = format!("refused: {}", line(&error)),
            other => judged.failures.push(format!("{query} was not refused: {other:?}")),
        }
    }
    let exact = session.run("SELECT COUNT(*) FROM t a JOIN t b ON a.id = b.id").await;
    if let Err(error) = exact {
        judged.failures.push(format!("an honest plan was refused: {error}"));
    }
    judged.audit = "-".to_owned();
    judged
}
