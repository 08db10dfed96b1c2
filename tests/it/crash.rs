//! Power cuts at arbitrary moments of the intake.

use std::time::Duration;

use railwatch_tests::{Fleet, Gate, GateOptions, Home, Payment, Random, now, until};

use crate::gate::source;
use crate::totals::check_totals;

const CRASHES: u64 = 10;
/// Payments that are offered between two crashes.
const BETWEEN: usize = 400;

#[test]
fn nothing_is_lost_or_counted_twice_whenever_it_crashes() {
    let gate = Gate::start(GateOptions { per_frame: 3, drop_after: 0 });
    let home = Home::new(&source(&gate));
    let mut random = Random::new(0x5eed_0002);
    let mut fleet = Fleet::new(20, 0x5eed_0003);
    let end = now();
    let payments = fleet.pay(end.before(Duration::from_secs(20 * 3600)), end, &[]);
    let mut rounds = payments.chunks(BETWEEN);
    for crash in 0..CRASHES {
        let round = rounds.next().unwrap();
        let daemon = home.start();
        gate.send(round.iter().map(Payment::line));
        let last = round.last().unwrap().seq;
        // Somewhere between the first frame of the round and, now and then, some time after its last.
        until("the gate has sent the round", 60, || (gate.position() >= last).then_some(()));
        let n_before = random.below(BETWEEN as u64 + 100);
        until("the moment of the crash", 60, || {
            let applied = daemon.metric("railwatch_payments_applied_total");
            (applied >= n_before.min(round.len() as u64) || crash % 3 == 0).then_some(())
        });
        daemon.kill();
    }
    for rest in rounds {
        gate.send(rest.iter().map(Payment::line));
    }
    let daemon = home.start();
    check_totals(&home, &daemon, &fleet.sums);
    assert!(gate.resumed_from().iter().any(|since| since.is_string()), "the gate was asked to resume");
    assert_eq!(daemon.stop(), 0);
    let doctor = home.run(&["doctor"]);
    assert_eq!((doctor.code, doctor.stdout.contains(": sound")), (0, true), "{doctor:?}");
}
