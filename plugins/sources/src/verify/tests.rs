use std::collections::HashMap;
use std::sync::Mutex;

use railwatch_plugin::secret::{Secret, SecretError};
use ring::signature::KeyPair as _;
use serde_json::Value;

use super::*;

/// Secrets by name; tests rotate them.
#[derive(Debug, Default)]
struct Vault(Mutex<HashMap<String, Vec<u8>>>);

impl Vault {
    fn of(secrets: &[(&str, &[u8])]) -> Arc<Self> {
        let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        Arc::new(Self(Mutex::new(secrets.collect())))
    }
}

impl Secrets for Vault {
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::Env(name) = reference else { return Err(SecretError::Empty) };
        let found = self.0.lock().unwrap().get(name).cloned();
        found.map(Secret::new).ok_or_else(|| SecretError::NoEnv(name.clone()))
    }
}

fn verifier(config: &str, secrets: &[(&str, &[u8])]) -> Verifier {
    let secrets: Arc<dyn Secrets> = Vault::of(secrets);
    Verifier::new(&parse(config).unwrap(), &secrets).unwrap()
}

fn parse(config: &str) -> Result<VerifyConfig, toml::de::Error> {
    #[derive(serde::Deserialize)]
    struct Table {
        verify: VerifyConfig,
    }
    toml::from_str::<Table>(config).map(|table| table.verify)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn stripe_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../fixtures/verify/stripe.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let stripe = verifier(
            "verify = { preset = 'stripe', secret = { env = 'S' } }",
            &[("S", text("secret").as_bytes())],
        );
        let headers = headers(&[("stripe-signature", text("header"))]);
        let now = at(case["now"].as_i64().unwrap());
        let verdict = stripe.verify(&headers, text("payload").as_bytes(), now);
        assert_eq!(verdict.is_ok(), case["expect"].as_bool().unwrap(), "{}: {verdict:?}", text("name"));
    }
}

#[test]
fn standard_webhooks_vector() {
    let vector: Value =
        serde_json::from_str(include_str!("../../fixtures/verify/standard_webhooks.json")).unwrap();
    let text = |key: &str| vector[key].as_str().unwrap();
    let signed_at = vector["webhook-timestamp"].as_i64().unwrap();
    let verifier = verifier(
        "verify = { preset = 'standard-webhooks', secret = { env = 'S' } }",
        &[("S", text("key").as_bytes())],
    );
    let stamp = signed_at.to_string();
    let signature = format!("v1,AAAA v9,xx {}", text("webhook-signature"));
    let sent = [
        ("webhook-id", text("webhook-id")),
        ("webhook-timestamp", &stamp),
        ("webhook-signature", &signature),
    ];
    let body = text("body").as_bytes();
    let verify = |sent: &[(&str, &str)], now| verifier.verify(&headers(sent), body, at(now));
    assert_eq!(verify(&sent, signed_at + 300), Ok(()));
    assert_eq!(verify(&sent, signed_at - 300), Ok(()));
    assert_eq!(verify(&sent, signed_at + 301), Err(VerifyError::TooOld));
    assert_eq!(verify(&sent, signed_at - 301), Err(VerifyError::TooNew));
    assert!(matches!(verify(&sent[1..], signed_at), Err(VerifyError::MissingHeader(_))));
    let other = [("webhook-id", "msg_other"), sent[1], sent[2]];
    assert_eq!(verify(&other, signed_at), Err(VerifyError::NoMatch));
}

#[test]
fn hook0_vector_and_no_downgrade() {
    let vector: Value = serde_json::from_str(include_str!("../../fixtures/verify/hook0.json")).unwrap();
    let signature = vector["X-Hook0-Signature"].as_str().unwrap();
    let body = vector["body"].as_str().unwrap().as_bytes();
    let mut sent: Vec<(&str, &str)> = vec![("x-hook0-signature", signature)];
    sent.extend(
        vector["headers"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap())),
    );
    let secret = vector["secret"].as_str().unwrap().as_bytes();
    let verifier = verifier("verify = { preset = 'hook0', secret = { env = 'S' } }", &[("S", secret)]);
    let now = at(1_795_437_000);
    assert_eq!(verifier.verify(&headers(&sent), body, now), Ok(()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let v0 = hex::encode(ring::hmac::sign(&key, &[b"1795437000.", body].concat()));
    let weak = format!("t=1795437000,v0={v0}");
    assert_eq!(verifier.verify(&headers(&[("x-hook0-signature", &weak)]), body, now), Ok(()));
    let both = format!("{weak},h=,v1={}", "00".repeat(32));
    let verdict = verifier.verify(&headers(&[("x-hook0-signature", &both)]), body, now);
    assert_eq!(verdict, Err(VerifyError::NoMatch), "a wrong v1 is not saved by a right v0");
}

#[track_caller]
fn check_hmac(config: &str, header: &str, prefix: &str, algorithm: ring::hmac::Algorithm) {
    let verifier = verifier(config, &[("S", b"secret"), ("NEW", b"new")]);
    let key = ring::hmac::Key::new(algorithm, b"secret");
    let signature = format!("{prefix}{}", hex::encode(ring::hmac::sign(&key, b"body")));
    let sent = headers(&[(header, &signature)]);
    assert_eq!(verifier.verify(&sent, b"body", at(0)), Ok(()));
    assert_eq!(verifier.verify(&sent, b"Body", at(0)), Err(VerifyError::NoMatch));
    assert!(matches!(verifier.verify(&headers(&[]), b"body", at(0)), Err(VerifyError::MissingHeader(_))));
    let garbage = verifier.verify(&headers(&[(header, "zz")]), b"body", at(0));
    assert!(matches!(garbage, Err(VerifyError::Malformed(_))));
}

#[test]
fn plain_hmac_schemes() {
    use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512};
    for (preset, header, prefix) in [
        ("github-style", "x-hub-signature-256", "sha256="),
        ("btcpay", "btcpay-sig", "sha256="),
        ("phoenixd", "x-phoenix-signature", ""),
        ("lightspark", "lightspark-signature", ""),
        ("spark", "x-spark-signature", ""),
        ("strike", "x-webhook-signature", ""),
    ] {
        let config = format!("verify = {{ preset = '{preset}', secret = {{ env = 'S' }} }}");
        check_hmac(&config, header, prefix, HMAC_SHA256);
    }
    for (hash, algorithm) in [("sha1", HMAC_SHA1_FOR_LEGACY_USE_ONLY), ("sha512", HMAC_SHA512)] {
        let config = format!(
            "verify = {{ scheme = 'hmac', hash = '{hash}', header = 'x-sig', secret = {{ env = 'NEW' }}, secrets_extra = [{{ env = 'S' }}] }}"
        );
        check_hmac(&config, "x-sig", "", algorithm);
    }
}

#[test]
fn tokens() {
    let bearer = verifier("verify = { scheme = 'bearer', secret = { env = 'S' } }", &[("S", b"tok")]);
    let with = |value: &str| headers(&[("authorization", value)]);
    assert_eq!(bearer.verify(&with("Bearer tok"), b"", at(0)), Ok(()));
    assert_eq!(bearer.verify(&with("Bearer toc"), b"", at(0)), Err(VerifyError::NoMatch));
    assert!(matches!(bearer.verify(&with("tok"), b"", at(0)), Err(VerifyError::Malformed(_))));
    let basic = verifier("verify = { scheme = 'basic', user = 'u', secret = { env = 'S' } }", &[("S", b"p")]);
    assert_eq!(basic.verify(&with("Basic dTpw"), b"", at(0)), Ok(()));
    let own =
        verifier("verify = { scheme = 'bearer', header = 'x-key', secret = { env = 'S' } }", &[("S", b"k")]);
    assert_eq!(own.verify(&headers(&[("x-key", "k")]), b"", at(0)), Ok(()));
}

#[test]
fn ed25519_in_standard_webhooks_and_alone() {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = STANDARD.encode(pair.public_key().as_ref());
    let standard = verifier(
        "verify = { preset = 'svix', secret = { env = 'S' } }",
        &[("S", format!("whpk_{public}").as_bytes())],
    );
    let signature = format!("v1a,{}", STANDARD.encode(pair.sign(b"m.1000.body")));
    let sent = headers(&[("svix-id", "m"), ("svix-timestamp", "1000"), ("svix-signature", &signature)]);
    assert_eq!(standard.verify(&sent, b"body", at(1000)), Ok(()));
    assert_eq!(standard.verify(&sent, b"bodi", at(1000)), Err(VerifyError::NoMatch));
    let alone = verifier(
        "verify = { scheme = 'ed25519', header = 'x-sig', secret = { env = 'S' } }",
        &[("S", public.as_bytes())],
    );
    let sent = headers(&[("x-sig", &hex::encode(pair.sign(b"body")))]);
    assert_eq!(alone.verify(&sent, b"body", at(0)), Ok(()));
}

#[test]
fn circle_verifies_p256() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let random = ring::rand::SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap();
    let spki = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let spki = STANDARD.encode([hex::decode(spki).unwrap().as_slice(), pair.public_key().as_ref()].concat());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
    for key in [spki, pem] {
        let circle =
            verifier("verify = { preset = 'circle', secret = { env = 'S' } }", &[("S", key.as_bytes())]);
        let signature = STANDARD.encode(pair.sign(&random, b"body").unwrap());
        let sent = headers(&[("x-circle-signature", &signature)]);
        assert_eq!(circle.verify(&sent, b"body", at(0)), Ok(()));
        assert_eq!(circle.verify(&sent, b"other", at(0)), Err(VerifyError::NoMatch));
    }
}

#[test]
fn a_rotated_secret_takes_effect_without_a_restart() {
    let vault = Vault::of(&[("S", b"old")]);
    let secrets: Arc<dyn Secrets> = Arc::clone(&vault) as _;
    let config = parse("verify = { scheme = 'bearer', secret = { env = 'S' } }").unwrap();
    let verifier = Verifier::new(&config, &secrets).unwrap();
    let new = headers(&[("authorization", "Bearer new")]);
    assert_eq!(verifier.verify(&new, b"", at(0)), Err(VerifyError::NoMatch));
    vault.0.lock().unwrap().insert("S".to_owned(), b"new".to_vec());
    assert_eq!(verifier.verify(&new, b"", at(4)), Err(VerifyError::NoMatch), "read a moment ago");
    assert_eq!(verifier.verify(&new, b"", at(5)), Ok(()));
    let old = headers(&[("authorization", "Bearer old")]);
    assert_eq!(verifier.verify(&old, b"", at(60)), Err(VerifyError::NoMatch));
}

#[track_caller]
fn check_wrong(config: &str, path: &str, says: &str) {
    let secrets: Arc<dyn Secrets> = Vault::of(&[("S", b"not base64!")]);
    let error = Verifier::new(&parse(config).unwrap(), &secrets).unwrap_err();
    assert_eq!(error.path, path);
    assert!(error.message.contains(says), "{error}");
}

#[test]
fn wrong_configuration_says_what_is_right() {
    check_wrong("verify = { preset = 'stripe' }", "verify.secret", "env");
    check_wrong("verify = { secret = { env = 'S' } }", "verify.scheme", "preset");
    check_wrong("verify = { scheme = 'hmac', secret = { env = 'S' } }", "verify.header", "header");
    check_wrong(
        "verify = { scheme = 'hmac', header = 'x', secret = { env = 'NONE' } }",
        "verify.secret",
        "NONE",
    );
    check_wrong("verify = { preset = 'svix', secret = { env = 'S' } }", "verify.secret", "whsec_");
    let signed = |signed: &str| {
        format!("verify = {{ scheme = 'hmac', header = 'x', signed = '{signed}', secret = {{ env = 'S' }} }}")
    };
    check_wrong(&signed("{t}.{body}"), "verify.signed", "timestamp");
    check_wrong(&signed("nothing"), "verify.signed", "{body}");
    check_wrong(&signed("{body}{nope}"), "verify.signed", "{kv:NAME}");
    let words = parse("verify = 'none'").unwrap_err().to_string();
    assert!(words.contains("none-accept-forged-events"), "{words}");
    assert!(matches!(parse("verify = 'none-accept-forged-events'"), Ok(VerifyConfig::AcceptForgedEvents)));
}

#[test]
fn secrets_do_not_show_themselves() {
    let shown = format!(
        "{:?}",
        verifier("verify = { scheme = 'bearer', secret = { env = 'S' } }", &[("S", b"hunter2")])
    );
    assert!(!shown.contains("hunter2") && shown.contains("Key(…)"), "{shown}");
}
