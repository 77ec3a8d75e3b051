//! `trust`: making, changing, signing and publishing trust roots.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Ending;
use super::args::{EditArgs, InitTrustArgs, TrustCommand};
use super::context::Context;
use super::countersign;
use super::keys::keys_in;
use super::output::{self, BAD, GOOD, NOTE, Output, styled};
use crate::baseline::{LastGood, Revocation, RoleKeys, SignedRoot, Trust, TrustRoot};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Role, SecretKey, Signer as _, VerifyingKey};
use crate::lake::write_whole;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) async fn run(command: TrustCommand, context: &Context, out: &mut Output) -> Result<Ending> {
    match command {
        TrustCommand::Init(args) => init(args, context, out).await,
        TrustCommand::Show { file, previous, json } => show(&file, previous.as_deref(), json, context, out),
        TrustCommand::Sign { file, key, previous } => sign(&file, &key, previous.as_deref(), context, out).await,
        TrustCommand::AddKey { edit, role, key } => {
            let (name, key) = named_key(&key)?;
            change(&edit, context, out, |root| add_key(root, role, key, name)).await
        }
        TrustCommand::RemoveKey { edit, role, key } => {
            let key = find_key(&edit, &key)?;
            change(&edit, context, out, |root| remove_key(root, role, &key)).await
        }
        TrustCommand::Threshold { edit, role, count } => {
            change(&edit, context, out, |root| holders(root, role).map(|holders| holders.threshold = count)).await
        }
        TrustCommand::Rotate { edit, role, from, to } => {
            let (from, (name, to)) = (find_key(&edit, &from)?, named_key(&to)?);
            change(&edit, context, out, |root| {
                add_key(root, role, to, name)?;
                remove_key(root, role, &from)
            })
            .await
        }
        TrustCommand::Renew { edit } => change(&edit, context, out, |_| Ok(())).await,
        TrustCommand::Revoke { edit, key, reason, last_good } => {
            let key = find_key(&edit, &key)?;
            let last_good = last_good_of(&last_good, &edit, context).await?;
            let revocation = Revocation { key, revoked_ms: context.clock.now_ms(), reason, last_good };
            change(&edit, context, out, |root| revoke(root, revocation)).await
        }
        TrustCommand::Publish { file, tables } => publish(&file, &tables, context, out).await,
        TrustCommand::Use { file, replace } => install(&file, replace, context, out),
    }
}

async fn init(args: InitTrustArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let mut root = TrustRoot {
        name: args.name,
        version: 1,
        previous: None,
        created_ms: context.clock.now_ms(),
        expires_ms: expiry(args.expires_days, context),
        roles: BTreeMap::new(),
        names: BTreeMap::new(),
        revoked: Vec::new(),
    };
    let given = [(Role::Root, &args.root), (Role::Sealer, &args.sealer), (Role::Writer, &args.writer), (Role::Timestamp, &args.timestamp)];
    for (role, keys) in given {
        for text in keys {
            let (name, key) = named_key(text)?;
            add_key(&mut root, role, key, name)?;
        }
    }
    for (role, threshold) in [(Role::Root, args.root_threshold), (Role::Sealer, args.sealer_threshold)] {
        if let Some(threshold) = threshold {
            holders(&mut root, role)?.threshold = threshold;
        }
    }
    let mut draft = SignedRoot::draft(root)?;
    for file in &args.keys {
        draft.sign(&SecretKey::from_file(file)?).await?;
    }
    write(&args.out, &draft, false)?;
    out.line(format_args!("{} version 1 of trust root '{}': {}", styled(GOOD, "drafted"), draft.root().name, args.out.display()))?;
    tell(&draft, None, context, out)
}

fn show(file: &Path, previous: Option<&Path>, json: bool, context: &Context, out: &mut Output) -> Result<Ending> {
    let draft = SignedRoot::draft_from_file(file)?;
    let previous = previous.map(SignedRoot::draft_from_file).transpose()?;
    if json {
        out.line(describe(&draft, previous.as_ref(), context))?;
        return Ok(ending(&draft, previous.as_ref()));
    }
    tell(&draft, previous.as_ref(), context, out)
}

async fn sign(file: &Path, key: &Path, previous: Option<&Path>, context: &Context, out: &mut Output) -> Result<Ending> {
    let mut draft = SignedRoot::draft_from_file(file)?;
    let previous = previous.map(SignedRoot::draft_from_file).transpose()?;
    let signer = SecretKey::from_file(key)?;
    let public = signer.public();
    let known = |root: &SignedRoot| root.root().keys(Role::Root).contains(&public);
    let may_be_old = previous.as_ref().map_or(draft.root().version > 1, known);
    if !known(&draft) && !may_be_old {
        let what = "this key does not hold the role root, so its signature would count for nothing";
        return Err(Error::new(ErrorKind::Permission, what).with("key", public));
    }
    draft.sign(&signer).await?;
    write(file, &draft, true)?;
    out.line(format_args!("{} {} with {public}", styled(GOOD, "signed"), file.display()))?;
    tell(&draft, previous.as_ref(), context, out)
}

/// Applies `edit` to the draft that follows a root: a new one, or one that was begun and nobody has signed.
async fn change(edit: &EditArgs, context: &Context, out: &mut Output, apply: impl FnOnce(&mut TrustRoot) -> Result<()>) -> Result<Ending> {
    let old = SignedRoot::draft_from_file(&edit.file)?;
    old.check_own().map_err(|e| e.with("file", edit.file.display()))?;
    let begun = edit.out.exists();
    let mut root = if begun { begun_draft(&edit.out, &old)? } else { old.root().clone() };
    let version = old.root().version.checked_add(1);
    root.version = version.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the trust root's version is the last possible"))?;
    root.previous = Some(old.digest());
    root.created_ms = context.clock.now_ms();
    if !begun || edit.expires_days.is_some() {
        root.expires_ms = expiry(edit.expires_days.unwrap_or(365), context);
    }
    apply(&mut root)?;
    let mut draft = SignedRoot::draft(root)?;
    for file in &edit.keys {
        draft.sign(&SecretKey::from_file(file)?).await?;
    }
    write(&edit.out, &draft, begun)?;
    let verb = if begun { "changed the draft of" } else { "drafted" };
    out.line(format_args!("{} version {}: {}", styled(GOOD, verb), draft.root().version, edit.out.display()))?;
    tell(&draft, Some(&old), context, out)
}

fn begun_draft(file: &Path, old: &SignedRoot) -> Result<TrustRoot> {
    let draft = SignedRoot::draft_from_file(file)?;
    let follows = draft.root().previous == Some(old.digest());
    let keys: Vec<VerifyingKey> = [old.root().keys(Role::Root), draft.root().keys(Role::Root)].concat();
    if !follows || !draft.signers(&keys).is_empty() {
        let what = "this file exists, and is no unsigned draft of the next version; name another with --out";
        return Err(Error::new(ErrorKind::AlreadyExists, what).with("file", file.display()));
    }
    Ok(draft.root().clone())
}

fn add_key(root: &mut TrustRoot, role: Role, key: VerifyingKey, name: Option<String>) -> Result<()> {
    let holders = root.roles.entry(role).or_insert_with(|| RoleKeys { keys: Vec::new(), threshold: 1 });
    if holders.keys.contains(&key) {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("the key holds the role {role} already")).with("key", key));
    }
    holders.keys.push(key);
    if let Some(name) = name {
        root.names.insert(key.to_string(), name);
    }
    Ok(())
}

fn remove_key(root: &mut TrustRoot, role: Role, key: &VerifyingKey) -> Result<()> {
    let held = holders(root, role)?;
    if !held.keys.contains(key) {
        return Err(Error::new(ErrorKind::NotFound, format!("the key does not hold the role {role}")).with("key", key));
    }
    held.keys.retain(|known| known != key);
    if held.keys.is_empty() {
        root.roles.remove(&role);
    }
    forget_name(root, key);
    Ok(())
}

fn revoke(root: &mut TrustRoot, revocation: Revocation) -> Result<()> {
    let key = revocation.key;
    for role in [Role::Root, Role::Sealer, Role::Writer, Role::Timestamp] {
        if root.keys(role).contains(&key) {
            let held = holders(root, role)?;
            held.keys.retain(|known| *known != key);
            if held.keys.is_empty() {
                root.roles.remove(&role);
            }
        }
    }
    root.revoked.push(revocation);
    Ok(())
}

fn forget_name(root: &mut TrustRoot, key: &VerifyingKey) {
    let held = root.roles.values().any(|holders| holders.keys.contains(key));
    if !held && !root.revoked.iter().any(|revocation| revocation.key == *key) {
        root.names.remove(&key.to_string());
    }
}

fn holders(root: &mut TrustRoot, role: Role) -> Result<&mut RoleKeys> {
    root.roles.get_mut(&role).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("nobody holds the role {role}")))
}

/// The last good baselines of tables, each named as TABLE or TABLE@NUMBER, under the root that is going to be replaced.
async fn last_good_of(tables: &[String], edit: &EditArgs, context: &Context) -> Result<Vec<LastGood>> {
    let trust = Trust::from_root(SignedRoot::open_file(&edit.file)?);
    let mut found = Vec::new();
    for text in tables {
        let (table, wanted) = match text.rsplit_once('@').map(|(table, number)| (table, number.parse::<u64>())) {
            Some((table, Ok(number))) => (table, Some(number)),
            _ => (text.as_str(), None),
        };
        let (_lake, location) = context.table(table).await?;
        let repository = location.repository();
        let last = countersign::in_force(&repository, &trust, wanted).await.map_err(|e| e.with("table", location.name()))?;
        found.push(LastGood { table: last.summary.location.clone(), number: last.summary.number, digest: last.summary.digest });
    }
    Ok(found)
}

async fn publish(file: &Path, tables: &[String], context: &Context, out: &mut Output) -> Result<Ending> {
    let root = SignedRoot::open_file(file)?;
    for table in tables {
        let (_lake, location) = context.table(table).await?;
        location.repository().publish_root(&root).await?;
        out.line(format_args!("{} version {} beside {}", styled(GOOD, "published"), root.root().version, location.name()))?;
    }
    Ok(Ending::Done)
}

fn install(file: &Path, replace: bool, context: &Context, out: &mut Output) -> Result<Ending> {
    let root = SignedRoot::open_file(file)?;
    let own = context.home.trust_root();
    if own.exists() && !replace {
        let known = SignedRoot::open_file(&own)?;
        if known.digest() != root.digest() {
            let opened = known.open_successor(&root.to_bytes());
            opened.map_err(|e| {
                e.with("held", format!("version {} of '{}'", known.root().version, known.root().name)).with("file", file.display())
            })?;
        }
    }
    context.home.keep_trust_root(&root)?;
    out.line(format_args!("{} version {} of '{}'", styled(GOOD, "trusted:"), root.root().version, root.root().name))?;
    out.line(format_args!("  digest    {}   (compare it by another channel)", root.digest()))?;
    out.line(format_args!("  kept in   {}", own.display()))?;
    Ok(Ending::Done)
}

/// `[NAME=]KEY`, where KEY is a file of one key or the key's text.
fn named_key(text: &str) -> Result<(Option<String>, VerifyingKey)> {
    match text.split_once('=') {
        Some((name, key)) if !name.is_empty() => Ok((Some(name.to_owned()), key_of(key)?)),
        _ => Ok((None, key_of(text)?)),
    }
}

fn key_of(text: &str) -> Result<VerifyingKey> {
    if text.starts_with("ed25519:") || text.starts_with("p256:") {
        return text.parse();
    }
    let file = PathBuf::from(text);
    match keys_in(&file)?.0.as_slice() {
        [key] => Ok(*key),
        keys => Err(Error::new(ErrorKind::InvalidInput, format!("{} keys in a file; name one", keys.len())).with("file", text)),
    }
}

/// A key of a root: by its file, its text, or what people call it.
fn find_key(edit: &EditArgs, text: &str) -> Result<VerifyingKey> {
    let root = SignedRoot::draft_from_file(&edit.file)?;
    let named: Vec<&String> = root.root().names.iter().filter(|(_, name)| *name == text).map(|(key, _)| key).collect();
    match named.as_slice() {
        [key] => key.parse(),
        _ => key_of(text),
    }
}

fn expiry(days: u32, context: &Context) -> Option<i64> {
    (days > 0).then(|| context.clock.now_ms().saturating_add(DAY_MS.saturating_mul(i64::from(days))))
}

fn write(file: &Path, root: &SignedRoot, over: bool) -> Result<()> {
    write_whole(file, &root.to_bytes(), over).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, "this file exists; name another").with("file", file.display())
        }
        _ => Error::from(e).with("file", file.display()),
    })
}

/// How many of how many root keys signed a root: those of itself, and those of its predecessor where it is known.
fn signatures(root: &SignedRoot, previous: Option<&SignedRoot>) -> Vec<(&'static str, usize, usize)> {
    let count = |by: &TrustRoot| (root.signers(by.keys(Role::Root)).len(), by.threshold(Role::Root));
    let (own, needed) = count(root.root());
    let mut all = vec![("its own", own, needed)];
    if let Some(previous) = previous {
        let (old, needed) = count(previous.root());
        all.push(("the version before", old, needed));
    }
    all
}

fn ending(root: &SignedRoot, previous: Option<&SignedRoot>) -> Ending {
    let whole = signatures(root, previous).iter().all(|(_, found, needed)| found >= needed);
    if whole { Ending::Done } else { Ending::Undetermined }
}

fn describe(root: &SignedRoot, previous: Option<&SignedRoot>, context: &Context) -> Value {
    let counts: BTreeMap<&str, Value> =
        signatures(root, previous).into_iter().map(|(whose, found, needed)| (whose, json!({"found": found, "needed": needed}))).collect();
    json!({
        "digest": root.digest().to_string(),
        "document": root.root().to_json(),
        "signatures": counts,
        "expired": root.is_expired(context.clock.now_ms()),
    })
}

fn tell(signed: &SignedRoot, previous: Option<&SignedRoot>, context: &Context, out: &mut Output) -> Result<Ending> {
    let root = signed.root();
    out.line(format_args!("  name       {}", root.name))?;
    out.line(format_args!("  version    {}", root.version))?;
    out.line(format_args!("  digest     {}", signed.digest()))?;
    let expires = root.expires_ms.map_or_else(|| "never".to_owned(), output::time);
    let expired = if signed.is_expired(context.clock.now_ms()) { styled(BAD, "  EXPIRED") } else { String::new() };
    out.line(format_args!("  expires    {expires}{expired}"))?;
    for (role, holders) in &root.roles {
        out.line(format_args!("  {:<10} {} of {}", role.name(), holders.threshold, holders.keys.len()))?;
        for key in &holders.keys {
            out.line(format_args!("             {}{key}", root.name_of(key).map_or_else(String::new, |name| format!("{name}  "))))?;
        }
    }
    for revocation in &root.revoked {
        let name = root.name_of(&revocation.key).map_or_else(String::new, |name| format!("{name}  "));
        out.line(format_args!("  revoked    {name}{}  ({})", revocation.key, revocation.reason))?;
        for good in &revocation.last_good {
            out.line(format_args!("             counts up to baseline {} of {}", good.number, good.table))?;
        }
    }
    for (whose, found, needed) in signatures(signed, previous) {
        let style = if found >= needed { GOOD } else { NOTE };
        out.line(format_args!("  signed     {} by root keys of {whose}", styled(style, format!("{found} of {needed}"))))?;
    }
    if previous.is_none() && root.version > 1 {
        out.line(format_args!("  {} name the version before with --previous to count its signatures too", styled(NOTE, "note:")))?;
    }
    Ok(ending(signed, previous))
}
