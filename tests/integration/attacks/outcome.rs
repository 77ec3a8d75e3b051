//! What Lakeseal answers, and whether it is what is owed.

use lakeseal::baseline::{AuditReport, Outcome};
use lakeseal::sql::{ReadMode, SealedSession};
use lakeseal::{Error, ErrorKind};

use super::super::support::arena::{Arena, line};
use super::super::support::stock::{self, Answer, shown};
use super::corpus::Entry;

/// What a sealed session said, and what it noted beside it.
#[derive(Debug, Clone)]
pub struct Sealed {
    pub answer: Answer,
    pub error: Option<ErrorKind>,
    pub notes: Vec<String>,
}

impl Sealed {
    fn of(result: Result<String, Error>, notes: Vec<String>) -> Self {
        let error = result.as_ref().err().map(Error::kind);
        Self { answer: Answer::of(result.map_err(|e| line(&e))), error, notes }
    }

    /// In short, beside what is true.
    pub fn beside(&self, honest: &Answer) -> String {
        match self.error {
            None if self.answer == *honest => "exact".to_owned(),
            None => format!("{} for {}, noted as unsealed", self.answer.text, honest.text),
            Some(kind) => format!("refused ({kind:?})"),
        }
    }
}

/// Runs a probe in a new session.
pub async fn sealed_query(arena: &Arena, mode: ReadMode, probe: &str, query: &str) -> Sealed {
    // A reader who knows that the table was sealed says so.
    let session = match arena.session_with(mode, probe == "strip").await {
        Ok(session) => session,
        Err(error) => return Sealed::of(Err(error), Vec::new()),
    };
    match probe {
        "as_of" => as_of(arena, &session).await,
        "insert" => insert(&session).await,
        // Change data is not offered to queries: an audit reads it.
        "changes" => Sealed::of(Ok(stock::Stock::open(arena).await.probe("changes", query).await.text), session.notes()),
        _ => run_in(&session, query).await,
    }
}

/// Runs a query in a session that is open.
pub async fn run_in(session: &SealedSession, query: &str) -> Sealed {
    let result = session.run(query).await.map(|batches| shown(&batches));
    Sealed::of(result, session.notes())
}

/// Time travel by deltalake itself, over the verified store.
async fn as_of(arena: &Arena, session: &SealedSession) -> Sealed {
    let result = async {
        let opened = session.register("verified", &arena.location).await?;
        opened.check()?;
        let location = arena.location.through(std::sync::Arc::new(opened.store().clone()))?;
        let mut table = lakeseal::delta::open(&location, None).await?;
        let time = chrono::DateTime::from_timestamp_millis(stock::AS_OF_MS).unwrap();
        let loaded = table.load_with_datetime(time).await;
        loaded.map_err(|e| Error::new(ErrorKind::InvalidInput, e.to_string()))?;
        Ok(format!("version {}", table.version().unwrap_or_default()))
    };
    Sealed::of(result.await, session.notes())
}

async fn insert(session: &SealedSession) -> Sealed {
    let result = match session.run("INSERT INTO t VALUES (9999, '0', -5.0, 'bad')").await {
        Ok(_) => Ok("accepted".to_owned()),
        Err(error) if error.to_string().contains("failed validation") => Ok("refused: the constraint".to_owned()),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok("refused: the constraint".to_owned()),
        Err(error) => Err(error),
    };
    Sealed::of(result, session.notes())
}

/// What is owed and was not delivered.
pub fn judge(entry: &Entry, honest: &Answer, latest: &Sealed, sealed: &Sealed, report: &AuditReport) -> Vec<String> {
    let mut failures = Vec::new();
    let outcome = report.outcome();
    let exact = |found: &Sealed| found.error.is_none() && found.answer == *honest;
    let refusal = |kind| matches!(kind, ErrorKind::Mismatch | ErrorKind::Unavailable | ErrorKind::Corrupt);
    let refused = |found: &Sealed| found.error.is_some_and(|kind| refusal(kind) || entry.probe == "strip" && kind == ErrorKind::NotFound);
    let audited_only = entry.probe == "changes";
    if !(audited_only || exact(sealed) || refused(sealed)) {
        failures.push(format!("the sealed version was answered by {:?}", sealed.answer));
    }
    let noted = |found: &Sealed| !found.notes.is_empty();
    let allowed = match entry.owed.as_str() {
        "placed" | "hidden" => exact(latest) || refused(latest),
        _ => exact(latest) || refused(latest) || noted(latest),
    };
    if !(audited_only || allowed) {
        failures.push(format!("the newest version was answered by {:?}, notes {:?}", latest.answer, latest.notes));
    }
    let owed = match entry.owed.as_str() {
        "placed" => outcome == Outcome::Mismatch,
        "detected" => matches!(outcome, Outcome::Mismatch | Outcome::Undetermined),
        "exposed" => outcome != Outcome::Intact,
        _ => outcome == Outcome::Intact && exact(latest),
    };
    if !owed {
        failures.push(format!("owed: {}; the audit came to {outcome:?}: {:?}", entry.owed, report.findings));
    }
    let texts: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let missing = entry.place.iter().filter(|word| entry.owed != "hidden" && !texts.iter().any(|text| text.contains(word.as_str())));
    failures.extend(missing.map(|word| format!("no finding names \"{word}\": {texts:?}")));
    failures
}
