//! Signing as a sender does, after <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The secret that the tests' senders share with railwatch, as both write it down.
pub const SECRET: &str = "whsec_cmFpbHdhdGNoIHRlc3RzIHNoYXJlIHRoaXMga2V5IQ==";

/// The value of `webhook-signature` for a message.
pub fn sign_standard(secret: &str, id: &str, at_secs: i64, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{at_secs}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
