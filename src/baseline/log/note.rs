//! Signed notes (C2SP `signed-note`): a text, an empty line, and signature lines. Entries, checkpoints and inventories are notes.
//!
//! ```text
//! <text, ends with a line feed>
//!
//! — <name> <base64 of: first 4 bytes of the key's hash ‖ signature>
//! ```
//! <https://c2sp.org/signed-note>. The name is the log's origin, so that no signature serves for another log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Scheme, Signer, VerifyingKey};

const LINE_START: &str = "\u{2014} ";
const KEY_HASH_BYTES: usize = 4;
const SIGNATURES_LIMIT: usize = 16;

/// A note whose signatures were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::baseline) struct Opened<'a> {
    /// The text that was signed.
    pub(in crate::baseline) text: &'a str,
    /// The name that its signatures are made under.
    pub(in crate::baseline) name: &'a str,
    /// The known keys that signed it, each once.
    pub(in crate::baseline) signers: Vec<KeyId>,
}

/// The first bytes of SHA-256 over name, line feed, signature type and public key.
fn key_hash(name: &str, key: &VerifyingKey) -> [u8; KEY_HASH_BYTES] {
    let kind = match key.scheme() {
        Scheme::Ed25519 => 1_u8,
        Scheme::P256 => 2,
    };
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(key.to_bytes()).finalize();
    let mut hash = [0; KEY_HASH_BYTES];
    hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    hash
}

/// The note of `text`, signed under `name`.
///
/// # Errors
/// [`ErrorKind::Internal`] when text or name cannot stand in a note; those of the signer.
pub(in crate::baseline) async fn sign(name: &str, text: &str, signer: &dyn Signer) -> Result<String> {
    if !is_text(text) || !is_name(name) {
        return Err(Error::new(ErrorKind::Internal, "this text cannot be signed as a note").with("name", name));
    }
    let mut bytes = key_hash(name, &signer.public()).to_vec();
    bytes.extend(signer.sign(text.as_bytes()).await?);
    Ok(format!("{text}\n{LINE_START}{name} {}\n", STANDARD.encode(bytes)))
}

/// Opens a note that at least one of `keys` signed. All signatures of known keys must be valid, and under one name.
pub(in crate::baseline) fn open<'a>(note: &'a [u8], keys: &[VerifyingKey]) -> Option<Opened<'a>> {
    let note = std::str::from_utf8(note).ok()?;
    let (text, lines) = note.rsplit_once("\n\n")?;
    let text = note.get(..=text.len())?;
    let lines = lines.strip_suffix('\n')?;
    if !is_text(text) || lines.split('\n').count() > SIGNATURES_LIMIT {
        return None;
    }
    let mut opened: Option<Opened<'_>> = None;
    for line in lines.split('\n') {
        let (name, encoded) = line.strip_prefix(LINE_START)?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (hash, signature) = bytes.split_at_checked(KEY_HASH_BYTES)?;
        if !is_name(name) || signature.is_empty() {
            return None;
        }
        for key in keys.iter().filter(|key| key_hash(name, key) == hash) {
            if !key.verifies(text.as_bytes(), signature) || opened.as_ref().is_some_and(|other| other.name != name) {
                return None;
            }
            let signers = &mut opened.get_or_insert(Opened { text, name, signers: Vec::new() }).signers;
            if !signers.contains(&key.id()) {
                signers.push(key.id());
            }
        }
    }
    opened
}

/// No control characters but line feeds, and one of these at the end.
fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c.is_ascii_control() && c != '\n')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed(&[seed; 32])
    }

    fn public(seed: u8) -> VerifyingKey {
        Signer::public(&key(seed))
    }

    #[tokio::test]
    async fn a_note_is_opened_by_its_key_and_only_as_it_stands() {
        let note = sign("lakeseal.log/x", "one\n\ntwo\n", &key(1)).await.unwrap();
        let opened = open(note.as_bytes(), &[public(2), public(1)]).unwrap();
        assert_eq!(opened, Opened { text: "one\n\ntwo\n", name: "lakeseal.log/x", signers: vec![public(1).id()] });
        assert_eq!(open(note.as_bytes(), &[public(2)]), None);
        assert_eq!(open(note.as_bytes(), &[]), None);
        // Every byte counts, and nothing may be added or taken away.
        let bytes = note.as_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                assert_eq!(open(&changed, &[public(1)]), None, "byte {at}, bit {bit}");
            }
            assert_eq!(open(&bytes[..at], &[public(1)]), None);
        }
        assert_eq!(open(&[bytes, b"\n"].concat(), &[public(1)]), None);
    }

    #[tokio::test]
    async fn several_sign_one_note_and_strangers_do_no_harm() {
        let text = "text\n";
        let one = sign("o", text, &key(1)).await.unwrap();
        let line = |note: &str| note.rsplit_once("\n\n").unwrap().1.to_owned();
        let two = line(&sign("o", text, &key(2)).await.unwrap());
        let opened = |note: &str, seeds: &[u8]| {
            open(note.as_bytes(), &seeds.iter().map(|seed| public(*seed)).collect::<Vec<_>>()).map(|opened| opened.signers.len())
        };
        assert_eq!(opened(&format!("{one}{two}"), &[1, 2]), Some(2));
        assert_eq!(opened(&format!("{one}{two}"), &[1]), Some(1), "a stranger's");
        assert_eq!(opened(&format!("{one}{}", line(&one)), &[1]), Some(1), "one signature twice is one");
        let elsewhere = line(&sign("p", text, &key(2)).await.unwrap());
        assert_eq!(opened(&format!("{one}{elsewhere}"), &[1, 2]), None, "under two names");
        let wrong = line(&sign("o", "other\n", &key(2)).await.unwrap());
        assert_eq!(opened(&format!("{one}{wrong}"), &[1, 2]), None, "a known key's signature must be valid");
        assert_eq!(opened(&format!("{one}{}", two.repeat(20)), &[1]), None, "too many");
    }

    #[tokio::test]
    async fn what_is_no_text_or_name_is_not_signed() {
        for (name, text) in [("o", "no line feed"), ("o", "tab\t\n"), ("", "x\n"), ("a b", "x\n"), ("a+b", "x\n")] {
            assert!(sign(name, text, &key(1)).await.is_err(), "{name:?} {text:?}");
        }
    }

    /// The line of the specification's own example key would need its private half; the hash of a key is checked against its definition.
    #[test]
    fn the_key_hash_is_the_specification_s() {
        let public = public(1);
        let input = [b"lakeseal.log/x\n\x01".as_slice(), &public.to_bytes()].concat();
        assert_eq!(key_hash("lakeseal.log/x", &public), Sha256::digest(input)[..4]);
    }
}
