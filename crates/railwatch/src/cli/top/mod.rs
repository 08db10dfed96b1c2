//! `top`: the fleet in the terminal. It asks the API a few times in two seconds, draws what it hears, and does what
//! keys say. It fits 80 columns and 24 lines.

mod draw;
mod model;

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use console::{Key, Term};
use railwatch_model::Timestamp;
use railwatch_plugin::clock::{Clock as _, SystemClock};
use serde_json::json;

use self::model::{Model, Sort, Typing, View};
use crate::cli::client::Client;
use crate::cli::query::encode;
use crate::cli::{EXIT_FAILURE, Failure};

/// How long a key is waited for before the screen is looked at again.
const KEY_EVERY: Duration = Duration::from_millis(100);
/// Looks at an agent after which its hours are read again.
const SERIES_EVERY: u32 = 10;
/// How long an alert is silent that is silenced here; `railwatch silence` knows more.
const SILENCE: &str = "1h";
/// The other screen of the terminal, so that what was there before comes back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Options of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The order to begin with.
    #[arg(long, default_value = "attention", value_enum)]
    sort: Sort,
    /// How often to ask, in seconds.
    #[arg(long, default_value_t = 1.0, value_parser = every)]
    every: f64,
}

fn every(text: &str) -> Result<f64, String> {
    let every: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.2..=60.0).contains(&every) { Ok(every) } else { Err("between 0.2 and 60 seconds".to_owned()) }
}

/// `top`.
pub(crate) fn top(config: &Path, args: &TopArgs) -> Result<(), Failure> {
    let client = Client::open(config)?;
    let mut model = Model::new(args.sort);
    // The first answer comes before the screen is taken, so that a daemon that is not running is an ordinary error.
    refresh(&client, &mut model)?;
    let terminal = Term::buffered_stdout();
    if !terminal.is_term() {
        let message = "top needs a terminal; `railwatch agents` prints the same once".to_owned();
        return Err(Failure { code: EXIT_FAILURE, message });
    }
    let keys = Keys::read(terminal.clone())?;
    show(&terminal, ENTER)?;
    let watched = watch(&client, &mut model, &terminal, &keys, Duration::from_secs_f64(args.every));
    show(&terminal, LEAVE)?;
    watched
}

fn show(terminal: &Term, text: &str) -> Result<(), Failure> {
    let mut writer = terminal;
    writer.write_all(text.as_bytes())?;
    Ok(terminal.flush()?)
}

/// Keys, read on a thread of its own. The next one is read only when it is wanted: the terminal is never left in the
/// middle of reading.
struct Keys {
    wanted: SyncSender<()>,
    pressed: Receiver<Key>,
}

impl Keys {
    fn read(terminal: Term) -> Result<Self, Failure> {
        let (wanted, wishes) = sync_channel(1);
        let (presses, pressed) = sync_channel(1);
        let read = move || {
            while wishes.recv().is_ok() {
                let Ok(key) = terminal.read_key_raw() else { return };
                if presses.send(key).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
        wanted.send(()).ok();
        Ok(Self { wanted, pressed })
    }
}

fn watch(
    client: &Client,
    model: &mut Model,
    terminal: &Term,
    keys: &Keys,
    every: Duration,
) -> Result<(), Failure> {
    let mut asked_at = SystemClock.now();
    loop {
        let (height, width) = terminal.size();
        show(terminal, &draw::screen(model, usize::from(width), usize::from(height)))?;
        match keys.pressed.recv_timeout(KEY_EVERY) {
            Ok(Key::CtrlC) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(key) => {
                if !press(client, model, &key) {
                    return Ok(());
                }
                keys.wanted.send(()).ok();
                // Letters of a word are not worth a look each.
                if model.typing.is_none() {
                    asked_at = Timestamp::EPOCH;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if SystemClock.now().since(asked_at) >= every {
            // What was known stays on the screen, with a word on why it is old.
            model.trouble = refresh(client, model).err().map(|failure| failure.message);
            asked_at = SystemClock.now();
        }
    }
}

fn refresh(client: &Client, model: &mut Model) -> Result<(), Failure> {
    model.fleet = client.get("/v1/fleet")?;
    let filter =
        if model.filter.is_empty() { String::new() } else { format!("&q={}", encode(&model.filter)) };
    let page = client.get(&format!("/v1/agents?limit=200&sort={}{filter}", model.sort.as_str()))?;
    model.take_agents(&page);
    if let View::Agent(agent) = &model.view {
        let path = format!("/v1/agents/{}", encode(agent));
        model.detail = client.get(&path)?;
        // The hours are read from the journal: not with every look.
        if model.series_age == 0 {
            model.series = client.get(&format!("{path}/series?hours=6"))?;
        }
        model.series_age = (model.series_age + 1) % SERIES_EVERY;
    }
    Ok(())
}

/// Does what a key says; false ends.
fn press(client: &Client, model: &mut Model, key: &Key) -> bool {
    model.said.clear();
    if let Some(typing) = model.typing {
        if model.type_key(key) && typing == Typing::Reason {
            silence(client, model);
        }
        return true;
    }
    match key {
        Key::Char('q') => return false,
        Key::Escape if model.view == View::List => return false,
        Key::Escape | Key::ArrowLeft | Key::Backspace => model.back(),
        Key::Char('j') | Key::ArrowDown => model.step(1),
        Key::Char('k') | Key::ArrowUp => model.step(-1),
        Key::PageDown => model.step(10),
        Key::PageUp => model.step(-10),
        Key::Home | Key::Char('g') => model.step(i64::MIN),
        Key::End | Key::Char('G') => model.step(i64::MAX),
        Key::Enter | Key::ArrowRight => model.open(),
        Key::Char('s') => model.sort = model.sort.next(),
        Key::Char('/') => model.typing = Some(Typing::Filter),
        Key::Char('a') => act(client, model, "acknowledge"),
        Key::Char('z') if model.alert_in_hand().is_some() => model.typing = Some(Typing::Reason),
        Key::Char('r') => act(client, model, "resolve"),
        _ => {}
    }
    true
}

/// Silences the alert of the agent in hand for the reason that was typed.
fn silence(client: &Client, model: &mut Model) {
    let Some(alert) = model.alert_in_hand() else { return };
    let wish = json!({ "alert": alert, "for": SILENCE, "reason": std::mem::take(&mut model.reason) });
    model.said = match client.post("/v1/silences", &wish) {
        Ok(_) => format!("{alert} is silent for {SILENCE}"),
        Err(failure) => failure.message,
    };
}

/// Takes or closes the incident of the agent in hand.
fn act(client: &Client, model: &mut Model, verb: &str) {
    let Some(alert) = model.alert_in_hand() else {
        "this agent has no open alert".clone_into(&mut model.said);
        return;
    };
    let done = client.post(&format!("/v1/alerts/{}/{verb}", encode(&alert)), &json!({}));
    model.said = match done {
        Ok(done) => format!("{alert} is {}", done["state"].as_str().unwrap_or("changed")),
        Err(failure) => failure.message,
    };
}
