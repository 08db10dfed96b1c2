//! An HTTP API that is asked again and again.

use railwatch_tests::{Answer, Home, HttpPeer, Request, now, until};
use serde_json::{Value, json};

use crate::totals::counted;

/// Charges that the API knows.
const CHARGES: usize = 25;
/// Charges on a page.
const PAGE: usize = 10;

/// The page behind `after=ch_N`.
fn page(request: &Request) -> Answer {
    let after = request.path.split_once("after=").map_or("", |(_, after)| after);
    let first = after.trim_start_matches("ch_").parse::<usize>().map_or(0, |last| last + 1);
    let charge =
        |nth: usize| json!({ "id": format!("ch_{nth}"), "agent_id": "buyer", "amount": 150, "ts": now() });
    let data: Vec<Value> = (first..CHARGES.min(first + PAGE)).map(charge).collect();
    Answer { body: json!({ "data": data }).to_string(), ..Answer::status(200) }
}

#[test]
fn pages_are_read_to_the_end_and_the_place_survives_a_power_cut() {
    let mut n_requests = 0;
    let api = HttpPeer::start(move |request| {
        n_requests += 1;
        if n_requests == 2 { Answer::status(503) } else { page(request) }
    });
    let home = Home::new(&format!(
        "[sources.api]\nplugin = \"poll\"\nurl = \"{}?after={{cursor}}\"\nitems = \"/data\"\ncursor = \"/id\"\n\
         interval = \"100ms\"\nbackoff_max = \"200ms\"\ncurrency = \"USD\"\namount_unit = \"minor\"\n",
        api.url("/v1/charges")
    ));
    let daemon = home.start();
    daemon.wait_applied(CHARGES as u64);
    daemon.kill();
    let before = api.requests().len();
    let daemon = home.start();
    let again = until("another request", 30, || api.requests().get(before).cloned());
    assert!(again.path.ends_with(&format!("after=ch_{}", CHARGES - 1)), "{again:?}");
    assert_eq!(counted(&home), [("buyer".to_owned(), CHARGES as u64, "37.50".to_owned())]);
    assert_eq!(daemon.stop(), 0);
}
