//! A payment gate: the Python `websockets` server in `it/peers/gate.py`, which plays a JSON lines file that may grow.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{python, repo_root};
use crate::wait::until;

/// How the gate behaves.
#[derive(Debug, Clone, Copy)]
pub struct GateOptions {
    /// Payments in one frame: 1 sends objects, more send arrays.
    pub per_frame: usize,
    /// Frames after which a connection is dropped without a goodbye; 0 never drops.
    pub drop_after: usize,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { per_frame: 1, drop_after: 0 }
    }
}

/// What the gate said: one value per connection, and how far it has sent.
#[derive(Debug, Default)]
struct Said {
    port: Option<u64>,
    connections: Vec<Value>,
    position: u64,
}

/// The running gate. It ends when dropped.
#[derive(Debug)]
pub struct Gate {
    child: Child,
    port: u64,
    said: Arc<Mutex<Said>>,
    path: PathBuf,
    _folder: TempDir,
}

impl Gate {
    /// Starts a gate with nothing to send yet.
    pub fn start(options: GateOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payments.jsonl");
        File::create(&path).unwrap();
        let mut child = Command::new(python())
            .arg(repo_root().join("tests/it/peers/gate.py"))
            .arg(&path)
            .args(["--per-frame", &options.per_frame.to_string()])
            .args(["--drop-after", &options.drop_after.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let (lines, hearing) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| hear(&hearing, &line)));
        let port = until("the gate's port", 30, || look(&said, |said| said.port));
        Self { child, port, said, path, _folder: folder }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/payments", self.port)
    }

    /// Gives it more to send.
    pub fn send(&self, lines: impl IntoIterator<Item = String>) {
        let mut text = lines.into_iter().collect::<Vec<_>>().join("\n");
        text.push('\n');
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Stops its process in its tracks, sockets open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    /// How many connections there were.
    pub fn n_connections(&self) -> usize {
        look(&self.said, |said| said.connections.len())
    }

    /// The `since` of every connection so far; `Null` where none was asked for.
    pub fn resumed_from(&self) -> Vec<Value> {
        look(&self.said, |said| said.connections.clone())
    }

    /// The highest line number that was sent on any connection.
    pub fn position(&self) -> u64 {
        look(&self.said, |said| said.position)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A line that makes the gate send a frame of its own kind: `{"text": …}`, `{"binary_base64": …}`,
/// `{"broken_text_base64": …}` (a text frame that need not be UTF-8) or `{"filler_len": …}` (a text of that many bytes).
pub fn special(frame: &Value) -> String {
    json!({ "$frame": frame }).to_string()
}

fn look<T>(said: &Mutex<Said>, look: impl FnOnce(&Said) -> T) -> T {
    look(&said.lock().unwrap_or_else(PoisonError::into_inner))
}

fn hear(said: &Mutex<Said>, line: &str) {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(port) = value["port"].as_u64() {
        said.port = Some(port);
    }
    if let Some(position) = value["sent"].as_u64() {
        said.position = said.position.max(position);
    }
    if value.get("connection").is_some() {
        said.connections.push(value["since"].clone());
    }
}
