//! Who may do what: tokens and their roles, sessions of browsers, and the checks that keep other sites' pages out.
//!
//! Without tokens railwatch listens on loopback only, and whoever can connect may do everything. With tokens every
//! request needs one, except for the health checks, webhooks (they are signed) and the page that asks for the token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use railwatch_model::{SmolStr, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// The header that says who acts. A page of another origin cannot send it without being asked for permission first.
pub const BY: &str = "x-railwatch-by";
/// The cookie of a browser's session.
const COOKIE: &str = "railwatch_session";
/// Browsers that may be signed in at a time; the one that was longest away makes room.
const SESSIONS_MAX: usize = 1000;
/// How long a browser stays signed in.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// What a token allows; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Take, silence, label and resolve alerts.
    Responder,
    /// Reload the configuration and roll it back.
    Author,
    /// Everything else: the outbox, and what comes.
    Admin,
}

/// A token as it is kept: its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is: the actor in the audit.
    pub name: SmolStr,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the token. Tokens are 32 random bytes, so that a slow hash would add nothing.
    pub sha256: [u8; 32],
}

/// What access needs to know of the configuration.
#[derive(Debug, Clone, Default)]
pub struct AccessSettings {
    /// The tokens; none allows everything to whoever can connect.
    pub tokens: Vec<Token>,
    /// Names under which railwatch may be reached besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// True if browsers reach it over TLS.
    pub is_https: bool,
}

/// The gate-keeper.
#[derive(Debug)]
pub struct Access {
    /// The tokens in force; they change with the configuration.
    tokens: RwLock<Vec<Token>>,
    hosts: Vec<String>,
    is_https: bool,
    sessions: Mutex<HashMap<[u8; 32], Session>>,
}

/// A browser that is signed in. What it may do is looked up with every request: a token that is taken back, or given
/// another role, counts at once.
#[derive(Debug, Clone, Copy)]
struct Session {
    /// The hash of the token that it was signed in with.
    token: [u8; 32],
    until: Timestamp,
}

/// Who asks, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; without tokens, what the caller says.
    pub name: Option<SmolStr>,
    /// What it may do.
    pub role: Role,
}

impl Token {
    fn caller(&self) -> Caller {
        Caller { name: Some(self.name.clone()), role: self.role }
    }
}

/// The hash under which a token is kept.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A new token: shown once, kept as its hash.
pub fn new_token() -> Result<String, getrandom::Error> {
    Ok(format!("rw_{}", hex::encode(random()?)))
}

fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The role that a request needs; `None` is open to everybody.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Role> {
    let is_open = matches!(path, "/healthz" | "/readyz" | "/v1/session")
        || !(path.starts_with("/v1/") || path == "/metrics" || path == "/openapi.json");
    if is_open {
        return None;
    }
    if method == Method::GET || method == Method::HEAD {
        return Some(Role::Viewer);
    }
    let responder = ["/v1/alerts/", "/v1/incidents/", "/v1/silences", "/v1/reviews", "/v1/agents/"];
    let author = ["/v1/reload", "/v1/rollback", "/v1/generations", "/v1/rules"];
    let is_in = |paths: &[&str]| paths.iter().any(|prefix| path.starts_with(prefix));
    Some(if is_in(&responder) {
        Role::Responder
    } else if is_in(&author) {
        Role::Author
    } else {
        Role::Admin
    })
}

impl Access {
    /// A gate-keeper with these settings.
    pub fn new(settings: AccessSettings) -> Self {
        let AccessSettings { tokens, hosts, is_https } = settings;
        Self { tokens: RwLock::new(tokens), hosts, is_https, sessions: Mutex::default() }
    }

    /// Puts other tokens in force.
    pub(crate) fn set_tokens(&self, tokens: Vec<Token>) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    fn tokens(&self) -> RwLockReadGuard<'_, Vec<Token>> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a token is needed.
    pub(crate) fn needs_token(&self) -> bool {
        !self.tokens().is_empty()
    }

    /// Checks the name under which railwatch was reached: a page that has another name resolve to this machine (DNS
    /// rebinding) is refused.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host_name(host);
        let known = name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        if known {
            return Ok(());
        }
        let detail = format!(
            "this railwatch is not reached as {name:?}; use its address, or set [http] public_url to that name"
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }

    /// Checks that a change was not sent by another site's page.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let foreign = || Problem::new(StatusCode::FORBIDDEN, "another site's page may not do this");
        if text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
            return Err(foreign());
        }
        let Some(origin) = text("origin") else { return Ok(()) };
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority.is_some() && authority == text("host") { Ok(()) } else { Err(foreign()) }
    }

    /// Who asks; an error if a token is needed and none, or a wrong one, came.
    pub(crate) fn caller(&self, headers: &HeaderMap, now: Timestamp) -> Result<Caller, Problem> {
        if !self.needs_token() {
            return Ok(Caller { name: None, role: Role::Admin });
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) {
            let token =
                self.find(&hash(token.trim())).ok_or_else(|| unauthorized("this token is not known"))?;
            return Ok(token.caller());
        }
        let session = cookie(headers).and_then(|id| self.session(&id, now));
        let token = session.and_then(|session| self.find(&session.token));
        Ok(token.ok_or_else(|| unauthorized("a token is needed: Authorization: Bearer ..."))?.caller())
    }

    /// Every token is compared in full, so that time tells nothing.
    fn find(&self, hash: &[u8; 32]) -> Option<Token> {
        let is_it = |known: &Token| bool::from(known.sha256.ct_eq(hash));
        self.tokens().iter().fold(None, |found, known| if is_it(known) { Some(known.clone()) } else { found })
    }

    fn session(&self, id: &[u8; 32], now: Timestamp) -> Option<Session> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).filter(|session| session.until > now).copied()
    }

    /// Signs a browser in: the cookie that it keeps.
    pub(crate) fn sign_in(&self, token: &str, now: Timestamp) -> Result<(HeaderValue, Caller), Problem> {
        let token = self.find(&hash(token)).ok_or_else(|| unauthorized("this token is not known"))?;
        let internal =
            |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random numbers");
        let id = random().map_err(internal)?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.until).map(|(id, _)| *id);
            oldest.and_then(|id| sessions.remove(&id));
        }
        sessions.insert(id, Session { token: token.sha256, until: now.after(SESSION) });
        Ok((self.cookie(&hex::encode(id), SESSION), token.caller()))
    }

    /// Signs a browser out.
    pub(crate) fn sign_out(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = cookie(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
        self.cookie("", Duration::ZERO)
    }

    fn cookie(&self, value: &str, lifetime: Duration) -> HeaderValue {
        let secure = if self.is_https { "; Secure" } else { "" };
        let text = format!(
            "{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
            lifetime.as_secs()
        );
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

fn cookie(headers: &HeaderMap) -> Option<[u8; 32]> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
    hex::decode(value).ok()?.try_into().ok()
}

/// The name in `name:port` or `[address]:port`.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn access() -> Access {
        let token = |name: &str, role| Token { name: name.into(), role, sha256: hash(name) };
        let tokens = vec![token("vera", Role::Viewer), token("rob", Role::Responder)];
        Access::new(AccessSettings { tokens, hosts: vec!["watch.example".into()], is_https: true })
    }

    #[test]
    fn only_known_names_reach_it() {
        for host in ["127.0.0.1:7414", "[::1]:7414", "localhost:1", "10.1.2.3", "Watch.Example"] {
            assert!(access().check_host(&headers(&[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example:7414", "127.0.0.1.nip.io", "", "localhost.evil.example"] {
            assert!(access().check_host(&headers(&[("host", host)])).is_err(), "{host}");
        }
    }

    #[test]
    fn other_sites_change_nothing() {
        let host = ("host", "127.0.0.1:7414");
        let ok = [
            headers(&[host]),
            headers(&[host, ("origin", "http://127.0.0.1:7414"), ("sec-fetch-site", "same-origin")]),
        ];
        let refused = [
            headers(&[host, ("origin", "http://evil.example")]),
            headers(&[host, ("origin", "http://127.0.0.1:9")]),
            headers(&[host, ("origin", "null")]),
            headers(&[host, ("sec-fetch-site", "cross-site")]),
            headers(&[host, ("sec-fetch-site", "same-site")]),
        ];
        assert!(ok.iter().all(|headers| access().check_origin(headers).is_ok()));
        assert!(refused.iter().all(|headers| access().check_origin(headers).is_err()));
    }

    #[test]
    fn a_token_gives_its_role_and_a_session_its_token_s() {
        let access = access();
        let now = Timestamp::from_secs(1_700_000_000);
        let caller = access.caller(&headers(&[("authorization", "Bearer rob")]), now).unwrap();
        assert_eq!((caller.name.as_deref(), caller.role), (Some("rob"), Role::Responder));
        assert!(access.caller(&headers(&[("authorization", "Bearer eve")]), now).is_err());
        assert!(access.caller(&headers(&[]), now).is_err());
        assert!(access.sign_in("eve", now).is_err());
        let (cookie, _) = access.sign_in("vera", now).unwrap();
        let cookie = cookie.to_str().unwrap().to_owned();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Secure")
        );
        let pair = cookie.split(';').next().unwrap().to_owned();
        let with_cookie = headers(&[("cookie", &pair)]);
        assert_eq!(access.caller(&with_cookie, now).unwrap().role, Role::Viewer);
        assert!(access.caller(&with_cookie, now.after(SESSION)).is_err());
        access.sign_out(&with_cookie);
        assert!(access.caller(&with_cookie, now).is_err());
    }

    #[test]
    fn a_token_that_is_taken_back_counts_no_more_in_a_browser_either() {
        let access = access();
        let now = Timestamp::from_secs(1_700_000_000);
        let (cookie, _) = access.sign_in("rob", now).unwrap();
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let with_cookie = headers(&[("cookie", &pair)]);
        let token = |role| Token { name: "rob".into(), role, sha256: hash("rob") };
        access.set_tokens(vec![token(Role::Viewer)]);
        assert_eq!(access.caller(&with_cookie, now).unwrap().role, Role::Viewer);
        access.set_tokens(vec![Token { sha256: hash("new"), ..token(Role::Admin) }]);
        assert!(access.caller(&with_cookie, now).is_err());
        assert!(access.caller(&headers(&[("authorization", "Bearer rob")]), now).is_err());
        assert!(access.caller(&headers(&[("authorization", "Bearer new")]), now).is_ok());
    }

    #[test]
    fn what_nobody_thought_of_needs_the_highest_role() {
        let role = |method: Method, path: &str| needed(&method, path);
        assert_eq!(role(Method::GET, "/v1/agents"), Some(Role::Viewer));
        assert_eq!(role(Method::GET, "/metrics"), Some(Role::Viewer));
        assert_eq!(role(Method::POST, "/v1/alerts/x/acknowledge"), Some(Role::Responder));
        assert_eq!(role(Method::POST, "/v1/reload"), Some(Role::Author));
        assert_eq!(role(Method::POST, "/v1/anything"), Some(Role::Admin));
        assert_eq!(role(Method::DELETE, "/v1/outbox/1"), Some(Role::Admin));
        assert_eq!(role(Method::GET, "/"), None);
        assert_eq!(role(Method::POST, "/in/stripe"), None);
    }
}
