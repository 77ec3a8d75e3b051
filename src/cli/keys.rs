//! `keys`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Ending;
use super::args::KeysCommand;
use super::home::Home;
use super::output::Output;
use crate::error::Result;
use crate::key::{Role, Scheme, SecretKey, Signer as _, VerifyingKey, public_path};

pub(super) fn run(command: KeysCommand, home: &Home, out: &mut Output) -> Result<Ending> {
    match command {
        KeysCommand::New { role, scheme, out: path, json } => new(role, scheme, path, json, home, out),
        KeysCommand::Show { files, json } => show(&files, json, out),
    }
}

fn new(role: Role, scheme: Scheme, path: Option<PathBuf>, json: bool, home: &Home, out: &mut Output) -> Result<Ending> {
    let (path, key) = home.new_key(role, scheme, path)?;
    let public = public_path(&path);
    if json {
        let (private, public) = (path.display().to_string(), public.display().to_string());
        out.line(described(&key, json!({ "role": role.name(), "private_file": private, "public_file": public })))?;
        return Ok(Ending::Done);
    }
    out.line(format_args!("{role} key   {key}"))?;
    out.line(format_args!("identity     {}", key.id()))?;
    out.line(format_args!("private      {}   (keep it to yourself, and out of the lake)", path.display()))?;
    out.line(format_args!("public       {}", public.display()))?;
    if role == Role::Sealer {
        out.line(format_args!("trusted in   {}   (by you; audits say `trust: self`)", home.trusted_sealers().display()))?;
    }
    Ok(Ending::Done)
}

fn show(files: &[PathBuf], json: bool, out: &mut Output) -> Result<Ending> {
    for file in files {
        let (keys, is_private) = keys_in(file)?;
        for key in keys {
            if json {
                out.line(described(&key, json!({ "file": file.display().to_string(), "private": is_private })))?;
            } else {
                let kind = if is_private { "   (a private key; only its public half is shown)" } else { "" };
                out.line(format_args!("{}{kind}", file.display()))?;
                out.line(format_args!("  key        {key}"))?;
                out.line(format_args!("  identity   {}", key.id()))?;
            }
        }
    }
    Ok(Ending::Done)
}

/// The public keys in a file, and whether it holds a private one.
pub(super) fn keys_in(file: &Path) -> Result<(Vec<VerifyingKey>, bool)> {
    match SecretKey::from_file(file) {
        Ok(private) => Ok((vec![private.public()], true)),
        Err(_) => VerifyingKey::all_from_file(file).map(|keys| (keys, false)),
    }
}

/// What is public of a key, and `more` members.
fn described(key: &VerifyingKey, more: Value) -> Value {
    let mut members = json!({"scheme": key.scheme().name(), "key": key.to_string(), "identity": key.id().to_string()});
    if let (Some(members), Value::Object(more)) = (members.as_object_mut(), more) {
        members.extend(more);
    }
    members
}
