//! Keys: secrets in the form that a scheme compares with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use railwatch_plugin::secret::Secret;
use ring::{hmac, signature};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Hash, Scheme, SecretEncoding};

/// A resolved key. It never shows itself.
pub(super) enum Key {
    /// The digest of an expected header value: equal lengths for the comparison, and no secret in memory.
    Token([u8; 32]),
    /// The key, and its fingerprint, by which rotation is noticed.
    Hmac(hmac::Key, [u8; 32]),
    Ed25519(Vec<u8>),
    EcdsaP256(Vec<u8>),
}

/// Before the 32 bytes of an Ed25519 key in `SubjectPublicKeyInfo` (RFC 8410).
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Before the 65 bytes of an uncompressed P-256 point in `SubjectPublicKeyInfo` (RFC 5480).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl Key {
    pub(super) fn new(
        scheme: Scheme,
        hash: Hash,
        encoding: SecretEncoding,
        user: Option<&str>,
        secret: &Secret,
    ) -> Result<Self, String> {
        let bytes = secret.expose();
        match scheme {
            Scheme::Bearer => Ok(Self::Token(Sha256::digest(bytes).into())),
            Scheme::Basic => {
                let user = user.ok_or("basic needs user = \"…\" beside the secret, which is the password")?;
                let pair = [user.as_bytes(), b":", bytes].concat();
                Ok(Self::Token(Sha256::digest(STANDARD.encode(pair)).into()))
            }
            // A Standard Webhooks secret that begins with whpk_ is a public key, whatever the scheme says.
            Scheme::Hmac if encoding == SecretEncoding::StdWebhooks && bytes.starts_with(b"whpk_") => {
                Self::ed25519(&STANDARD.decode(&bytes[5..]).map_err(|_| "what follows whpk_ is not base64")?)
            }
            Scheme::Hmac => {
                let key = decode(encoding, bytes)?;
                if key.is_empty() {
                    return Err("the key is empty".to_owned());
                }
                Ok(Self::Hmac(hmac::Key::new(algorithm(hash), &key), Sha256::digest(&key).into()))
            }
            Scheme::Ed25519 => Self::ed25519(&public(encoding, bytes)?),
            Scheme::EcdsaP256 => Self::p256(&public(encoding, bytes)?),
        }
    }

    fn ed25519(bytes: &[u8]) -> Result<Self, String> {
        let point = bytes.strip_prefix(ED25519_SPKI).unwrap_or(bytes);
        let wrong = || "an Ed25519 public key has 32 bytes".to_owned();
        if point.len() == 32 { Ok(Self::Ed25519(point.to_vec())) } else { Err(wrong()) }
    }

    fn p256(bytes: &[u8]) -> Result<Self, String> {
        let point = bytes.strip_prefix(P256_SPKI).unwrap_or(bytes);
        let valid = point.len() == 65 && point.first() == Some(&4);
        let wrong = || "a P-256 public key is an SPKI in base64 or PEM, or an uncompressed point".to_owned();
        if valid { Ok(Self::EcdsaP256(point.to_vec())) } else { Err(wrong()) }
    }

    /// True if `given` is the expected token.
    pub(super) fn equals(&self, given: &[u8]) -> bool {
        match self {
            Self::Token(expected) => Sha256::digest(given).as_slice().ct_eq(expected).into(),
            Self::Hmac(..) | Self::Ed25519(_) | Self::EcdsaP256(_) => false,
        }
    }

    /// True if `candidate` is this key's signature of `message`.
    pub(super) fn signed(&self, message: &[u8], candidate: &[u8]) -> bool {
        let public = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, candidate).is_ok()
        };
        match self {
            Self::Token(_) => false,
            Self::Hmac(key, _) => hmac::verify(key, message, candidate).is_ok(),
            Self::Ed25519(key) => public(&signature::ED25519, key),
            Self::EcdsaP256(key) => public(&signature::ECDSA_P256_SHA256_ASN1, key),
        }
    }

    fn fingerprint(&self) -> &[u8] {
        match self {
            Self::Token(digest) | Self::Hmac(_, digest) => digest,
            Self::Ed25519(key) | Self::EcdsaP256(key) => key,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint().ct_eq(other.fingerprint()).into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

fn algorithm(hash: Hash) -> hmac::Algorithm {
    match hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    }
}

fn decode(encoding: SecretEncoding, bytes: &[u8]) -> Result<Vec<u8>, String> {
    match encoding {
        SecretEncoding::Utf8 => Ok(bytes.to_vec()),
        SecretEncoding::Hex => {
            hex::decode(bytes.trim_ascii()).map_err(|_| "the secret is not hex".to_owned())
        }
        SecretEncoding::Base64 => {
            STANDARD.decode(bytes.trim_ascii()).map_err(|_| "the secret is not base64".to_owned())
        }
        SecretEncoding::StdWebhooks => {
            let text = bytes.strip_prefix(b"whsec_").unwrap_or(bytes);
            let wrong = |_| "the secret is not whsec_ followed by base64".to_owned();
            STANDARD.decode(text.trim_ascii()).map_err(wrong)
        }
    }
}

/// A public key in PEM or in the configured encoding.
fn public(encoding: SecretEncoding, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let Some(pem) = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN")) else {
        return decode(encoding, bytes);
    };
    let inner: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    STANDARD.decode(inner).map_err(|_| "the PEM block is not base64".to_owned())
}
