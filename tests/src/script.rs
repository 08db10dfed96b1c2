//! A peer that is a program in `it/peers`, in Python or for Node: it says JSON lines, and ends when its input ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::daemon::{python, repo_root};
use crate::wait::until;

/// The running program. It ends when dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Script {
    /// Starts `it/peers/<script>` in Python with these arguments.
    pub fn python(script: &str, args: &[&str]) -> Self {
        Self::start(Command::new(python()), script, args)
    }

    /// Starts `it/peers/<script>` in Node with these arguments.
    pub fn node(script: &str, args: &[&str]) -> Self {
        Self::start(Command::new("node"), script, args)
    }

    fn start(mut interpreter: Command, script: &str, args: &[&str]) -> Self {
        let mut child = interpreter
            .arg(repo_root().join("tests/it/peers").join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, hearing) = (BufReader::new(child.stdout.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_default();
                hearing.lock().unwrap_or_else(PoisonError::into_inner).push(value);
            }
        });
        Self { child, said }
    }

    /// Everything that it said so far.
    pub fn said(&self) -> Vec<Value> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said something of which `find` makes something.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        until(what, 60, || self.said().iter().find_map(&find))
    }

    /// Says a line to it.
    pub fn say(&mut self, value: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{value}").unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
