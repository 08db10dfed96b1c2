//! A real `railwatch` process on a configuration of its own.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::call::{Response, call};
use crate::wait::until;

/// How long a start may take: the machine may be busy with other tests.
const START_SECS_MAX: u64 = 60;

/// The repository.
pub fn repo_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder of the profile that the tests were built with, such as `target/debug`.
fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// A file of a peer that `tests/run` installed, such as `anvil/anvil`.
///
/// # Panics
/// If it is not there.
pub fn peer_file(path: &str) -> PathBuf {
    let file = profile_dir().parent().unwrap().join("test-peers").join(path);
    assert!(file.exists(), "{} is missing: run the tests with `bash tests/run`", file.display());
    file
}

/// The Python that has the peers' packages.
pub fn python() -> PathBuf {
    peer_file("python/bin/python")
}

fn program() -> PathBuf {
    let program = profile_dir().join("railwatch");
    assert!(program.exists(), "{} is missing: run the tests with `bash tests/run`", program.display());
    program
}

/// A port below those that the system hands out by itself, so that it stays free while nothing runs on it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 180).unwrap() * 100;
    loop {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 18_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs `railwatch` with these arguments and nothing else.
pub fn railwatch(args: &[&str]) -> Outcome {
    Outcome::of(Command::new(program()).args(args))
}

/// What a finished command did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The documents of `--json`, one per line.
    #[track_caller]
    pub fn documents(&self) -> Vec<Value> {
        assert_eq!(self.code, 0, "{self:?}");
        let lines = self.stdout.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

/// A folder with a configuration, a store and whatever a test puts beside them. It is deleted when dropped.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    port: u16,
}

impl Home {
    /// A home whose configuration is `config` behind a listener on a free port and a store.
    pub fn new(config: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), port: free_port() };
        home.configure(config);
        home
    }

    /// Replaces the configuration, at once.
    pub fn configure(&self, config: &str) {
        let port = self.port;
        let text =
            format!("[http]\nlisten = \"127.0.0.1:{port}\"\n\n[store]\npath = \"railwatch.db\"\n\n{config}");
        let fresh = self.path("railwatch.toml.new");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.config()).unwrap();
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("railwatch.toml")
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// What the daemons of this home have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    /// Where its daemon listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A `railwatch` command on this configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.config()).args(args).current_dir(self.folder.path());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub fn start(&self) -> Daemon<'_> {
        self.start_with(Stdio::null())
    }

    /// Starts the daemon with a standard input.
    #[track_caller]
    pub fn start_with(&self, stdin: Stdio) -> Daemon<'_> {
        let log = OpenOptions::new().create(true).append(true).open(self.path("stderr.log")).unwrap();
        let mut command = self.command(&["run"]);
        command.stdin(stdin).stdout(File::create(self.path("stdout.log")).unwrap()).stderr(log);
        let mut daemon = Daemon { home: self, child: command.spawn().unwrap() };
        until("railwatch is ready", START_SECS_MAX, || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("railwatch ended with {status}:\n{}", self.log());
            }
            daemon.get("/readyz").filter(|answer| answer.status == 200).map(drop)
        });
        daemon
    }
}

/// A running daemon. It is killed when dropped.
#[derive(Debug)]
pub struct Daemon<'a> {
    home: &'a Home,
    child: Child,
}

impl Daemon<'_> {
    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What a path of its listener answers; `None` if nobody does.
    pub fn get(&self, path: &str) -> Option<Response> {
        call(&self.home.address(), "GET", path, &[], b"").ok()
    }

    /// Posts to a path of its listener; `None` if nobody answers.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
        call(&self.home.address(), "POST", path, headers, body).ok()
    }

    /// A number of its metrics, summed over labels; 0 if there is none.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").map(|answer| answer.body).unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits until a source is in this phase.
    #[track_caller]
    pub fn wait_source(&self, source: &str, phase: &str) {
        until(&format!("source {source} is {phase}"), 30, || {
            let status: Value = serde_json::from_str(&self.get("/v1/status")?.body).ok()?;
            (status["sources"][source]["phase"] == phase).then_some(())
        });
    }

    /// Waits until this many payments were accepted and judged since the daemon's start.
    #[track_caller]
    pub fn wait_applied(&self, n: u64) {
        until(&format!("{n} payments are judged"), 60, || {
            (self.metric("railwatch_payments_applied_total") >= n).then_some(())
        });
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, waits, and returns its exit code.
    #[track_caller]
    pub fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = until("railwatch stops", 60, || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- the log of railwatch at {}\n{}", self.home.address(), self.home.log());
        }
    }
}
