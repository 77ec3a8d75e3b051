//! Signatures of statements: detached, one object per key, over the DSSE pre-authentication encoding.
//!
//! DSSE: <https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::canonical;
use crate::key::{KeyId, PrivateKey, PublicKey, Signature};

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// A signature's object is never larger, in bytes.
pub(super) const SIGNATURE_LIMIT_BYTES: u64 = 4096;

/// The bytes that are signed for `payload`: `DSSEv1 <length> <type> <length> <payload>`.
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// The signature's object for `payload` by `key`.
pub(super) fn sign(key: &PrivateKey, payload: &[u8]) -> Vec<u8> {
    let signature = key.sign(&pre_authentication_encoding(payload));
    canonical::bytes(&json!({"keyid": key.public().id().to_string(), "sig": STANDARD.encode(signature.0)}))
}

/// Whether `object` is a signature of `payload` by `key`. What the object says of its key is not believed: `key` decides.
pub(super) fn verifies(key: &PublicKey, payload: &[u8], object: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(object) else { return false };
    let Some(text) = value.get("sig").and_then(Value::as_str) else { return false };
    let Ok(bytes) = STANDARD.decode(text) else { return false };
    let Ok(bytes) = bytes.try_into() else { return false };
    key.verifies(&pre_authentication_encoding(payload), &Signature(bytes))
}

/// A DSSE envelope of `payload` with the signatures' objects of `signers`.
pub(super) fn envelope(payload: &[u8], signers: &[(KeyId, Vec<u8>)]) -> Value {
    let signatures: Vec<Value> = signers
        .iter()
        .map(|(key, object)| {
            let sig = serde_json::from_slice::<Value>(object).ok().and_then(|value| value.get("sig").cloned());
            json!({"keyid": key.to_string(), "sig": sig})
        })
        .collect();
    json!({"payloadType": PAYLOAD_TYPE, "payload": STANDARD.encode(payload), "signatures": signatures})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_dsse_s() {
        // The example of the DSSE protocol, with in-toto's type.
        assert_eq!(pre_authentication_encoding(b"hello world"), b"DSSEv1 28 application/vnd.in-toto+json 11 hello world");
    }

    #[test]
    fn a_signature_serves_for_its_payload_and_key_only() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let other = PrivateKey::from_seed(&[2; 32]);
        let object = sign(&key, b"payload");
        assert!(verifies(&key.public(), b"payload", &object));
        assert!(!verifies(&key.public(), b"payloaD", &object));
        assert!(!verifies(&other.public(), b"payload", &object));
        for junk in [&b""[..], b"{}", b"{\"sig\":\"AAAA\"}", b"{\"sig\":1}", b"not json"] {
            assert!(!verifies(&key.public(), b"payload", junk));
        }
        // A signature over the bare payload, made for another purpose, does not serve.
        let bare = json!({"sig": STANDARD.encode(key.sign(b"payload").0)}).to_string();
        assert!(!verifies(&key.public(), b"payload", bare.as_bytes()));
    }
}
