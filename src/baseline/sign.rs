//! Signatures of statements: detached, one object per key, over the DSSE pre-authentication encoding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::canonical;
use crate::error::Result;
use crate::key::dsse::{self, Envelope, EnvelopeSignature};
use crate::key::{KeyId, Signer, VerifyingKey};

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// A signature's object is never larger, in bytes.
pub(super) const SIGNATURE_LIMIT_BYTES: u64 = 4096;

/// The bytes that are signed for `payload`: `DSSEv1 <length> <type> <length> <payload>`.
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    dsse::pre_authentication_encoding(PAYLOAD_TYPE, payload)
}

/// The signature's object for `payload` by `signer`.
pub(super) async fn sign(signer: &dyn Signer, payload: &[u8]) -> Result<Vec<u8>> {
    let signature = signer.sign(&pre_authentication_encoding(payload)).await?;
    Ok(canonical::bytes(&json!({"keyid": signer.public().id().to_string(), "sig": STANDARD.encode(signature)})))
}

/// Whether `object` is a signature of `payload` by `key`. What the object says of its key is not believed: `key` decides.
pub(super) fn verifies(key: &VerifyingKey, payload: &[u8], object: &[u8]) -> bool {
    signature_of(object).is_some_and(|signature| key.verifies(&pre_authentication_encoding(payload), &signature))
}

fn signature_of(object: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(object).ok()?;
    STANDARD.decode(value.get("sig")?.as_str()?).ok()
}

/// A DSSE envelope of `payload` with the signatures' objects of `signers`.
pub(super) fn envelope(payload: &[u8], signers: &[(KeyId, Vec<u8>)]) -> Envelope {
    let signature = |(key, object): &(KeyId, Vec<u8>)| Some(EnvelopeSignature { key: *key, signature: signature_of(object)? });
    Envelope { signatures: signers.iter().filter_map(signature).collect(), ..Envelope::new(PAYLOAD_TYPE, payload.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{P256PrivateKey, PrivateKey};

    #[tokio::test]
    async fn a_signature_serves_for_its_payload_and_key_only() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let device = P256PrivateKey::generate().unwrap();
        let signers: [&dyn Signer; 2] = [&key, &device];
        let other = PrivateKey::from_seed(&[2; 32]);
        for signer in signers {
            let object = sign(signer, b"payload").await.unwrap();
            assert!(verifies(&signer.public(), b"payload", &object));
            assert!(!verifies(&signer.public(), b"payloaD", &object));
            assert!(!verifies(&Signer::public(&other), b"payload", &object));
            for junk in [&b""[..], b"{}", b"{\"sig\":\"AAAA\"}", b"{\"sig\":1}", b"not json"] {
                assert!(!verifies(&signer.public(), b"payload", junk));
            }
            // A signature over the bare payload, made for another purpose, does not serve.
            let bare = json!({"sig": STANDARD.encode(signer.sign(b"payload").await.unwrap())}).to_string();
            assert!(!verifies(&signer.public(), b"payload", bare.as_bytes()));
        }
    }
}
