//! A real browser on the dashboard: `it/peers/browser.py` drives the system's Chromium.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::daemon::{python, repo_root};

/// Where distributions put Chromium.
const CHROMIUM: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/// A browser. It ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    lines: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Browser {
    /// Starts a browser for the site at `base`, such as `http://127.0.0.1:7414`.
    #[track_caller]
    pub fn start(base: &str) -> Self {
        let chromium = CHROMIUM.map(Path::new).into_iter().find(|path| path.exists());
        let chromium = chromium.expect("no Chromium: install it (`apt install chromium`)");
        let mut child = Command::new(python())
            .arg(repo_root().join("tests/it/peers/browser.py"))
            .args([chromium.to_str().unwrap(), base])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, lines: RefCell::new(lines) }
    }

    #[track_caller]
    fn tell(&self, command: &Value) -> Value {
        let (stdin, stdout) = &mut *self.lines.borrow_mut();
        writeln!(stdin, "{command}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the browser ended at {command}"));
        assert!(answer.get("error").is_none(), "{command}: {}", answer["error"].as_str().unwrap_or_default());
        answer["ok"].clone()
    }

    /// Opens a page in a fresh window of this size.
    #[track_caller]
    pub fn open(&self, path: &str, (width, height): (u32, u32), dark: bool) {
        self.tell(&json!({ "do": "open", "path": path, "width": width, "height": height, "dark": dark }));
    }

    /// Waits until something is there; its text.
    #[track_caller]
    pub fn wait(&self, selector: &str) -> String {
        self.tell(&json!({ "do": "wait", "selector": selector })).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until something is not there any more.
    #[track_caller]
    pub fn gone(&self, selector: &str) {
        self.tell(&json!({ "do": "gone", "selector": selector }));
    }

    /// Presses a key.
    #[track_caller]
    pub fn press(&self, key: &str) {
        self.tell(&json!({ "do": "press", "key": key }));
    }

    /// Writes into a field.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        self.tell(&json!({ "do": "fill", "selector": selector, "text": text }));
    }

    /// Clicks.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.tell(&json!({ "do": "click", "selector": selector }));
    }

    /// What a script says about the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.tell(&json!({ "do": "run", "script": script }))
    }

    /// Serious faults of accessibility, by axe-core.
    #[track_caller]
    pub fn violations(&self) -> Vec<String> {
        serde_json::from_value(self.tell(&json!({ "do": "violations" }))).unwrap()
    }

    /// What pages have logged as errors or asked of other hosts since the last call.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        serde_json::from_value(self.tell(&json!({ "do": "complaints" }))).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
