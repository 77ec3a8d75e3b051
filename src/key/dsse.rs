//! DSSE: what is signed for a payload of a type, and the envelope in which other programs expect payload and signatures.
//!
//! <https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md>, `envelope.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{KeyId, Signer, VerifyingKey};
use crate::error::{Error, ErrorKind, Result};

/// An envelope holds at most this many signatures: more are no envelope of ours, and each costs a verification.
pub const SIGNATURE_COUNT_LIMIT: usize = 256;
/// A signature of the schemes that are known is never longer, in bytes.
const SIGNATURE_LIMIT_BYTES: usize = 128;

/// The bytes that are signed: `DSSEv1 <length> <type> <length> <payload>`.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// A signature in an envelope; the key that it names is a hint, and a key decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeSignature {
    /// The key that it says it is of.
    pub key: KeyId,
    /// In the encoding of that key's scheme.
    pub signature: Vec<u8>,
}

/// A payload with its signatures. Nothing of it is verified but what [`Self::signers`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The payload's type.
    pub payload_type: String,
    /// The exact bytes that are signed, as part of their pre-authentication encoding.
    pub payload: Vec<u8>,
    /// The signatures, by anybody.
    pub signatures: Vec<EnvelopeSignature>,
}

impl Envelope {
    /// An envelope without signatures.
    pub fn new(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() }
    }

    /// Adds the signature of `signer`, in the place of one that names the same key.
    ///
    /// # Errors
    /// Those of the signer.
    pub async fn sign(&mut self, signer: &dyn Signer) -> Result<()> {
        let signature = signer.sign(&pre_authentication_encoding(&self.payload_type, &self.payload)).await?;
        let key = signer.public().id();
        self.signatures.retain(|known| known.key != key);
        self.signatures.push(EnvelopeSignature { key, signature });
        Ok(())
    }

    /// Those of `keys` that signed the payload. Each counts once, however often it signed and whatever names the signatures bear.
    ///
    /// Cost: one verification per signature that names one of the keys.
    pub fn signers(&self, keys: &[VerifyingKey]) -> Vec<VerifyingKey> {
        let message = pre_authentication_encoding(&self.payload_type, &self.payload);
        let mut found: Vec<VerifyingKey> = Vec::new();
        for key in keys {
            let id = key.id();
            let signed = self.signatures.iter().filter(|s| s.key == id).any(|s| key.verifies(&message, &s.signature));
            if signed && !found.contains(key) {
                found.push(*key);
            }
        }
        found
    }

    /// The envelope as JSON, as other programs read it.
    pub fn to_json(&self) -> Value {
        let signatures: Vec<Value> =
            self.signatures.iter().map(|s| json!({"keyid": s.key.to_string(), "sig": STANDARD.encode(&s.signature)})).collect();
        json!({"payloadType": self.payload_type, "payload": STANDARD.encode(&self.payload), "signatures": signatures})
    }

    /// Reads an envelope of a payload of `payload_type`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is none; [`ErrorKind::Unsupported`] when its payload is of another type. Signatures that name no key of
    /// the form that is known here, or are too long, are left out: others may have put them there.
    pub fn parse(bytes: &[u8], payload_type: &str) -> Result<Self> {
        let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("not a DSSE envelope: {what}"));
        let value: Value = serde_json::from_slice(bytes).map_err(|e| corrupt("it is not JSON").caused_by(e))?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).ok_or_else(|| corrupt(&format!("it has no {name}")));
        let found = text("payloadType")?;
        if found != payload_type {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("an envelope of another kind: its payload is '{found}', not '{payload_type}'"),
            ));
        }
        let payload = STANDARD.decode(text("payload")?).map_err(|e| corrupt("its payload is not base64").caused_by(e))?;
        let listed = value.get("signatures").and_then(Value::as_array).ok_or_else(|| corrupt("it has no list of signatures"))?;
        if listed.len() > SIGNATURE_COUNT_LIMIT {
            return Err(corrupt("it has too many signatures"));
        }
        let signature = |item: &Value| {
            let key = KeyId(item.get("keyid")?.as_str()?.parse().ok()?);
            let signature = STANDARD.decode(item.get("sig")?.as_str()?).ok().filter(|bytes| bytes.len() <= SIGNATURE_LIMIT_BYTES)?;
            Some(EnvelopeSignature { key, signature })
        };
        Ok(Self { payload_type: payload_type.to_owned(), payload, signatures: listed.iter().filter_map(signature).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{P256PrivateKey, PrivateKey};
    use super::*;

    #[test]
    fn the_encoding_is_dsse_s() {
        // The example of the DSSE protocol.
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[tokio::test]
    async fn signers_are_counted_by_key_and_once() {
        let (a, b, c) = (PrivateKey::from_seed(&[1; 32]), P256PrivateKey::generate().unwrap(), PrivateKey::from_seed(&[3; 32]));
        let keys: Vec<VerifyingKey> = vec![a.public().into(), b.public().into(), c.public().into(), a.public().into()];
        let mut envelope = Envelope::new("text/plain", b"payload".to_vec());
        envelope.sign(&a).await.unwrap();
        envelope.sign(&a).await.unwrap();
        envelope.sign(&b).await.unwrap();
        assert_eq!(envelope.signatures.len(), 2);
        // The same signature twice, under another's name too.
        let again = envelope.signatures[0].clone();
        envelope.signatures.push(again.clone());
        envelope.signatures.push(EnvelopeSignature { key: c.public().id(), ..again });
        assert_eq!(envelope.signers(&keys), [a.public().into(), b.public().into()]);
        let read = Envelope::parse(envelope.to_json().to_string().as_bytes(), "text/plain").unwrap();
        assert_eq!(read, envelope);
        // A signature over the same payload under another type does not serve.
        let other = Envelope { payload_type: "text/html".into(), ..envelope };
        assert!(other.signers(&keys).is_empty());
        assert_eq!(Envelope::parse(other.to_json().to_string().as_bytes(), "text/plain").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for junk in [
            "",
            "{}",
            "[]",
            r#"{"payloadType":"t"}"#,
            r#"{"payloadType":"t","payload":"*","signatures":[]}"#,
            r#"{"payloadType":"t","payload":""}"#,
        ] {
            assert_eq!(Envelope::parse(junk.as_bytes(), "t").unwrap_err().kind(), ErrorKind::Corrupt, "{junk}");
        }
        let many = json!({"payloadType": "t", "payload": "", "signatures": vec![json!({}); SIGNATURE_COUNT_LIMIT + 1]});
        assert!(Envelope::parse(many.to_string().as_bytes(), "t").is_err());
        let odd = json!({"payloadType": "t", "payload": "", "signatures": [{}, {"keyid": "x", "sig": "AA=="}, 7]});
        assert!(Envelope::parse(odd.to_string().as_bytes(), "t").unwrap().signatures.is_empty());
    }
}
