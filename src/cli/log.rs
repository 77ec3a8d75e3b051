//! `log`, `inventory`, `prove`, `verify-proof`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Ending;
use super::args::{InventoryCommand, LogArgs, ProveArgs, VerifyProofArgs};
use super::context::{Context, OpenLake};
use super::integrity;
use super::output::{self, BAD, GOOD, NOTE, Output, bytes, count, styled};
use super::pins::PinFile;
use crate::baseline::log::proof::{self, FileHasher, PROOF_LIMIT_BYTES};
use crate::baseline::log::{Checkpoint, Hash, LogCheck, LogEntry, LoggedBaseline, Record};
use crate::baseline::{Finding, Inventory, InventoryRow, Log, LogKeys, LogPin, PinNames, Repository, Trust};
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Signer;
use crate::lake::write_whole;
use crate::printable::one_line;

/// How much of a digest people are shown in tables.
const SHORT_DIGEST: usize = 16;
const READ_BYTES: usize = 1 << 20;
/// A checkpoint that is given as a file is never larger, in bytes.
const CHECKPOINT_FILE_LIMIT_BYTES: u64 = 64 * 1024;

/// A log, and what it is of.
struct Place {
    _lake: Option<OpenLake>,
    log: Log,
    names: PinNames,
    name: String,
    /// The table's seals.
    repository: Option<Repository>,
    /// The canonical URL of the one table that is asked for.
    table: Option<String>,
}

impl Place {
    fn of_table(lake: Option<OpenLake>, location: &Location) -> Self {
        Self {
            _lake: lake,
            log: location.log(),
            names: location.pin_names(),
            name: location.name().to_owned(),
            repository: Some(location.repository()),
            table: location.is_in_lake().then(|| location.url().as_str().trim_end_matches('/').to_owned()),
        }
    }

    /// The log of the table, else that of the lake.
    async fn of(table: Option<&str>, context: &Context) -> Result<Self> {
        if let Some(table) = table {
            let (lake, location) = context.table(table).await?;
            return Ok(Self::of_table(lake, &location));
        }
        if !context.has_config()? {
            let what = "name a table: without a lake there is no log of all";
            return Err(Error::new(ErrorKind::Config, what));
        }
        let lake = context.lake().await?;
        let id = lake.lake.record.lake;
        let log = Log::new(lake.store.clone(), object_store::path::Path::default()).of_lake(id);
        let name = format!("the lake {}", lake.named.name);
        Ok(Self { log, names: PinNames::new("", Some((id, ""))), name, repository: None, table: None, _lake: Some(lake) })
    }

    /// The newest trust that is published beside the table, else beside the log, and the keys that it has for the log.
    async fn keys(&self, trust: &Trust) -> Result<(Trust, LogKeys)> {
        let repository = self.repository.clone().unwrap_or_else(|| self.log.repository());
        let newest = repository.newest_trust(trust).await?;
        let keys = self.log.keys(&newest, self.repository.as_ref()).await?;
        Ok((newest, keys))
    }
}

pub(super) async fn log(args: LogArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    if args.check_consistency {
        return check(args, context, out).await;
    }
    if args.checkpoint {
        let trust = context.trust(&args.trust)?;
        let place = Place::of(args.table.as_deref(), context).await?;
        let newest = place.log.newest_checkpoint(&place.keys(&trust).await?.1).await?;
        let (_, note) = newest.ok_or_else(|| unlogged(&place.name))?;
        out.bytes(note.as_bytes())?;
        return Ok(Ending::Done);
    }
    match args.table {
        Some(table) => integrity::baselines(&table, &args.trust, args.json, context, out).await,
        None => entries(args, context, out).await,
    }
}

fn unlogged(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "nothing that you trust is in the log: it has no baselines yet, or was taken away").with("log of", name)
}

fn short(hash: &Hash) -> String {
    hex::encode(hash).chars().take(SHORT_DIGEST).collect()
}

/// Lists all entries of a lake's log.
async fn entries(args: LogArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let trust = context.trust(&args.trust)?;
    let place = Place::of(None, context).await?;
    let (_, keys) = place.keys(&trust).await?;
    let entries = place.log.entries(0, &keys.entries).await?;
    if args.json {
        for entry in &entries {
            out.line(entry_json(entry))?;
        }
        return Ok(Ending::Done);
    }
    if entries.is_empty() {
        out.line(format_args!("{}: no entries in the log of baselines; `lakeseal seal TABLE` makes the first", place.name))?;
        return Ok(Ending::Done);
    }
    let rows = entries.iter().flat_map(entry_rows).collect();
    out.line(output::aligned(&["entry", "made", "table", "baseline", "digest", "what"], &[0, 3], rows))?;
    Ok(Ending::Done)
}

fn entry_rows(entry: &LogEntry) -> Vec<Vec<String>> {
    let index = entry.index.to_string();
    let Some(signed) = &entry.signed else {
        return vec![[index.as_str(), "-", "-", "-", "-", "not signed by anybody you trust"].map(str::to_owned).to_vec()];
    };
    let made = output::time(signed.entry.time_ms);
    let together = signed.entry.baselines.len() > 1;
    let row = |b: &LoggedBaseline| {
        let digest: String = b.digest.to_string().chars().take(SHORT_DIGEST).collect();
        let what = match (b.restart, together) {
            (true, _) => "sealed anew",
            (false, true) => "sealed as one",
            (false, false) => "sealed",
        };
        vec![index.clone(), made.clone(), b.table.clone(), b.number.to_string(), digest, what.to_owned()]
    };
    let dropped = |table: &String| vec![index.clone(), made.clone(), table.clone(), "-".to_owned(), "-".to_owned(), "given up".to_owned()];
    signed.entry.baselines.iter().map(row).chain(signed.entry.retired.iter().map(dropped)).collect()
}

fn entry_json(entry: &LogEntry) -> Value {
    let signed = entry.signed.as_ref();
    let baseline = |b: &LoggedBaseline| json!({"table": b.table, "number": b.number, "digest": b.digest.to_string(), "restart": b.restart});
    json!({
        "entry": entry.index,
        "leaf": hex::encode(entry.hash),
        "made_ms": signed.map(|s| s.entry.time_ms),
        "signed_by": signed.map(|s| s.signers.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "baselines": signed.map(|s| s.entry.baselines.iter().map(baseline).collect::<Vec<_>>()),
        "retired": signed.map(|s| &s.entry.retired),
    })
}

/// Reads the whole log, and holds it against what is signed, pinned and given.
async fn check(args: LogArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let trust = context.trust(&args.trust)?;
    let mut pins = PinFile::read_if_any(args.pin.as_deref()).await?;
    let place = Place::of(args.table.as_deref(), context).await?;
    let (_, keys) = place.keys(&trust).await?;
    let mut known: Vec<(String, LogPin)> = Vec::new();
    known.extend(pins.as_ref().and_then(|pins| pins.pins.log(&place.names)).map(|pin| ("the pin".to_owned(), pin.clone())));
    for file in &args.against {
        known.push((file.display().to_string(), given_checkpoint(file, &keys)?));
    }
    let LogCheck { newest, findings } = place.log.check(&keys, &known).await?;
    if newest.is_none() && known.is_empty() {
        return Err(unlogged(&place.name));
    }
    let state = newest.as_ref().map(|newest| LogPin::from(newest.inventory.checkpoint()));
    let ending = if findings.is_empty() { Ending::Done } else { Ending::Mismatch };
    if args.json {
        out.line(json!({
            "log": state.as_ref().map(|state| &state.origin),
            "size": state.as_ref().map(|state| state.size),
            "root": state.as_ref().map(|state| hex::encode(state.root)),
            "held_against": known.iter().map(|(from, pin)| json!({"from": from, "size": pin.size, "root": hex::encode(pin.root)})).collect::<Vec<_>>(),
            "findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        let verdict = if findings.is_empty() { styled(GOOD, "consistent") } else { styled(BAD, "MISMATCH") };
        out.line(format_args!("{}: log {verdict}", place.name))?;
        if let Some(state) = &state {
            out.line(format_args!("  origin    {}", state.origin))?;
            out.line(format_args!("  entries   {}", count(state.size)))?;
            out.line(format_args!("  root      {}", hex::encode(state.root)))?;
        }
        for (from, pin) in &known {
            out.line(format_args!("  against   {from}: {} entries, root {}…", count(pin.size), short(&pin.root)))?;
        }
        for line in integrity::findings(&findings) {
            out.line(format_args!("  {line}"))?;
        }
    }
    if let (Some(pins), Some(state), true) = (&mut pins, &state, findings.is_empty())
        && pins.is_kept()
        && pins.raise_log(&place.names, state)?
        && !args.json
    {
        out.line(format_args!("  pin       {} entries", count(state.size)))?;
    }
    Ok(ending)
}

fn given_checkpoint(file: &Path, keys: &LogKeys) -> Result<LogPin> {
    let note = read_limited(file, CHECKPOINT_FILE_LIMIT_BYTES)?;
    let unsigned = || Error::new(ErrorKind::Unauthentic, "not a checkpoint that a key you trust has signed").with("file", file.display());
    Checkpoint::open(&note, &keys.newest).map(|(checkpoint, _)| checkpoint.into()).ok_or_else(unsigned)
}

pub(super) async fn inventory(command: InventoryCommand, context: &Context, out: &mut Output) -> Result<Ending> {
    match command {
        InventoryCommand::Show { table, trust, json } => {
            let trust = context.trust(&trust)?;
            let place = Place::of(table.as_deref(), context).await?;
            show(&place, &trust, json, context, out).await
        }
        InventoryCommand::Renew { table, key, trust, expires_days } => {
            let place = Place::of(table.as_deref(), context).await?;
            let record = Record { renew: true, ..record(context, expires_days) };
            append(&place, &record, key.as_deref(), &trust, context, out).await
        }
        InventoryCommand::Drop { table, key, trust, expires_days } => {
            // The table itself may be gone: its name is what was sealed.
            let (lake, location) = context.table(&table).await?;
            let place = Place::of_table(lake, &location);
            let record = Record { retired: vec![location.url().to_string()], ..record(context, expires_days) };
            append(&place, &record, key.as_deref(), &trust, context, out).await
        }
    }
}

fn record(context: &Context, expires_days: u32) -> Record {
    let now_ms = context.clock.now_ms();
    let expires_ms = integrity::days(expires_days).map(|after| now_ms.saturating_add(after));
    Record { now_ms, expires_ms, ..Record::default() }
}

async fn append(
    place: &Place,
    record: &Record,
    key: Option<&Path>,
    trust: &[PathBuf],
    context: &Context,
    out: &mut Output,
) -> Result<Ending> {
    let key = context.sealer(key)?;
    let (_, keys) = place.keys(&context.trust(trust)?).await?;
    let appended = place.log.append(record, &key, &keys).await?;
    let checkpoint = appended.inventory.checkpoint();
    // Where it takes several sealers, a table is given up once enough of them have said so.
    let waits =
        |table: &String| keys.threshold > 1 && appended.inventory.tables.get(table.trim_end_matches('/')).is_some_and(|row| !row.retired);
    match (appended.index, record.retired.first()) {
        (None, Some(table)) if waits(table) => {
            let what = "this key has given the table up already; it is given up once other sealers repeat this command";
            return Err(Error::new(ErrorKind::AlreadyExists, what).with("table", table).with("sealers needed", keys.threshold));
        }
        (None, Some(table)) => {
            let what = "the log does not name this table, or it was given up already";
            return Err(Error::new(ErrorKind::NotFound, what).with("table", table));
        }
        (Some(index), _) => out.line(format_args!("{} in the log of {}, entry {index}", styled(GOOD, "recorded"), place.name))?,
        (None, None) => out.line(format_args!("{} the inventory of {}", styled(GOOD, "signed"), place.name))?,
    }
    out.line(format_args!("  entries   {}", count(checkpoint.size)))?;
    out.line(format_args!("  tables    {}", count(live(&appended.inventory).count() as u64)))?;
    out.line(format_args!("  signed by {}", key.public()))?;
    if let Some(expires) = record.expires_ms {
        out.line(format_args!("  expires   {}", output::time(expires)))?;
    }
    if record.retired.first().is_some_and(waits) {
        let needed = keys.threshold;
        let note = styled(NOTE, "note:");
        out.line(format_args!("  {note} the table is not given up yet: it takes {needed} sealers, each with this command"))?;
    }
    Ok(Ending::Done)
}

fn live(inventory: &Inventory) -> impl Iterator<Item = (&String, &InventoryRow)> {
    inventory.tables.iter().filter(|(_, row)| !row.retired)
}

/// Lists the tables, and whether each has the baseline that it must have.
async fn show(place: &Place, trust: &Trust, as_json: bool, context: &Context, out: &mut Output) -> Result<Ending> {
    let (trust, keys) = place.keys(trust).await?;
    let newest = place.log.newest(&keys).await?.ok_or_else(|| unlogged(&place.name))?;
    let expired = newest.expires_ms.is_some_and(|expires| expires <= context.clock.now_ms());
    let findings = newest.findings(&keys);
    let mut wrong = expired || findings.iter().any(|finding| finding.verdict.is_mismatch());
    let mut rows = Vec::new();
    let asked = |table: &String| place.table.as_ref().is_none_or(|asked| asked == table);
    if place.table.is_some() && !newest.inventory.tables.keys().any(asked) {
        let what = "the inventory does not list this table: it was never sealed here, or under another name";
        return Err(Error::new(ErrorKind::NotFound, what).with("table", &place.name));
    }
    for (table, row) in newest.inventory.tables.iter().filter(|(table, _)| asked(table)) {
        let missing = if row.retired { None } else { place.log.missing(row, &trust).await? };
        wrong |= missing.is_some();
        if as_json {
            out.line(json!({
                "table": table,
                "baseline": row.number,
                "digest": row.digest.to_string(),
                "entry": row.entry,
                "retired": row.retired,
                "mismatch": missing,
            }))?;
            continue;
        }
        let state = match (&missing, row.retired) {
            (Some(what), _) => styled(BAD, what),
            (None, true) => "given up".to_owned(),
            (None, false) => styled(GOOD, "there"),
        };
        let digest: String = row.digest.to_string().chars().take(SHORT_DIGEST).collect();
        rows.push(vec![table.clone(), row.number.to_string(), row.entry.to_string(), digest, state]);
    }
    for finding in findings.iter().filter(|_| as_json) {
        out.line(json!({"log": newest.inventory.log, "verdict": finding.verdict.name(), "detail": finding.detail}))?;
    }
    if !as_json {
        let signed = newest.signed.size;
        out.line(format_args!("{}: {} entries, {} of them in a signed inventory", place.name, newest.inventory.frontier.size(), signed))?;
        let until = newest.expires_ms.map_or_else(|| "never".to_owned(), output::time);
        out.line(format_args!("  origin    {}", newest.inventory.log))?;
        out.line(format_args!("  expires   {}{}", until, if expired { styled(BAD, " its term is over") } else { String::new() }))?;
        for finding in &findings {
            out.line(format_args!("  {} {}", styled(BAD, finding.verdict), one_line(&finding.detail)))?;
        }
        out.line(output::aligned(&["table", "baseline", "entry", "digest", "state"], &[1, 2], rows))?;
        if newest.signed.size < newest.inventory.frontier.size() {
            out.line(format_args!(
                "  {} the last entries are in no signed inventory yet: `lakeseal inventory renew` signs one",
                styled(NOTE, "note:")
            ))?;
        }
    }
    Ok(if wrong { Ending::Mismatch } else { Ending::Done })
}

/// Records the baselines of several tables as sealed as one. Says whether the log lists them so: it may take other sealers, too.
pub(super) async fn together(
    location: &Location,
    baselines: Vec<LoggedBaseline>,
    expires_ms: Option<i64>,
    key: &dyn Signer,
    trust: &Trust,
    context: &Context,
) -> Result<(LogPin, bool)> {
    let (first, count) = (baselines.first().map(|logged| logged.table.clone()), baselines.len());
    let record = Record { baselines, now_ms: context.clock.now_ms(), expires_ms, ..Record::default() };
    let log = location.log();
    let appended = log.append(&record, key, &log.keys(trust, Some(&location.repository())).await?).await?;
    let together = first.map_or(0, |table| appended.inventory.together(table.trim_end_matches('/')).count() + 1);
    Ok((appended.inventory.checkpoint().into(), together == count))
}

/// Tables that are sealed as one must be in one log.
pub(super) fn same_log(first: &Location, other: &Location) -> Result<()> {
    if first.is_in_lake() && other.is_in_lake() {
        return Ok(());
    }
    let what = "only tables of one lake can be sealed as one: a table outside of a lake has a log of its own";
    Err(Error::new(ErrorKind::InvalidInput, what).with("table", first.name()).with("together with", other.name()))
}

pub(super) async fn prove(args: ProveArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let trust = context.trust(&args.trust)?;
    let (_lake, location) = context.table(&args.table).await?;
    let repository = location.repository();
    let unsealed = || Error::new(ErrorKind::NotFound, "nobody whom you trust has sealed this table").with("table", location.name());
    let sealed = repository.newest_baseline(&trust).await?.ok_or_else(unsealed)?;
    let proof = location.log().prove(&sealed, &args.file, &repository, &trust).await?;
    let Some(file) = &args.out else {
        out.bytes(&proof)?;
        return Ok(Ending::Done);
    };
    let failed = |e: std::io::Error| Error::new(ErrorKind::Io, "could not write the proof").with("file", file.display()).caused_by(e);
    write_whole(file, &proof, false).map_err(failed)?;
    let size = u64::try_from(proof.len()).unwrap_or(u64::MAX);
    out.line(format_args!("{} {} is in baseline {} of {}", styled(GOOD, "proved"), args.file, sealed.baseline.number, location.name()))?;
    out.line(format_args!("  proof     {}, {}", file.display(), bytes(size)))?;
    Ok(Ending::Done)
}

pub(super) fn verify_proof(args: &VerifyProofArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let trust = context.trust(&args.trust)?;
    let proof = read_limited(&args.proof, PROOF_LIMIT_BYTES)?;
    let hasher = hash_file(&args.file)?;
    let proven = match proof::verify(&proof, &hasher, &trust, context.clock.now_ms()) {
        Ok(proven) => proven,
        // As for an audit: what nobody trusted has signed is a mismatch.
        Err(e) if e.kind() == ErrorKind::Unauthentic => {
            output::report(&e.with("proof", args.proof.display()));
            return Ok(Ending::Mismatch);
        }
        Err(e) => return Err(e.with("proof", args.proof.display()).with("file", args.file.display())),
    };
    let baseline = &proven.baseline;
    if args.json {
        out.line(json!({
            "table": baseline.location,
            "path": proven.path,
            "size": proven.size,
            "blake3": proven.digest.to_string(),
            "sha256": hex::encode(proven.sha256),
            "rows": proven.rows,
            "deleted_rows": proven.deleted_rows,
            "baseline": baseline.to_json(),
            "log": {"origin": proven.log.origin, "size": proven.log.size, "root": hex::encode(proven.log.root), "entry": proven.entry},
        }))?;
        return Ok(Ending::Done);
    }
    out.line(format_args!("{}: {} is {} of {}", args.file.display(), styled(GOOD, "verified"), proven.path, baseline.location))?;
    out.line(format_args!("  baseline  {}, {}", baseline.number, output::time(baseline.created_ms)))?;
    out.line(format_args!("  digest    {}", baseline.digest))?;
    out.line(format_args!("  blake3    {}", proven.digest))?;
    out.line(format_args!("  sha256    {}", hex::encode(proven.sha256)))?;
    out.line(format_args!("  rows      {}", count(proven.rows)))?;
    if proven.deleted_rows > 0 {
        let note = styled(NOTE, "note:");
        out.line(format_args!("  {note} {} of these rows are deleted in the table by a deletion vector", count(proven.deleted_rows)))?;
    }
    out.line(format_args!("  log       {}, entry {} of {}", proven.log.origin, proven.entry, count(proven.log.size)))?;
    Ok(Ending::Done)
}

fn read_limited(file: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::from(e).with("file", file.display());
    let mut read = Vec::new();
    std::fs::File::open(file).map_err(failed)?.take(limit_bytes.saturating_add(1)).read_to_end(&mut read).map_err(failed)?;
    if u64::try_from(read.len()).unwrap_or(u64::MAX) > limit_bytes {
        return Err(Error::new(ErrorKind::InvalidInput, "larger than anything of its kind")
            .with("file", file.display())
            .with("limit", limit_bytes));
    }
    Ok(read)
}

fn hash_file(file: &Path) -> Result<FileHasher> {
    let failed = |e: std::io::Error| Error::from(e).with("file", file.display());
    let mut open = std::fs::File::open(file).map_err(failed)?;
    let mut hasher = FileHasher::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = open.read(&mut buffer).map_err(failed)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(hasher) };
        hasher.update(bytes);
    }
}
