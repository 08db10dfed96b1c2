//! When there is more than there is room for, and when the other side goes silent: who must wait is told to, nobody
//! else notices, and every payment that was accepted counts once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use railwatch_tests::{Daemon, Gate, GateOptions, Home, now, python, until};
use serde_json::json;

use crate::totals::{counted, wait_counted};

/// A webhook that tells its senders to come back after a second.
const HOOK: &str = "[sources.hook]\nplugin = \"webhook\"\npath = \"/in/hook\"\nin_flight_max = 8\n\
                    deadline = \"1s\"\nverify = \"none-accept-forged-events\"\n";

/// Payments of a dollar each, as one body of lines. What they bought takes room.
fn body(name: &str, n: usize) -> Vec<u8> {
    let line = |nth| {
        let resource = format!("https://shop.example/{}", format!("{name}-{nth}-").repeat(20));
        json!({ "id": format!("{name}-{nth}"), "agent_id": "a", "amount_usd": "1.00", "ts": now(), "resource": resource })
            .to_string()
    };
    (0..n).map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

fn post(daemon: &Daemon<'_>, body: &[u8]) -> u16 {
    daemon.post("/in/hook", &[], body).map_or(0, |answer| answer.status)
}

#[track_caller]
fn check_counted(home: &Home, n: u64) {
    assert_eq!(counted(home), [("a".to_owned(), n, format!("{n}.00"))]);
}

#[test]
fn a_full_store_takes_nothing_more_and_says_so_until_there_is_room() {
    const BATCH: usize = 500;
    let home = Home::new(&format!("{HOOK}[limits]\nstore_bytes = 1048576\n"));
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let mut accepted = 0_u64;
    let refused = loop {
        let name = format!("f{accepted}");
        let body = body(&name, BATCH);
        match post(&daemon, &body) {
            200 => accepted += BATCH as u64,
            503 => break body,
            other => panic!("{other} after {accepted} payments"),
        }
        assert!(accepted < 100_000, "a megabyte cannot hold {accepted} payments");
    };
    assert!(accepted > 0);
    let ready = daemon.get("/readyz").unwrap();
    assert_eq!((ready.status, ready.body.contains("store")), (503, true), "{ready:?}");
    assert_eq!(daemon.get("/healthz").unwrap().status, 200, "it lives, and must not be restarted for this");
    assert!(home.log().contains("store cannot be written, payments wait"), "{}", home.log());
    daemon.kill();

    home.configure(HOOK);
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    wait_counted(&daemon, accepted);
    check_counted(&home, accepted);
    assert_eq!(post(&daemon, &refused), 200, "the sender tries again");
    check_counted(&home, accepted + BATCH as u64);
    assert_eq!(daemon.stop(), 0);
    assert_eq!(home.run(&["doctor"]).code, 0);
}

/// Another program that has the store locked for writing, such as somebody's `sqlite3` shell.
struct Locker(Child);

impl Locker {
    fn lock(home: &Home) -> Self {
        let script = "import sqlite3, sys\n\
                      db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n\
                      db.execute('BEGIN IMMEDIATE')\n\
                      print('locked', flush=True)\n\
                      sys.stdin.read()\n";
        let mut python = Command::new(python());
        python.args(["-c", script]).arg(home.path("railwatch.db"));
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "locked");
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_flood_while_another_program_locks_the_store_loses_nothing() {
    const SENDERS: usize = 24;
    const EACH: usize = 20;
    let home = Home::new(HOOK);
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    assert_eq!(post(&daemon, &body("before", 1)), 200);
    let locker = Locker::lock(&home);
    let refused = std::thread::scope(|scope| {
        let daemon = &daemon;
        let send = |sender: usize| {
            move || {
                let bodies: Vec<_> = (0..EACH).map(|nth| body(&format!("s{sender}-{nth}"), 1)).collect();
                let first = post(daemon, &bodies[0]);
                for body in &bodies {
                    until("the flood is over", 60, || (post(daemon, body) == 200).then_some(()));
                }
                u64::from(first == 503)
            }
        };
        let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(send(sender))).collect();
        until("railwatch says that it cannot write", 30, || {
            (daemon.get("/readyz")?.status == 503).then_some(())
        });
        assert_eq!(daemon.get("/healthz").unwrap().status, 200);
        locker.release();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum::<u64>()
    });
    assert!(refused > 0, "nobody was asked to wait");
    until("it is ready again", 30, || (daemon.get("/readyz")?.status == 200).then_some(()));
    check_counted(&home, (SENDERS * EACH) as u64 + 1);
    for _ in 0..20 {
        assert_eq!(post(&daemon, &vec![b' '; 10 << 20]), 413);
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn senders_that_stall_keep_nobody_waiting() {
    const STALLED: usize = 300;
    let home = Home::new(HOOK);
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let stalled: Vec<TcpStream> = (0..STALLED)
        .map(|nth| {
            let mut stream = TcpStream::connect(home.address()).unwrap();
            let half: &[u8] = match nth % 3 {
                0 => b"",
                1 => b"POST /in/hook HTTP/1.1\r\nhost: x\r\n",
                _ => b"POST /in/hook HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"id\":",
            };
            stream.write_all(half).unwrap();
            stream
        })
        .collect();
    assert_eq!(post(&daemon, &body("w", 3)), 200);
    check_counted(&home, 3);
    let asked_at = now();
    assert_eq!(daemon.stop(), 0);
    let waited = now().since(asked_at);
    assert!(waited < Duration::from_secs(15), "stopping took {waited:?}");
    for mut stream in stalled {
        // Hung up on, with or without an answer.
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        drop(stream.read(&mut [0; 64]));
    }
}

#[test]
fn a_gate_that_goes_silent_is_left_and_asked_for_the_rest() {
    let gate = Gate::start(GateOptions::default());
    let source = crate::gate::source(&gate);
    let home = Home::new(&format!(
        "{source}ping_after = \"200ms\"\ndead_after = \"500ms\"\nconnect_timeout = \"500ms\"\n"
    ));
    let line = |seq: u64| {
        json!({ "seq": seq, "id": format!("g-{seq}"), "agent_id": "a", "amount_usd": "1.00", "ts": now() })
            .to_string()
    };
    let daemon = home.start();
    gate.send((1..=10).map(line));
    wait_counted(&daemon, 10);
    // The process is stopped: its sockets stay open, and nothing ever comes out of them.
    gate.pause();
    daemon.wait_source("gate", "retrying");
    gate.send((11..=20).map(line));
    gate.go_on();
    wait_counted(&daemon, 20);
    check_counted(&home, 20);
    assert_eq!(daemon.stop(), 0);
}
