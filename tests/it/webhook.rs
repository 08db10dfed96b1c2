//! Signed webhooks: forgeries are refused, and 2xx means that it survives a power cut.

use std::sync::atomic::{AtomicBool, Ordering};

use railwatch_tests::{Daemon, Home, SECRET, now, sign_standard};

use crate::totals::counted;

const PATH: &str = "/in/hook";

fn home() -> Home {
    let home = Home::new("");
    let secret = home.write("hook.secret", SECRET);
    home.configure(&format!(
        "[sources.hook]\nplugin = \"webhook\"\npath = \"{PATH}\"\ncurrency = \"USD\"\n\
         verify = {{ preset = \"standard-webhooks\", secret = {{ file = {secret:?} }} }}\n"
    ));
    home
}

/// Posts a body signed `age_secs` ago and returns the status.
#[track_caller]
fn post(daemon: &Daemon<'_>, secret: &str, age_secs: i64, body: &str) -> u16 {
    let at = now().secs() - age_secs;
    let signature = sign_standard(secret, "msg_1", at, body.as_bytes());
    let at = at.to_string();
    let headers = [("webhook-id", "msg_1"), ("webhook-timestamp", &*at), ("webhook-signature", &*signature)];
    daemon.post(PATH, &headers, body.as_bytes()).unwrap().status
}

fn payment(id: &str, amount: &str) -> String {
    format!("{{\"id\":\"{id}\",\"agent_id\":\"shopper\",\"amount\":\"{amount}\",\"ts\":{}}}", now().secs())
}

#[test]
fn whoever_cannot_sign_records_nothing() {
    let home = home();
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let body = payment("w-1", "1.00");
    let foreign = "whsec_YW5vdGhlciBrZXkgdGhhdCBpcyBsb25nIGVub3VnaCEhISE=";
    assert_eq!(post(&daemon, foreign, 0, &body), 401);
    assert_eq!(post(&daemon, SECRET, 3600, &body), 401);
    assert_eq!(post(&daemon, SECRET, -3600, &body), 401);
    assert_eq!(daemon.post(PATH, &[], body.as_bytes()).unwrap().status, 401);
    assert_eq!(daemon.post("/in/elsewhere", &[], body.as_bytes()).unwrap().status, 404);
    assert_eq!(counted(&home), []);
    assert_eq!(daemon.metric("railwatch_payments_received_total"), 0);
}

#[test]
fn an_accepted_payment_survives_a_power_cut_and_counts_once() {
    let home = home();
    let (one, two) = (payment("w-1", "1.10"), payment("w-2", "2.20"));
    let array = format!("[{two},{}]", payment("w-3", "3.30"));
    let lines = format!("{}\n{}\n", payment("w-4", "4.40"), payment("w-5", "5.50"));
    let mut expected = 0;
    for (body, payments) in [(one.clone(), 1), (array, 2), (lines, 2)] {
        let daemon = home.start();
        daemon.wait_source("hook", "live");
        assert_eq!(post(&daemon, SECRET, 0, &body), 200, "{body}");
        daemon.kill();
        expected += payments;
        let daemon = home.start();
        daemon.wait_source("hook", "live");
        assert_eq!(counted(&home).iter().map(|(_, n, _)| n).sum::<u64>(), expected, "{body}");
        // The sender did not hear the answer and tries again.
        assert_eq!(post(&daemon, SECRET, 0, &body), 200, "{body}");
        daemon.kill();
    }
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    assert_eq!(post(&daemon, SECRET, 0, &one), 200);
    assert_eq!(counted(&home), [("shopper".to_owned(), 5, "16.50".to_owned())]);
    assert_eq!(daemon.metric("railwatch_payments_duplicate_total"), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn senders_never_find_the_path_gone_while_its_source_changes() {
    let home = home();
    let daemon = home.start();
    daemon.wait_source("hook", "live");
    let text = std::fs::read_to_string(home.config()).unwrap();
    let is_over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (mut n, mut again) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let body = payment(&format!("w-{n}"), "1.00");
                match post(&daemon, SECRET, 0, &body) {
                    200 => n += 1,
                    503 => again += 1,
                    other => panic!("payment {n}: {other}"),
                }
            }
            (n, again)
        });
        for n in 0..8 {
            std::fs::write(
                home.config(),
                text.replace("currency", &format!("in_flight_max = {}\ncurrency", 100 + n)),
            )
            .unwrap();
            let reload = home.run(&["reload", "--json"]);
            assert_eq!(reload.code, 0, "{reload:?}");
        }
        is_over.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    let (n, _) = sent;
    daemon.wait_applied(n);
    assert_eq!(counted(&home), [("shopper".to_owned(), n, format!("{n}.00"))]);
    assert_eq!(daemon.stop(), 0);
}
