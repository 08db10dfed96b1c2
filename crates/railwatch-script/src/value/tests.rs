//! Amounts and times that cross into the machine and back.

use proptest::prelude::*;

use super::*;
use crate::limits::Limits;
use crate::vm::Vm;

fn assets() -> impl Strategy<Value = Asset> {
    prop_oneof![
        Just(Asset::usd()),
        Just(Asset::btc()),
        Just(nano_dollar()),
        Just(Asset::new("EUR", 2).unwrap()),
        Just(Asset::new("ETH", 18).unwrap()),
    ]
}

proptest! {
    #[test]
    fn dollars_and_times_survive_the_crossing(nanos in any::<i64>(), micros in -(1_i64 << 60)..(1_i64 << 60)) {
        let arena = Arena::default();
        let found = Scalar::read(&usd(Usd::from_nanos(nanos), &arena).unwrap(), &arena).unwrap().unwrap();
        match found {
            Scalar::Usd(usd) => prop_assert_eq!(usd.nanos(), nanos),
            Scalar::Amount(money) => {
                prop_assert!(nanos.unsigned_abs() > 2_000_000_000_000_000_000);
                prop_assert_eq!(money, Money::new(i128::from(nanos), nano_dollar()));
            }
            Scalar::Time(_) => prop_assert!(false, "an amount became a time"),
        }
        let at = Timestamp::from_micros(micros);
        prop_assert_eq!(Scalar::read(&time(at), &arena).unwrap(), Some(Scalar::Time(at)));
    }

    #[test]
    fn amounts_cross_exactly_and_equal_ones_are_equal(units in any::<i128>(), asset in assets(), sealed in any::<bool>()) {
        let arena = Arena::default();
        if sealed {
            arena.seal();
        }
        let money = Money::new(units, asset);
        let value = amount(money.clone(), &arena).unwrap();
        prop_assert_eq!(&value, &amount(money.clone(), &arena).unwrap());
        let back = to_money(&Scalar::read(&value, &arena).unwrap().unwrap()).unwrap();
        prop_assert_eq!(back.asset().code(), money.asset().code());
        if money.asset().code() == "USD" {
            prop_assert_eq!(as_usd(&back), as_usd(&money));
        } else {
            prop_assert_eq!(back, money);
        }
    }

    #[test]
    fn arithmetic_is_that_of_money(a in any::<i64>(), b in any::<i64>(), asset in assets()) {
        let vm = Vm::new("x.lua", &Limits::default(), |_, _| Ok(())).unwrap();
        let text = "return function(a, b) return a + b, a - b, a < b, a <= b, a == b end";
        let Value::Function(function) = vm.run(text).unwrap() else { panic!("it returns a function") };
        let (a, b) = (Money::new(i128::from(a), asset.clone()), Money::new(i128::from(b), asset));
        let cross = |money: &Money| amount(money.clone(), &vm.shared.arena).unwrap();
        // The arguments belong to the call: they are made after it began.
        vm.shared.arena.begin();
        let (sum, difference, less, at_most, same): (Value, Value, bool, bool, bool) =
            function.call((cross(&a), cross(&b))).unwrap();
        prop_assert_eq!(sum, cross(&a.checked_add(&b).unwrap()));
        prop_assert_eq!(difference, cross(&a.checked_sub(&b).unwrap()));
        prop_assert_eq!((less, at_most, same), (a.units() < b.units(), a.units() <= b.units(), a == b));
    }
}
