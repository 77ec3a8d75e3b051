//! ECDSA over NIST P-256 with SHA-256: what KMS and PKCS#11 devices offer.
//!
//! Signatures are ASN.1 DER, as such devices and OpenSSL make them, in *low-S* form: of the two signatures (r, s) and (r, n - s) that every
//! one implies, only the one with the smaller s counts.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey, UnparsedPublicKey,
};
use ed25519_dalek::pkcs8::spki::der::pem::{self, LineEnding};
use ed25519_dalek::pkcs8::spki::der::{Document, SecretDocument};

use super::KeyId;
use super::file::{not_private, read_key_file, save_pair};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Length of a point in uncompressed form (SEC 1), in bytes.
pub(super) const POINT_BYTES: usize = 65;
/// A scalar's length in bytes.
const SCALAR_BYTES: usize = 32;
/// SubjectPublicKeyInfo of a P-256 key, up to the point: id-ecPublicKey, prime256v1, a bit string (RFC 5480). DER has one spelling.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];
const PUBLIC_LABEL: &str = "PUBLIC KEY";
const PRIVATE_LABEL: &str = "PRIVATE KEY";
/// The order n of the group, big-endian (FIPS 186-4, D.1.2.3).
const ORDER: [u8; SCALAR_BYTES] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
    0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// A public key on P-256. As text: `p256:` and the uncompressed point (SEC 1) in 130 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct P256PublicKey([u8; POINT_BYTES]);

impl P256PublicKey {
    /// Reads an uncompressed point (SEC 1): 0x04 and two coordinates.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is none of the curve.
    pub fn from_bytes(bytes: &[u8; POINT_BYTES]) -> Result<Self> {
        let refused = || Error::new(ErrorKind::InvalidInput, "not an uncompressed point of P-256");
        if bytes.first() != Some(&0x04) {
            return Err(refused());
        }
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).map_err(|e| refused().caused_by(e.to_string()))?;
        Ok(Self(*bytes))
    }

    /// The uncompressed point: the one spelling of this key.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The key's identity.
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(&self.0))
    }

    /// Whether `signature` (DER, low-S) was made over `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(fixed) = Fixed::from_der(signature) else { return false };
        !fixed.is_high() && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.0).verify(message, &fixed.to_bytes()).is_ok()
    }

    /// The key as PEM (SubjectPublicKeyInfo).
    pub fn to_pem(&self) -> Result<String> {
        let der: Vec<u8> = SPKI_PREFIX.iter().chain(&self.0).copied().collect();
        pem::encode_string(PUBLIC_LABEL, LineEnding::LF, &der)
            .map_err(|e| Error::new(ErrorKind::Internal, "a public key could not be written as PEM").caused_by(e.to_string()))
    }

    /// Reads one public key in PEM.
    pub(super) fn from_pem(pem: &str) -> Result<Self> {
        let not = || Error::new(ErrorKind::InvalidInput, "not a P-256 public key (uncompressed) in PEM");
        let (_, document) = Document::from_pem(pem).map_err(|e| not().caused_by(e.to_string()))?;
        let point = document.as_bytes().strip_prefix(&SPKI_PREFIX).and_then(|point| point.try_into().ok()).ok_or_else(not)?;
        Self::from_bytes(point)
    }
}

impl fmt::Display for P256PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for P256PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256PublicKey({self})")
    }
}

impl FromStr for P256PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; POINT_BYTES];
        hex::decode_to_slice(text.strip_prefix("p256:").unwrap_or_default(), &mut bytes).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "a P-256 key reads `p256:` and 130 hexadecimal characters").with("text", text).caused_by(e)
        })?;
        Self::from_bytes(&bytes)
    }
}

/// A private key on P-256. The library that holds it wipes its bytes from memory; its debug form shows only its identity.
#[derive(Clone)]
pub struct P256PrivateKey {
    pair: Arc<EcdsaKeyPair>,
    public: P256PublicKey,
}

impl P256PrivateKey {
    /// A fresh key from the operating system's generator.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|e| Error::new(ErrorKind::Internal, "a P-256 key could not be made").caused_by(e.to_string()))?;
        Self::of(pair)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self> {
        let odd = |_| Error::new(ErrorKind::Internal, "a P-256 key's public half has an unexpected length");
        let public = P256PublicKey::from_bytes(pair.public_key().as_ref().try_into().map_err(odd)?)?;
        Ok(Self { pair: Arc::new(pair), public })
    }

    /// The public half.
    pub fn public(&self) -> P256PublicKey {
        self.public
    }

    /// Signs `message`, as DER in low-S form.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |e: String| Error::new(ErrorKind::Internal, "a P-256 signature could not be made").caused_by(e);
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|e| failed(e.to_string()))?;
        let fixed = Fixed::from_bytes(signature.as_ref()).ok_or_else(|| failed("of an unexpected length".to_owned()))?;
        Ok(fixed.low().to_der())
    }

    /// Reads a private key in PEM (PKCS#8, or OpenSSL's `EC PRIVATE KEY`).
    pub fn from_pem(text: &str) -> Result<Self> {
        let not =
            |e: String| Error::new(ErrorKind::InvalidInput, format!("not a P-256 private key in PEM{}", not_private(text))).caused_by(e);
        let (label, document) = SecretDocument::from_pem(text.trim()).map_err(|e| not(e.to_string()))?;
        if ![PRIVATE_LABEL, "EC PRIVATE KEY"].contains(&label) {
            return Err(not(format!("the PEM block is a {label}")));
        }
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_bytes());
        Self::of(pair.map_err(|e| not(e.to_string()))?)
    }

    /// Reads a private key's file.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_pem(&read_key_file(path)?).map_err(|e| e.with("file", path.display()))
    }

    /// As [`super::PrivateKey::save_new`].
    pub fn save_new(&self, path: &Path) -> Result<()> {
        let failed = |e: String| Error::new(ErrorKind::Internal, "a private key could not be written as PEM").caused_by(e);
        let der = self.pair.to_pkcs8v1().map_err(|e| failed(e.to_string()))?;
        let document = SecretDocument::try_from(der.as_ref()).map_err(|e| failed(e.to_string()))?;
        let pem = document.to_pem(PRIVATE_LABEL, LineEnding::LF).map_err(|e| failed(e.to_string()))?;
        save_pair(path, pem.as_bytes(), &self.public().to_pem()?)
    }
}

impl fmt::Debug for P256PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256PrivateKey(of {})", self.public())
    }
}

/// The two numbers of a signature, big-endian. They are public: nothing here needs constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fixed {
    r: [u8; SCALAR_BYTES],
    s: [u8; SCALAR_BYTES],
}

impl Fixed {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (r, s) = bytes.split_at_checked(SCALAR_BYTES)?;
        Some(Self { r: r.try_into().ok()?, s: s.try_into().ok()? })
    }

    fn to_bytes(self) -> [u8; 2 * SCALAR_BYTES] {
        let mut out = [0; 2 * SCALAR_BYTES];
        let (r, s) = out.split_at_mut(SCALAR_BYTES);
        r.copy_from_slice(&self.r);
        s.copy_from_slice(&self.s);
        out
    }

    /// Reads `SEQUENCE { INTEGER r, INTEGER s }`; only the bytes that [`Self::to_der`] writes are accepted.
    fn from_der(der: &[u8]) -> Option<Self> {
        let content = der.get(2..)?;
        let (r, rest) = integer(content)?;
        let (s, _) = integer(rest)?;
        let fixed = Self { r, s };
        (fixed.to_der() == der).then_some(fixed)
    }

    fn to_der(self) -> Vec<u8> {
        let mut content = Vec::new();
        for number in [self.r, self.s] {
            let significant: Vec<u8> = number.iter().skip_while(|byte| **byte == 0).copied().collect();
            let sign = significant.first().is_none_or(|first| *first >= 0x80);
            let length = significant.len() + usize::from(sign);
            content.extend([0x02, u8::try_from(length).unwrap_or(u8::MAX)]);
            content.extend(sign.then_some(0));
            content.extend(significant);
        }
        let mut der = vec![0x30, u8::try_from(content.len()).unwrap_or(u8::MAX)];
        der.append(&mut content);
        der
    }

    fn negated(self) -> Self {
        let mut s = [0; SCALAR_BYTES];
        let mut borrow = false;
        for ((out, n), old) in s.iter_mut().zip(ORDER).zip(self.s).rev() {
            let (first, under) = n.overflowing_sub(old);
            let (second, under_again) = first.overflowing_sub(u8::from(borrow));
            (*out, borrow) = (second, under || under_again);
        }
        Self { s, ..self }
    }

    /// Whether s is the greater of s and n - s; n is odd, so they differ.
    fn is_high(self) -> bool {
        self.s > self.negated().s
    }

    fn low(self) -> Self {
        if self.is_high() { self.negated() } else { self }
    }
}

/// The DER integer at the beginning of `bytes`, and what follows it.
fn integer(bytes: &[u8]) -> Option<([u8; SCALAR_BYTES], &[u8])> {
    let [0x02, length, rest @ ..] = bytes else { return None };
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let digits = digits.strip_prefix(&[0]).unwrap_or(digits);
    let mut number = [0; SCALAR_BYTES];
    let start = SCALAR_BYTES.checked_sub(digits.len())?;
    number.get_mut(start..)?.copy_from_slice(digits);
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;

    use super::*;

    #[test]
    fn only_the_low_s_der_form_of_a_signature_counts() {
        let key = P256PrivateKey::generate().unwrap();
        for n in 0..64u8 {
            let message = [n; 7];
            let signature = key.sign(&message).unwrap();
            assert!(key.public().verifies(&message, &signature));
            assert!(!key.public().verifies(b"massage", &signature));
            let low = Fixed::from_der(&signature).unwrap();
            assert!(!low.is_high() && low.negated().is_high() && low.negated().low() == low);
            let high = low.negated().to_der();
            let plain = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public().0);
            assert!(plain.verify(&message, &signature).is_ok() && plain.verify(&message, &high).is_ok(), "ECDSA itself takes both");
            assert!(!key.public().verifies(&message, &high));
            assert!(!key.public().verifies(&message, &low.to_bytes()), "not DER");
            let mut longer = signature.clone();
            longer.push(0);
            assert!(!key.public().verifies(&message, &longer));
            for cut in 0..signature.len() {
                assert!(!key.public().verifies(&message, &signature[..cut]));
            }
        }
        assert!(!P256PrivateKey::generate().unwrap().public().verifies(&[0; 7], &key.sign(&[0; 7]).unwrap()));
    }

    #[test]
    fn numbers_of_any_length_read_back_and_padded_ones_do_not() {
        for leading in 0..SCALAR_BYTES {
            for first in [0x01, 0x7f, 0x80, 0xff] {
                let mut r = [0; SCALAR_BYTES];
                r[leading] = first;
                let fixed = Fixed { r, s: ORDER };
                assert!(Fixed::from_der(&fixed.to_der()) == Some(fixed));
            }
        }
        let one = [0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01];
        assert!(Fixed::from_der(&one).is_some());
        assert!(Fixed::from_der(&[0x30, 0x07, 0x02, 0x02, 0x00, 0x01, 0x02, 0x01, 0x01]).is_none());
        assert!(Fixed::from_der(&[0x30, 0x81, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01]).is_none());
        let zero = P256PrivateKey::generate().unwrap().public();
        assert!(!zero.verifies(b"", &[0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00]));
    }

    #[test]
    fn keys_read_back_from_files_and_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealer.pem");
        let key = P256PrivateKey::generate().unwrap();
        key.save_new(&path).unwrap();
        let read = P256PrivateKey::from_file(&path).unwrap();
        assert_eq!(read.public(), key.public());
        assert!(key.public().verifies(b"m", &read.sign(b"m").unwrap()));
        assert_eq!(P256PublicKey::from_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
        assert_eq!(key.public().to_string().parse::<P256PublicKey>().unwrap(), key.public());
        assert!("p256:00".parse::<P256PublicKey>().is_err());
        assert!(P256PrivateKey::from_pem(&key.public().to_pem().unwrap()).unwrap_err().message().contains("public key"));
        let mut off = key.public().0;
        off[64] ^= 1;
        assert!(P256PublicKey::from_bytes(&off).is_err(), "not on the curve");
    }
}
