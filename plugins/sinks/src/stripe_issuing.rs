//! Stripe Issuing as a gate: the agent's cards become `inactive`, and `active` again
//! (<https://docs.stripe.com/api/issuing/cards/update>).
//!
//! Only what railwatch froze is unfrozen: a freeze writes its name into the card's metadata, and an unfreeze leaves a
//! card alone that does not carry it. A card that somebody else made inactive, or that is canceled, stays as it is.

use async_trait::async_trait;
use railwatch_model::{GateOrder, GateVerb};
use railwatch_plugin::config::{ConfigError, Span, parse};
use railwatch_plugin::registry::SinkPlugin;
use railwatch_plugin::secret::SecretRef;
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::Value;
use toml::Table;

use crate::endpoint::{Address, Vault};
use crate::gate::{check_time, concerns, said};
use crate::http::{Peer, TIMEOUT};
use crate::text::digest;

/// The registration.
pub(crate) const PLUGIN: SinkPlugin = SinkPlugin {
    name: "stripe_issuing",
    summary: "Freezes the cards of an agent in Stripe Issuing; tells people nothing",
    example: r#"[sinks.cards]
plugin = "stripe_issuing"
key = { env = "STRIPE_ISSUING_KEY" } # a restricted key: Issuing cards, write
dry_run = true # say false when you have seen what it would do
"#,
    schema: || schema_for!(StripeIssuingConfig),
    build,
};

/// Cards of one agent that a freeze changes.
const CARDS_MAX: usize = 50;
/// The key of a card's metadata that holds the name of the freeze.
const MARK: &str = "railwatch_freeze";

/// Settings of Stripe Issuing as a gate.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StripeIssuingConfig {
    /// A secret or, better, a restricted key that may read and write Issuing cards.
    key: SecretRef,
    /// True to rehearse: cards are read and not changed.
    #[serde(default = "yes")]
    dry_run: bool,
    /// The scheme of the identities that are card ids.
    #[serde(default = "scheme")]
    scheme: String,
    /// The rails that these cards pay on.
    #[serde(default = "rails")]
    rails: Vec<String>,
    /// The API server.
    #[serde(default = "api")]
    api: Address,
    /// How long one call may take, from connect to answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn yes() -> bool {
    true
}

fn scheme() -> String {
    "stripe.card".to_owned()
}

fn rails() -> Vec<String> {
    vec!["stripe".to_owned()]
}

fn api() -> Address {
    Address::of("https://api.stripe.com")
}

fn timeout() -> Span {
    TIMEOUT
}

#[derive(Debug)]
struct StripeIssuing {
    config: StripeIssuingConfig,
    vault: Vault,
    peer: Peer,
}

fn build(table: &Table, build: &SinkBuild) -> Result<Box<dyn Sink>, ConfigError> {
    let config: StripeIssuingConfig = parse(table)?;
    config.api.guards_credentials("api")?;
    let vault = Vault::of(build);
    vault.check("key", &config.key)?;
    let peer = Peer::new(config.timeout, build, &config.api.0)?;
    Ok(Box::new(StripeIssuing { config, vault, peer }))
}

#[async_trait]
impl Sink for StripeIssuing {
    async fn deliver(&self, dispatch: Dispatch<'_>) -> Result<Receipt, DeliveryError> {
        let Some(order) = &dispatch.notice.order else {
            // A test: does the key read cards?
            let mut url = self.config.api.join(&["v1", "issuing", "cards"]);
            url.query_pairs_mut().append_pair("limit", "1");
            self.call(Method::GET, url, &[], None).await?;
            return Ok(said("the key reads cards"));
        };
        check_time(order, self.peer.now())?;
        if !concerns(&order.freeze, &self.config.rails) {
            return Ok(said("stands before other rails"));
        }
        let own = order.identities.iter().filter(|identity| identity.scheme == self.config.scheme);
        let cards: Vec<&str> = own.map(|identity| identity.value.as_str()).take(CARDS_MAX).collect();
        if cards.is_empty() {
            let scheme = &self.config.scheme;
            let why =
                format!("the configuration names no card of this agent: match.\"{scheme}\" = [\"ic_…\"]");
            return Err(DeliveryError::Rejected(why));
        }
        let (mut words, mut refused) = (Vec::new(), Vec::new());
        for card in cards {
            match self.turn(card, order, &dispatch.notice.id.0).await {
                Ok(word) => words.push(format!("{card} {word}")),
                // One card that is refused must not keep the others from being frozen.
                Err(DeliveryError::Rejected(why)) => refused.push(format!("{card}: {why}")),
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() {
            return Ok(said(&words.join(", ")));
        }
        let done = if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
        Err(DeliveryError::Rejected(format!("{}{done}", refused.join("; "))))
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

impl StripeIssuing {
    /// Freezes or unfreezes one card, and says in a few words what happened.
    async fn turn(&self, card: &str, order: &GateOrder, notice: &str) -> Result<String, DeliveryError> {
        let url = self.config.api.join(&["v1", "issuing", "cards", card]);
        let now = self.call(Method::GET, url.clone(), &[], None).await?;
        let (status, freeze) = (now["status"].as_str().unwrap_or_default(), order.freeze.id.0.as_str());
        let is_ours = now["metadata"][MARK].as_str() == Some(freeze);
        let (wanted, mark) = match (order.verb, status) {
            (GateVerb::Freeze, "active") => ("inactive", freeze),
            (GateVerb::Freeze, "inactive") if is_ours => return Ok("is frozen".to_owned()),
            (GateVerb::Unfreeze, "inactive") if is_ours => ("active", ""),
            (_, status) => return Ok(format!("is {status}, left as it is")),
        };
        if self.config.dry_run {
            return Ok(format!("would become {wanted}"));
        }
        let form = [("status", wanted), ("metadata[railwatch_freeze]", mark)];
        // Stripe repeats its answer to a known key for a day, failures as well: a later attempt is a new request.
        let minute = self.peer.now().secs() / 60;
        let key = digest(&format!("{notice}/{card}/{wanted}/{minute}"));
        let after = self.call(Method::POST, url, &form, Some(&key)).await?;
        match after["status"].as_str() {
            Some(status) if status == wanted => Ok(format!("is {wanted}")),
            _ => Err(DeliveryError::Retry { reason: "the card did not change".to_owned(), after: None }),
        }
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        form: &[(&str, &str)],
        idempotency_key: Option<&str>,
    ) -> Result<Value, DeliveryError> {
        let key = self.vault.text(&self.config.key)?;
        let mut request = self.peer.request(method, url).bearer_auth(&key);
        if let Some(idempotency_key) = idempotency_key {
            request = request
                .header("idempotency-key", idempotency_key)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(encoded(form));
        }
        Ok(self.peer.send(request, &[&key]).await?.json())
    }
}

/// Pairs as a form.
fn encoded(form: &[(&str, &str)]) -> String {
    let mut url = Address::of("http://form").0;
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::order;
    use crate::testing::{HttpPeer, deliver, reply, sink};

    const ACTIVE: &str = r#"{"id":"ic_1abc","status":"active","metadata":{}}"#;
    const OURS: &str = r#"{"id":"ic_1abc","status":"inactive","metadata":{"railwatch_freeze":"f-1"}}"#;
    const THEIRS: &str = r#"{"id":"ic_1abc","status":"inactive","metadata":{}}"#;

    fn cards(peer: &HttpPeer, more: &str) -> Box<dyn Sink> {
        let table = format!("key = {{ env = \"K\" }}\napi = {:?}\n{more}", peer.url(""));
        sink("stripe_issuing", &table, &[("K", "rk_test_s3cr3t")])
    }

    /// What a card's states lead to; `forms` are the bodies of the requests, empty for reads.
    #[track_caller]
    fn check(verb: GateVerb, answers: &[&str], forms: &[&str], word: &str) {
        let peer = HttpPeer::play(answers.iter().map(|answer| reply(200, answer)).collect());
        let receipt = deliver(&*cards(&peer, "dry_run = false"), &order(verb), None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some(word));
        for form in forms {
            let request = peer.request();
            let method = if form.is_empty() { "GET" } else { "POST" };
            assert_eq!(request.line, format!("{method} /v1/issuing/cards/ic_1abc HTTP/1.1"));
            assert_eq!(request.headers["authorization"], "Bearer rk_test_s3cr3t");
            assert_eq!(request.body, *form);
            assert_eq!(request.headers.contains_key("idempotency-key"), !form.is_empty());
        }
    }

    #[test]
    fn a_card_is_frozen_and_unfrozen() {
        let freeze = "status=inactive&metadata%5Brailwatch_freeze%5D=f-1";
        check(GateVerb::Freeze, &[ACTIVE, OURS], &["", freeze], "ic_1abc is inactive");
        check(GateVerb::Freeze, &[OURS], &[""], "ic_1abc is frozen");
        let unfreeze = "status=active&metadata%5Brailwatch_freeze%5D=";
        check(GateVerb::Unfreeze, &[OURS, ACTIVE], &["", unfreeze], "ic_1abc is active");
    }

    #[test]
    fn what_others_did_to_a_card_stays() {
        check(GateVerb::Freeze, &[THEIRS], &[""], "ic_1abc is inactive, left as it is");
        check(GateVerb::Unfreeze, &[THEIRS], &[""], "ic_1abc is inactive, left as it is");
        check(GateVerb::Unfreeze, &[ACTIVE], &[""], "ic_1abc is active, left as it is");
        let canceled = r#"{"status":"canceled","metadata":{"railwatch_freeze":"f-1"}}"#;
        check(GateVerb::Unfreeze, &[canceled], &[""], "ic_1abc is canceled, left as it is");
    }

    #[test]
    fn by_default_cards_are_read_and_not_changed() {
        let peer = HttpPeer::play(vec![reply(200, ACTIVE)]);
        let receipt = deliver(&*cards(&peer, ""), &order(GateVerb::Freeze), None).unwrap();
        assert_eq!(receipt.reference.as_deref(), Some("ic_1abc would become inactive"));
    }

    #[test]
    fn errors_show_no_key_and_an_agent_without_cards_is_told_what_to_do() {
        let peer = HttpPeer::play(vec![reply(401, "Invalid API Key provided: rk_test_s3cr3t")]);
        let error = deliver(&*cards(&peer, ""), &order(GateVerb::Freeze), None).unwrap_err();
        assert!(matches!(&error, DeliveryError::Rejected(why) if !why.contains("s3cr3t")), "{error}");
        let mut bare = order(GateVerb::Freeze);
        bare.order.as_mut().unwrap().identities.clear();
        let error = deliver(&*cards(&HttpPeer::play(Vec::new()), ""), &bare, None).unwrap_err();
        assert!(error.to_string().contains("names no card"), "{error}");
    }
}
