//! One attack after another: copy the sealed table, edit, ask a stock reader, ask Lakeseal, judge.

use std::collections::BTreeMap;
use std::path::Path as FilePath;

use lakeseal::baseline::{AuditReport, Outcome, SealOptions, Verdict};
use lakeseal::sql::ReadMode;
use serde::Deserialize;

use super::super::support::arena::{Arena, Kind, line};
use super::super::support::stock::{Answer, Stock};
use super::outcome;

/// An attack, as the scripts describe it.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    pub number: String,
    pub title: String,
    pub base: String,
    pub query: String,
    pub owed: String,
    pub moment: String,
    pub place: Vec<String>,
    pub probe: String,
    /// Object of the table to file with its new bytes; absent to delete it.
    pub edits: BTreeMap<String, Option<String>>,
    /// Times that the thief sets, in milliseconds.
    pub times: BTreeMap<String, u64>,
}

/// What an attack came to.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    pub number: String,
    pub title: String,
    pub lake: String,
    pub stock: String,
    pub query: String,
    pub audit: String,
    pub owed: String,
    pub place: String,
    pub restored: String,
    pub failures: Vec<String>,
}

impl Judged {
    /// By number, letters last.
    pub fn order(&self) -> (u32, String, String, String) {
        let number = self.number.split([',', '-']).next().and_then(|n| n.trim().parse().ok()).unwrap_or(u32::MAX);
        (number, self.number.clone(), self.title.clone(), self.lake.clone())
    }

    pub fn name(&self) -> String {
        format!("{} {} ({})", self.number, self.title, self.lake)
    }

    pub fn row(&self) -> Vec<String> {
        let query = if self.failures.is_empty() { self.query.clone() } else { format!("FAILED {}", self.query) };
        let cells = [&self.number, &self.title, &self.lake, &self.stock, &query, &self.audit, &self.owed, &self.place, &self.restored];
        cells.into_iter().cloned().collect()
    }
}

/// A sealed table, and what it answers honestly.
pub struct Base {
    pub arena: Arena,
    /// Of a stock reader, and of Lakeseal: the same but for times, which objects that were uploaded anew have of their own.
    honest: BTreeMap<(String, String), (Answer, Answer)>,
}

/// Uploads and seals every base that some attack needs, over both kinds of lake.
pub async fn bases(root: &FilePath, entries: &[&Entry]) -> BTreeMap<(Kind, String), Base> {
    let mut bases = BTreeMap::new();
    for kind in Kind::ALL {
        for entry in entries {
            let key = (kind, entry.base.clone());
            if !bases.contains_key(&key) {
                let arena = Arena::new(kind).await;
                arena.upload(&root.join("bases").join(&entry.base).join("t")).await;
                let sealed = arena.seal().await;
                assert!(sealed.first, "{}", entry.base);
                let report = arena.audit().await;
                assert_eq!(report.outcome(), Outcome::Intact, "{} was never touched: {report:#?}", entry.base);
                bases.insert(key.clone(), Base { arena, honest: BTreeMap::new() });
            }
            let base = bases.get_mut(&key).unwrap();
            let asked = (entry.probe.clone(), entry.query.clone());
            if !base.honest.contains_key(&asked) {
                let answer = Stock::open(&base.arena).await.probe(&entry.probe, &entry.query).await;
                let sealed = outcome::sealed_query(&base.arena, ReadMode::Latest, &entry.probe, &entry.query).await;
                if entry.probe != "as_of" {
                    assert_eq!(answer.text, sealed.answer.text, "{}: {} of an untouched table", entry.base, entry.query);
                }
                base.honest.insert(asked, (answer, sealed.answer));
            }
        }
    }
    bases
}

/// Runs one attack on a copy of its base.
pub async fn run(root: &FilePath, base: &Base, entry: &Entry) -> Judged {
    let arena = base.arena.copy().await;
    let (stock_honest, honest) = &base.honest[&(entry.probe.clone(), entry.query.clone())];
    let during = entry.moment == "during";
    let (mut stock, mut session) = (None, None);
    if during {
        let opened = Stock::open(&arena).await;
        assert_eq!(opened.probe(&entry.probe, &entry.query).await.text, stock_honest.text);
        stock = Some(opened);
        let opened = arena.session(ReadMode::Latest).await.unwrap();
        opened.run(&entry.query).await.unwrap();
        session = Some(opened);
    }
    edit(root, &arena, entry).await;
    let stock = match stock {
        Some(opened) => opened.probe(&entry.probe, &entry.query).await,
        // What a stock writer commits must not stand in the copy that Lakeseal writes to and audits.
        None if entry.probe == "insert" => {
            let control = base.arena.copy().await;
            edit(root, &control, entry).await;
            Stock::open(&control).await.probe(&entry.probe, &entry.query).await
        }
        None => Stock::open(&arena).await.probe(&entry.probe, &entry.query).await,
    };
    let latest = match session {
        Some(opened) => outcome::run_in(&opened, &entry.query).await,
        None => outcome::sealed_query(&arena, ReadMode::Latest, &entry.probe, &entry.query).await,
    };
    let sealed = outcome::sealed_query(&arena, ReadMode::Sealed, &entry.probe, &entry.query).await;
    let report = match arena.audit_with(Default::default()).await {
        Ok(report) => report,
        Err(error) => return Judged { failures: vec![format!("the audit failed: {}", line(&error))], ..begun(arena.kind, entry) },
    };
    let mut judged = Judged {
        stock: stock.beside(stock_honest),
        query: if entry.probe == "changes" { "change data is not offered".to_owned() } else { latest.beside(honest) },
        audit: verdicts(&report),
        place: placed(&report, &entry.place).unwrap_or_else(|| "-".to_owned()),
        failures: outcome::judge(entry, honest, &latest, &sealed, &report),
        ..begun(arena.kind, entry)
    };
    if entry.probe == "seal" {
        let sealed = arena.try_seal(SealOptions { force: true, ..SealOptions::default() }).await;
        match sealed {
            Err(error) => judged.query = format!("seal refused: {}", line(&error)),
            Ok(_) => judged.failures.push("a poisoned table was sealed".to_owned()),
        }
    }
    judged.restored = restored(base, &arena, entry, honest, &mut judged.failures).await;
    judged
}

fn begun(kind: Kind, entry: &Entry) -> Judged {
    Judged {
        number: entry.number.clone(),
        title: entry.title.clone(),
        lake: kind.name().to_owned(),
        owed: entry.owed.clone(),
        ..Judged::default()
    }
}

async fn edit(root: &FilePath, arena: &Arena, entry: &Entry) {
    for (name, file) in &entry.edits {
        let bytes = file.as_ref().map(|file| std::fs::read(root.join(file)).unwrap());
        arena.replace(name, bytes, entry.times.get(name).copied()).await;
    }
    if entry.probe == "strip" {
        use futures::TryStreamExt as _;
        let seals: Vec<_> = arena.store.list(Some(&arena.path("_seal"))).try_collect().await.unwrap();
        assert!(!seals.is_empty());
        for object in seals {
            object_store::ObjectStoreExt::delete(&arena.store, &object.location).await.unwrap();
        }
    }
}

fn verdicts(report: &AuditReport) -> String {
    let found: Vec<String> =
        report.summary.iter().filter(|(verdict, _)| **verdict != Verdict::Intact).map(|(verdict, n)| format!("{n} {verdict}")).collect();
    if found.is_empty() { "intact".to_owned() } else { found.join(", ") }
}

/// The finding that has all words, or as many as any, and says so in short.
fn placed(report: &AuditReport, words: &[String]) -> Option<String> {
    let has = |text: &str| words.iter().filter(|word| text.contains(word.as_str())).count();
    let texts = report.findings.iter().map(ToString::to_string);
    texts.filter(|text| has(text) > 0).max_by_key(|text| has(text))
}

/// Puts back what the lake retains, and asks again.
async fn restored(base: &Base, arena: &Arena, entry: &Entry, honest: &Answer, failures: &mut Vec<String>) -> String {
    if arena.erasure.is_none() || entry.probe == "strip" {
        return "-".to_owned();
    }
    for name in entry.edits.keys() {
        let before = base.arena.get(name).await;
        if arena.put_back(name, before.as_deref()).await.is_none() {
            failures.push(format!("{name} cannot be put back from what is retained"));
            return "no".to_owned();
        }
    }
    let report = arena.audit().await;
    if report.outcome() != Outcome::Intact {
        failures.push(format!("what was put back is not intact: {:?}", report.findings));
    }
    let again = outcome::sealed_query(arena, ReadMode::Latest, &entry.probe, &entry.query).await;
    if again.answer.text != honest.text {
        failures.push(format!("what was put back answers {}", again.answer.text));
    }
    "exactly".to_owned()
}
