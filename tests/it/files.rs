//! Payments from files and from standard input.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Stdio;

use railwatch_tests::{Home, now};

use crate::totals::counted;

fn line(id: &str, amount: &str) -> String {
    format!("{{\"id\":\"{id}\",\"agent\":\"clerk\",\"amount\":\"{amount}\",\"at\":\"{}\"}}\n", now())
}

/// Expects these payments and dollars of the one agent.
#[track_caller]
fn check(home: &Home, payments: u64, dollars: &str) {
    assert_eq!(counted(home), [("clerk".to_owned(), payments, dollars.to_owned())]);
}

#[test]
fn a_jsonl_file_is_read_once_even_by_two_runs() {
    let home =
        Home::new("[sources.ledger]\nplugin = \"file\"\npath = \"ledger.jsonl\"\ncurrency = \"USD\"\n");
    home.write("ledger.jsonl", line("f-1", "1.25") + &line("f-2", "2.50"));
    for _ in 0..2 {
        let daemon = home.start();
        daemon.wait_source("ledger", "done");
        check(&home, 2, "3.75");
        assert_eq!(daemon.stop(), 0);
    }
}

#[test]
fn csv_columns_are_mapped_by_name() {
    let home = Home::new(
        "[sources.bank]\nplugin = \"file\"\npath = \"bank.csv\"\ncurrency = \"USD\"\ndelimiter = \";\"\n\
         [sources.bank.map]\nid = \"/Reference\"\nagent = \"/Card holder\"\namount = \"/Amount\"\nat = \"/Date\"\n",
    );
    let rows =
        format!("Reference;Card holder;Amount;Date\nr-1;clerk;10.01;{0}\n\"r;2\";clerk;0.99;{0}\n", now());
    home.write("bank.csv", rows);
    let daemon = home.start();
    daemon.wait_source("bank", "done");
    check(&home, 2, "11.00");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_followed_file_goes_on_across_a_power_cut() {
    let home = Home::new(
        "[sources.ledger]\nplugin = \"file\"\npath = \"ledger.jsonl\"\nfollow = true\npoll_every = \"20ms\"\n\
         currency = \"USD\"\n",
    );
    let path = home.write("ledger.jsonl", line("g-1", "1.00"));
    let append = |text: String| {
        OpenOptions::new().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    let daemon = home.start();
    daemon.wait_applied(1);
    append(line("g-2", "2.00"));
    daemon.wait_applied(2);
    check(&home, 2, "3.00");
    daemon.kill();
    append(line("g-3", "4.00"));
    let daemon = home.start();
    append(line("g-4", "8.00"));
    daemon.wait_applied(2);
    check(&home, 4, "15.00");
    assert_eq!(daemon.metric("railwatch_payments_duplicate_total"), 0);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn standard_input_is_read_to_its_end() {
    let home = Home::new("[sources.pipe]\nplugin = \"stdin\"\nformat = \"csv\"\ncurrency = \"USD\"\n");
    let mut daemon = home.start_with(Stdio::piped());
    let mut stdin = daemon.child().stdin.take().unwrap();
    write!(stdin, "id,agent,amount,at\ns-1,clerk,5.00,{0}\ns-2,clerk,6.00,{0}\n", now()).unwrap();
    drop(stdin);
    daemon.wait_source("pipe", "done");
    check(&home, 2, "11.00");
    assert_eq!(daemon.stop(), 0);
}
