//! What the tests share: sample notices (honest and hostile), a loopback HTTP peer, and a way to build a sink from
//! the text of its table.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use railwatch_model::{
    AgentId, Alert, AlertId, AlertState, Basis, Contribution, IncidentId, Notice, NoticeId, Occasion,
    Severity, Signal, SignalKind, Subject, Timestamp, Trigger, Unit, Usd, Verdict,
};
use railwatch_plugin::clock::ManualClock;
use railwatch_plugin::secret::{Secret, SecretError, SecretRef, Secrets};
use railwatch_plugin::sink::{DeliveryError, Dispatch, Receipt, Sink, SinkBuild};
use smallvec::smallvec;

/// Every occasion.
pub(crate) const OCCASIONS: [(Occasion, &str); 10] = [
    (Occasion::Opened, "opened"),
    (Occasion::Reopened, "reopened"),
    (Occasion::Worsened, "worsened"),
    (Occasion::Reminded, "reminded"),
    (Occasion::Escalated, "escalated"),
    (Occasion::Acknowledged, "acknowledged"),
    (Occasion::Resolved, "resolved"),
    (Occasion::Freeze, "freeze"),
    (Occasion::Digest, "digest"),
    (Occasion::Test, "test"),
];

/// Every kind of button.
pub(crate) const PRESSES: [crate::message::Press; 4] = {
    use crate::message::Press;
    [Press::Acknowledge, Press::Silence, Press::Label, Press::Freeze]
};

/// A text with everything that chats, browsers and terminals act upon.
pub(crate) const HOSTILE: &str = "<!channel> @channel @here <script>alert(1)</script> *b* _i_ ~s~ `c` \
     [x](https://evil.example) <@U123> ||spoiler|| \u{202e}drowssap\u{202c} \u{1b}[31m \u{200b}& \"q\" 'a' \\ \r\nSubject: x";

/// The table of a sink whose URL is the secret `URL`.
pub(crate) const URL_TABLE: &str = "url = { env = \"URL\" }";

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// The product's example: `agent_billing_7` at 42 times its usual on a Monday night.
pub(crate) fn notice(occasion: Occasion) -> Notice {
    let headline = "agent_billing_7 spends $340/h on x402, 42x its usual $8.10/h for a Monday 02:00; \
                    $57 since 01:48; Stripe normal; budget empty in 9 h";
    let mut velocity = alert("velocity", Trigger::Signal(SignalKind::Velocity), headline);
    velocity.signal = Some(velocity_signal());
    let mut notices = Notice {
        id: NoticeId("inc-7f3a/opened/1/oncall".into()),
        incident: IncidentId("inc-7f3a".into()),
        occasion,
        subject: velocity.subject.clone(),
        team: Some("billing".into()),
        labels: Vec::new(),
        escalations: Vec::new(),
        severity: Severity::High,
        headline: headline.to_owned(),
        alerts: vec![velocity],
        at: at("2026-11-23T02:00:10Z"),
        link: Some("https://railwatch.example/incidents/inc-7f3a?tab=a&b=1".to_owned()),
        may_repeat: false,
        order: None,
        report: None,
    };
    match occasion {
        Occasion::Opened => {}
        Occasion::Reopened => {
            notices.alerts[0].times_seen = 3;
            notices.may_repeat = true;
        }
        Occasion::Escalated => notices.escalations = vec!["nobody_there".into()],
        Occasion::Worsened | Occasion::Reminded => {
            let mut rule = alert("rule", Trigger::Rule("night_spend".into()), "more than $50 at night");
            rule.severity = Severity::Medium;
            notices.alerts.push(rule);
        }
        Occasion::Acknowledged => {
            notices.alerts[0].acknowledged_by = Some("dana".into());
            notices.alerts[0].note = Some("looking at it".into());
        }
        Occasion::Resolved => notices.alerts[0].resolved_at = Some(notices.at),
        Occasion::Freeze => {
            notices.alerts[0].freeze =
                Some("frozen by dana on every rail until 2026-11-23T03:00:10Z; gate: done".into());
            notices.headline =
                "agent_billing_7 is frozen on every rail until 2026-11-23T03:00:10Z by dana: gate did it"
                    .to_owned();
        }
        Occasion::Digest => {
            notices.subject = Subject::Team("billing".into());
            notices.severity = Severity::Info;
            notices.headline =
                "team billing spent $412.00 in 97 purchases in the last day, 12 % more than before; \
                                1 alert open; agent_billing_7: empty on 2026-11-24, in 0.4 days"
                    .to_owned();
            let section = |title: &str, lines: &[&str]| railwatch_model::Section {
                title: title.to_owned(),
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            };
            let sections = vec![
                section("Rails", &["x402: $400.00, 900 % more than before", "stripe: $12.00"]),
                section("Agents", &["agent_billing_7: $340.00", "<@U1> *@here*: $72.00"]),
                section("Budgets that run out", &["agent_billing_7: empty on 2026-11-24, in 0.4 days"]),
            ];
            notices.report = Some(Box::new(railwatch_model::Report { sections }));
            notices.alerts.clear();
        }
        Occasion::Test => {
            notices.subject = Subject::Railwatch;
            notices.severity = Severity::Info;
            notices.headline = "this is a test of the sink oncall".to_owned();
            notices.alerts.clear();
            notices.link = None;
        }
    }
    notices
}

/// A notice in which every text is hostile, one memo has 10 kB, and there is more of everything than can be shown.
pub(crate) fn hostile() -> Notice {
    let mut notice = notice(Occasion::Opened);
    let memo = format!("{HOSTILE} {}", "&<m>".repeat(2500));
    notice.subject = Subject::Agent(AgentId::new("<@U1> *@here* [a](https://evil.example)").unwrap());
    notice.headline = memo.clone();
    notice.link = Some("javascript:alert(1)".to_owned());
    let mut alert = notice.alerts[0].clone();
    alert.subject = notice.subject.clone();
    alert.trigger = Trigger::Rule(HOSTILE.into());
    alert.summary = memo.clone();
    alert.note = Some(memo.as_str().into());
    alert.acknowledged_by = Some(HOSTILE.into());
    alert.payments = (0..10).map(|n| format!("x402/{n}{HOSTILE}").into()).collect();
    alert.contributions = (0..20).map(|_| Contribution { name: HOSTILE.into(), points: 0.05 }).collect();
    let signal = alert.signal.as_mut().unwrap();
    signal.about = Some(HOSTILE.into());
    signal.facts = (0..20).map(|_| (HOSTILE.into(), f64::MAX)).collect();
    notice.alerts = vec![alert; 40];
    notice.alerts[1].summary = HOSTILE.to_owned();
    notice
}

fn velocity_signal() -> Signal {
    let mut signal = Signal::usual(SignalKind::Velocity, Unit::UsdPerHour);
    signal.verdict = Verdict::Firing;
    signal.value = 340.0;
    signal.usual = 8.1;
    signal.evidence = 31.0;
    signal.probability = 0.98;
    signal.since = Some(at("2026-11-23T01:48:00Z"));
    signal.excess = Usd::from_cents(5_538);
    signal.about = Some("x402".into());
    signal.basis = Basis { window_secs: 900, learned_hours: 840.0, weeks: 5 };
    signal.facts = smallvec![("share_of_top_payee".into(), 0.99), ("payments".into(), 17.0)];
    signal
}

fn alert(id: &str, trigger: Trigger, summary: &str) -> Alert {
    Alert {
        id: AlertId(id.into()),
        incident: IncidentId("inc-7f3a".into()),
        subject: Subject::Agent(AgentId::new("agent_billing_7").unwrap()),
        team: Some("billing".into()),
        labels: Vec::new(),
        trigger,
        state: AlertState::Firing,
        severity: Severity::High,
        summary: summary.to_owned(),
        signal: None,
        score: 0.83,
        contributions: vec![
            Contribution { name: "velocity".into(), points: 0.55 },
            Contribution { name: "rail_shift".into(), points: 0.2 },
            Contribution { name: "burn".into(), points: 0.08 },
        ],
        spent_since_onset: Usd::from_cents(5_700),
        payments: vec!["x402/0xabc".into(), "x402/0xdef".into()],
        times_seen: 1,
        silenced_by: None,
        onset_at: at("2026-11-23T01:48:00Z"),
        opened_at: at("2026-11-23T01:52:00Z"),
        updated_at: at("2026-11-23T02:00:10Z"),
        resolved_at: None,
        acknowledged_by: None,
        note: None,
        freeze: None,
        generation: 12,
        opened_seq: 900,
    }
}

/// Secrets from a list of names and values. It hides them like the host's does, so that whatever a sink's `Debug`
/// shows of them comes from the sink.
pub(crate) struct FixedSecrets(HashMap<String, String>);

impl std::fmt::Debug for FixedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FixedSecrets(…)")
    }
}

impl Secrets for FixedSecrets {
    fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::Env(name) = reference else { return Err(SecretError::Empty) };
        let value = self.0.get(name).ok_or_else(|| SecretError::NoEnv(name.clone()))?;
        Ok(Secret::new(value.as_bytes()))
    }
}

/// One secret that a test changes while a sink runs.
#[derive(Debug)]
pub(crate) struct RotatingSecret(pub(crate) Mutex<String>);

impl Secrets for RotatingSecret {
    fn resolve(&self, _: &SecretRef) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.lock().unwrap().as_bytes()))
    }
}

/// What a sink builds itself from in tests; the clock shows the notice's time.
pub(crate) fn build_with(secrets: &[(&str, &str)], base_dir: PathBuf) -> SinkBuild {
    let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    SinkBuild {
        name: "oncall".into(),
        secrets: Arc::new(FixedSecrets(secrets)),
        clock: Arc::new(ManualClock::at(at("2026-11-23T02:00:10Z"))),
        base_dir,
    }
}

/// Builds the sink `plugin` from a table's text.
#[track_caller]
pub(crate) fn sink(plugin: &str, table: &str, secrets: &[(&str, &str)]) -> Box<dyn Sink> {
    let plugin = crate::SINKS.iter().find(|sink| sink.name == plugin).unwrap();
    let table = toml::from_str(table).unwrap();
    (plugin.build)(&table, &build_with(secrets, PathBuf::new())).unwrap()
}

/// Delivers on a runtime of its own.
pub(crate) fn deliver(
    sink: &dyn Sink,
    notice: &Notice,
    earlier: Option<&Receipt>,
) -> Result<Receipt, DeliveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sink.deliver(Dispatch { notice, earlier }))
}

/// What a peer does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers with a status line, headers and a body; a `content-length` is added.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Reads the request and says nothing until the caller gives up.
    Silence,
    /// Closes without a word.
    Close,
    /// Announces a body, sends half of it and closes.
    Half(u16),
    /// Announces a body and sends nothing more until the caller gives up.
    Stall(u16),
}

/// An answer without headers.
pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply::Answer(status, Vec::new(), body.to_owned())
}

/// A request as the peer read it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A loopback HTTP peer that plays a list of replies, one connection each, then stops listening.
#[derive(Debug)]
pub(crate) struct HttpPeer {
    pub(crate) address: SocketAddr,
    requests: mpsc::Receiver<Request>,
}

impl HttpPeer {
    pub(crate) fn play(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for reply in replies {
                let Ok((stream, _)) = listener.accept() else { return };
                if let Some(request) = serve(stream, &reply) {
                    drop(sender.send(request));
                }
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request; waits for it at most five seconds.
    #[track_caller]
    pub(crate) fn request(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(5)).expect("the sink sends a request")
    }
}

fn serve(mut stream: TcpStream, reply: &Reply) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = read_request(&mut stream)?;
    let bytes = match reply {
        Reply::Answer(status, headers, body) => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let len = body.len();
            format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {len}\r\nconnection: close\r\n{headers}\r\n{body}"
            )
        }
        Reply::Silence | Reply::Close => String::new(),
        Reply::Half(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\nhalf"),
        Reply::Stall(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\n"),
    };
    // The caller may stop reading a huge answer; that is what is being tested.
    drop(stream.write_all(bytes.as_bytes()));
    if matches!(reply, Reply::Silence | Reply::Stall(_)) {
        // Ends when the caller closes its side, which is its timeout.
        drop(stream.read(&mut [0; 1]));
    }
    Some(request)
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let line = lines.next()?.to_owned();
            let headers = lines.filter_map(|line| line.split_once(": "));
            let headers: HashMap<_, _> =
                headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
            let len = headers.get("content-length").map_or(Some(0), |len| len.parse().ok())?;
            if body.len() >= len {
                return Some(Request { line, headers, body: body.to_owned() });
            }
        }
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 && bytes.len() < 1 << 20 => bytes.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}
