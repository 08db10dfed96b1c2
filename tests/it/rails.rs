//! Real rails: an account of Stripe's API, a chain and a wallet, each a server that somebody else wrote and that keeps its
//! own record.

use std::io::Write as _;
use std::process::{Command, Stdio};

use railwatch_model::{Timestamp, Usd};
use railwatch_tests::{
    Chain, Daemon, Home, LightningWallet, StripeAccount, now, python, repo_root, sign_stripe, until,
};
use serde_json::{Value, json};

const SECRET: &str = "whsec_c29tZSBzZWNyZXQ";
const AGENT: &str = "trio";
const WALLET: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
/// What a bitcoin is worth here: a satoshi is a tenth of a cent.
const USD_PER_BTC: &str = "100000";

/// Three rails of one agent.
struct Rails {
    stripe: StripeAccount,
    chain: Chain,
    lightning: LightningWallet,
    n_settled: u64,
}

impl Rails {
    fn open() -> Self {
        let (stripe, chain) = (StripeAccount::open(), Chain::start());
        Self { stripe, chain, lightning: LightningWallet::open(), n_settled: 0 }
    }

    fn configure(&self, home: &Home) {
        let write = |name: &str, text: &str| home.write(name, text).display().to_string();
        let (stripe, chain, lightning) = (&self.stripe, &self.chain, &self.lightning);
        home.configure(&format!(
            r#"
[sources.stripe]
plugin = "stripe"
webhook_secret = {{ file = {webhook:?} }}
api_key = {{ file = {key:?} }}
api_url = "{stripe_url}"
poll_interval = "500ms"
directions = {{ charge = "spend" }}

[sources.base]
plugin = "x402-evm"
network = "{network}"
url = "{chain_url}"
wallets = ["{WALLET}"]
confirmations = 2

[sources.wallet]
plugin = "lightning"
api = "lnbits"
url = "{lightning_url}"
auth = {{ header = "X-Api-Key", secret = {{ file = {read_key:?} }} }}
interval = "500ms"

[prices.BTC]
fixed_usd = "{USD_PER_BTC}"

[[agents]]
id = "{AGENT}"
[agents.match]
"evm.address" = ["{wallet}"]
"#,
            webhook = write("webhook.secret", SECRET),
            key = write("stripe.key", stripe.key()),
            stripe_url = stripe.url(),
            network = chain.network(),
            chain_url = chain.url(),
            lightning_url = lightning.url(),
            read_key = write("wallet.key", lightning.read_key()),
            wallet = WALLET.to_ascii_lowercase(),
        ));
        stripe.deliver_to(&format!("http://{}/in/stripe", home.address()), SECRET);
    }

    /// Pays once on every rail.
    fn pay(&mut self, cents: u64, micros: u64, sats: u64) {
        self.stripe.pay(AGENT, cents);
        self.n_settled += 1;
        self.chain.pay(WALLET, micros, self.n_settled);
        self.lightning.pay(AGENT, sats);
    }

    /// What the rails say that the agent has paid: payments and dollars.
    fn records(&self) -> (u64, Usd) {
        let sum = |(n, usd): (u64, Usd), (more, added): (u64, Usd)| (n + more, usd.plus(added));
        let (n_paid, sats) = self.lightning.paid_by(AGENT);
        let nanos_per_sat = 1_000_000;
        let lightning = (n_paid, Usd::from_nanos(i64::try_from(sats).unwrap() * nanos_per_sat));
        [self.stripe.paid_by(AGENT), self.chain.paid_by(WALLET), lightning]
            .into_iter()
            .fold((0, Usd::ZERO), sum)
    }
}

/// Waits until railwatch says what the rails say.
#[track_caller]
fn check(daemon: &Daemon<'_>, rails: &Rails) {
    let (n, usd) = rails.records();
    let usd = serde_json::to_value(usd).unwrap();
    let mut last = Value::Null;
    let agreed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("railwatch and the rails agree", 60, || {
            let view: Value = serde_json::from_str(&daemon.get(&format!("/v1/agents/{AGENT}"))?.body).ok()?;
            last = view["totals"].clone();
            (last["purchases"] == n && last["committed"] == usd).then_some(())
        });
    }));
    assert!(agreed.is_ok(), "the rails say {n} payments, {usd}; railwatch says {last}");
}

#[test]
fn one_agent_on_three_rails_agrees_with_the_rails_own_records_to_the_cent() {
    let mut rails = Rails::open();
    let home = Home::new("");
    rails.configure(&home);
    let daemon = home.start();
    for source in ["stripe", "base", "wallet"] {
        daemon.wait_source(source, "live");
    }
    rails.pay(1_234, 10_000, 210);
    rails.pay(99, 1_234_567, 1);
    check(&daemon, &rails);

    daemon.kill();
    // Webhooks that nobody answers are not sent again; subscriptions are gone.
    rails.pay(5_000, 500_000, 2_100);
    let daemon = home.start();
    check(&daemon, &rails);

    // The last payment on the chain never happened.
    rails.pay(1, 777_777, 3);
    check(&daemon, &rails);
    rails.chain.drop_newest_block();
    check(&daemon, &rails);
    rails.chain.mine(3);
    rails.pay(250, 20_000, 42);
    check(&daemon, &rails);
    daemon.kill();

    let daemon = home.start();
    check(&daemon, &rails);
    // The rails are seen although nobody pays any more.
    let quiet_since = now();
    rails.chain.mine(1);
    until("every rail is seen", 60, || {
        let status: Value = serde_json::from_str(&daemon.get("/v1/status")?.body).ok()?;
        let seen_to = |source: &str| Timestamp::parse(status["sources"][source]["seen_to"].as_str()?).ok();
        ["stripe", "base", "wallet"].iter().all(|source| seen_to(source) > Some(quiet_since)).then_some(())
    });
    let agents: Vec<Value> = home.run(&["agents", "--json"]).documents();
    assert_eq!(agents.len(), 1, "everything is this agent's: {agents:#?}");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(home.run(&["doctor"]).code, 0);
}

/// What Stripe's own library says of these signatures.
fn oracle(cases: &[Value]) -> Vec<bool> {
    let mut command = Command::new(python());
    command.arg(repo_root().join("tests/it/peers/stripe_oracle.py"));
    let mut oracle = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    oracle.stdin.take().unwrap().write_all(Value::from(cases).to_string().as_bytes()).unwrap();
    serde_json::from_slice(&oracle.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn stripes_own_library_and_railwatch_believe_the_same_signatures() {
    let home = Home::new("");
    let (current, old) = (home.write("current", SECRET), home.write("old", "whsec_before"));
    home.configure(&format!(
        "[sources.stripe]\nplugin = \"stripe\"\nwebhook_secret = {{ file = {current:?} }}\n\
         webhook_secrets_extra = [{{ file = {old:?} }}]\n"
    ));
    let daemon = home.start();
    daemon.wait_source("stripe", "live");
    let body = json!({ "id": "evt_1", "object": "event", "type": "moon.landed", "data": { "object": {} } })
        .to_string();
    let at = now().secs();
    let good = sign_stripe(SECRET, at, &body);
    let (_, signature) = good.split_once(",v1=").unwrap();
    let zeros = "0".repeat(64);
    let headers = [
        good.clone(),
        sign_stripe("whsec_before", at, &body),
        sign_stripe("whsec_foreign", at, &body),
        sign_stripe(SECRET.trim_start_matches("whsec_"), at, &body),
        sign_stripe(SECRET, at - 240, &body),
        sign_stripe(SECRET, at - 330, &body),
        sign_stripe(SECRET, at, &format!("{body} ")),
        format!("t={at},v1={zeros},v1={signature}"),
        format!("t={at},v1={signature},v1={zeros}"),
        format!("t={at},v0={signature}"),
        format!("t={at},v1=no-hex,v1={signature}"),
        format!("t={at},v1={}", signature.get(..62).unwrap()),
        format!("t={},v1={signature}", at - 1),
        format!("v1={signature}"),
        format!("t={at}"),
        "nonsense".to_owned(),
    ];
    for header in &headers {
        let case = |secret: &str| json!({ "payload": body, "header": header, "secret": secret });
        // The library knows one secret at a time.
        let believed = oracle(&[case(SECRET), case("whsec_before")]).contains(&true);
        let answer = daemon.post("/in/stripe", &[("stripe-signature", header)], body.as_bytes()).unwrap();
        assert_eq!(answer.status, if believed { 200 } else { 401 }, "{header}: {answer:?}");
        assert!(believed || !answer.body.trim().is_empty(), "{header} is refused without a reason");
    }
    assert_eq!(daemon.stop(), 0);
}
