//! The only two doors between exact money and statistics: dollars go in as floats, and what is shown to be at stake
//! comes out. Nothing that comes out is ever booked.

use railwatch_model::Usd;

/// Dollars for statistics; ten billion at most.
pub(crate) fn dollars(usd: Usd) -> f32 {
    narrow(usd.dollars()).clamp(-1e10, 1e10)
}

/// Money at stake for display: never negative, never more than ten billion dollars.
pub(crate) fn at_stake(dollars: impl Into<f64>) -> Usd {
    let nanos = dollars.into().clamp(0.0, 9.2e9) * 1e9;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is below 2^63, and a fraction of a nano-dollar is nothing"
    )]
    Usd::from_nanos(nanos as i64)
}

/// A float that fits into half the bytes.
pub(crate) fn narrow(number: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "eight digits are enough for statistics")]
    let narrow = number as f32;
    narrow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_out_of_range() {
        assert_eq!(dollars(Usd::from_nanos(i64::MIN)), -9_223_372_000.0);
        for number in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert!((Usd::ZERO..=Usd::from_cents(920_000_000_000)).contains(&at_stake(number)), "{number}");
        }
        assert_eq!(at_stake(0.25_f32), Usd::from_cents(25));
    }
}
