//! Ethereum's hexadecimal: quantities, addresses and 256-bit words.

use std::fmt;

use railwatch_model::SmolStr;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A quantity as `"0x1f"`, or as the JSON number that some nodes send; anything else reads as absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quantity(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QuantityVisitor;
        impl<'de> Visitor<'de> for QuantityVisitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hexadecimal quantity")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                let digits = text.strip_prefix("0x");
                Ok(Quantity(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(Some(number)))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Quantity, E> {
                Ok(Quantity(None))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Quantity, E> {
                Ok(Quantity(None))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Quantity, E> {
                Ok(Quantity(None))
            }

            fn visit_unit<E: Error>(self) -> Result<Quantity, E> {
                Ok(Quantity(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Quantity, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Quantity(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Quantity, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Quantity(None))
            }
        }
        deserializer.deserialize_any(QuantityVisitor)
    }
}

/// A 20-byte address in its canonical spelling, lower case; `None` if the text is not one.
pub(super) fn address(text: &str) -> Option<SmolStr> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    lower::<42>(digits)
}

/// The address in a 32-byte topic.
pub(super) fn topic_address(topic: &str) -> Option<SmolStr> {
    let digits = topic.strip_prefix("0x")?;
    let (padding, address) = digits.split_at_checked(24)?;
    padding.bytes().all(|byte| byte == b'0').then(|| lower::<42>(address)).flatten()
}

/// A 32-byte word (a hash, a nonce), lower case.
pub(super) fn word(text: &str) -> Option<SmolStr> {
    lower::<66>(text.strip_prefix("0x")?)
}

/// An unsigned 256-bit word as an amount; `Err` if it does not fit into 127 bits, which no honest token reaches.
pub(super) fn amount(data: &str) -> Result<i128, AmountError> {
    let digits = data.strip_prefix("0x").ok_or(AmountError::Malformed)?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(AmountError::Malformed);
    }
    let (high, low) = digits.split_at(32);
    if high.bytes().any(|byte| byte != b'0') {
        return Err(AmountError::TooLarge);
    }
    i128::from_str_radix(low, 16).map_err(|_| AmountError::TooLarge)
}

/// Why a word is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AmountError {
    /// It is not 32 bytes of hexadecimal.
    #[error("data must be 32 bytes of hexadecimal")]
    Malformed,
    /// It needs more than 127 bits.
    #[error("the amount does not fit into 127 bits")]
    TooLarge,
}

/// `0x` and the digits in lower case, if that is a text of this length.
fn lower<const LEN: usize>(digits: &str) -> Option<SmolStr> {
    let mut text = [b'0'; LEN];
    let place = text.get_mut(2..).filter(|place| place.len() == digits.len())?;
    for (place, digit) in place.iter_mut().zip(digits.bytes()) {
        if !digit.is_ascii_hexdigit() {
            return None;
        }
        *place = digit.to_ascii_lowercase();
    }
    *text.get_mut(1)? = b'x';
    std::str::from_utf8(&text).ok().map(SmolStr::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_hexadecimal_or_numbers() {
        for (json, expected) in [
            ("\"0x1f\"", Some(31)),
            ("31", Some(31)),
            ("\"31\"", None),
            ("null", None),
            ("[1]", None),
            ("-1", None),
        ] {
            assert_eq!(serde_json::from_str::<Quantity>(json).unwrap().0, expected, "{json}");
        }
    }

    #[test]
    fn addresses_are_lower_cased_and_checked() {
        let mixed = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
        assert_eq!(address(mixed).as_deref(), Some("0x036cbd53842c5426634e7929541ec2318f3dcf7e"));
        assert_eq!(address("0x12"), None);
        let padded = mixed.replacen("0x", &format!("0x{}", "0".repeat(24)), 1);
        assert_eq!(topic_address(&padded), address(mixed));
        assert_eq!(topic_address(&padded.replacen("0x0", "0x1", 1)), None);
        assert_eq!(topic_address("0x"), None);
    }

    #[test]
    fn amounts_beyond_127_bits_are_refused_and_never_wrap() {
        let word = |low: &str| format!("0x{low:0>64}");
        assert_eq!(amount(&word("2710")), Ok(10_000));
        assert_eq!(amount(&word("7fffffffffffffffffffffffffffffff")), Ok(i128::MAX));
        assert_eq!(amount(&word("80000000000000000000000000000000")), Err(AmountError::TooLarge));
        assert_eq!(amount(&word(&"f".repeat(64))), Err(AmountError::TooLarge));
        assert_eq!(amount("0x2710"), Err(AmountError::Malformed));
        assert_eq!(amount(&word("+1")), Err(AmountError::Malformed));
    }
}
