//! Numbers in one and two bytes. Profiles and rings exist once per agent; a rounding error of 0.4 % or 2 % in them is
//! far below what they are accurate to.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `N` floats, each kept as the upper half of an `f32` (the format known as bfloat16): full range, eight bits of
/// precision.
///
/// Invariant: every element is finite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Halves<const N: usize>([u16; N]);

impl<const N: usize> Halves<N> {
    /// The number at `index`, taken modulo `N`.
    pub(crate) fn get(&self, index: usize) -> f32 {
        f32::from_bits(u32::from(self.0[index % N]) << 16)
    }

    /// Replaces the number at `index`, taken modulo `N`; what is not finite becomes zero.
    pub(crate) fn set(&mut self, index: usize, value: f32) {
        let value = if value.is_finite() { value.clamp(-1e30, 1e30) } else { 0.0 };
        let bits = value.to_bits();
        // Round to nearest, ties to even; the clamp keeps this from reaching infinity.
        let rounded = bits.saturating_add(0x7fff + ((bits >> 16) & 1));
        self.0[index % N] = u16::try_from(rounded >> 16).unwrap_or(0);
    }
}

impl<const N: usize> Default for Halves<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Debug for Halves<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..N).map(|index| self.get(index))).finish()
    }
}

impl<const N: usize> Serialize for Halves<N> {
    /// As `2 N` bytes: a varint encoding would need three for most.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|half| half.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Halves<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;
        impl<const N: usize> Visitor<'_> for Bytes<N> {
            type Value = Halves<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} bytes", 2 * N)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Halves<N>, E> {
                if bytes.len() != 2 * N {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                let mut halves = Halves::default();
                for (half, pair) in halves.0.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = u16::from_le_bytes(*pair);
                    if !f32::from_bits(u32::from(*half) << 16).is_finite() {
                        return Err(E::custom("a stored number is not finite"));
                    }
                }
                Ok(halves)
            }
        }
        deserializer.deserialize_bytes(Bytes).map_err(|error| D::Error::custom(error.to_string()))
    }
}

/// `N` small counts in a byte each; more than 255 is kept as 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    /// The count at `index`, taken modulo `N`.
    pub(crate) fn get(&self, index: usize) -> f32 {
        f32::from(self.0[index % N])
    }

    /// Replaces the count at `index`, taken modulo `N`, by the whole number next to `value`.
    pub(crate) fn set(&mut self, index: usize, value: f32) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        let count = value.round() as u8;
        self.0[index % N] = count;
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counts<const N: usize>;
        impl<const N: usize> Visitor<'_> for Counts<N> {
            type Value = Bytes<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes<N>, E> {
                bytes.try_into().map(Bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Counts).map_err(|error| D::Error::custom(error.to_string()))
    }
}

/// `N` amounts of a byte each, as logarithms: at most [`Logs::ERROR`] off, and zero below a ninety-thousandth of the
/// largest.
///
/// Invariant: code 0 is zero, code `k` is `exp(STEP * (base + k))`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Logs<const N: usize> {
    base: i16,
    codes: Bytes<N>,
}

impl<const N: usize> Logs<N> {
    /// Codes per factor e.
    const PER_E: f32 = 22.0;
    /// Half a step: the largest relative error.
    #[cfg(test)]
    const ERROR: f32 = 0.5 / Self::PER_E + 0.001;

    /// The amount at `index`, taken modulo `N`.
    pub(crate) fn get(&self, index: usize) -> f32 {
        match self.codes.0[index % N] {
            0 => 0.0,
            code => (f32::from(self.base + i16::from(code)) / Self::PER_E).exp(),
        }
    }

    /// Replaces the amount at `index`, taken modulo `N`; what is not a positive number becomes zero.
    pub(crate) fn set(&mut self, index: usize, value: f32) {
        self.codes.0[index % N] = 0;
        if value > 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "the clamp keeps it below 1600")]
            let place = (value.clamp(1e-30, 1e30).ln() * Self::PER_E).round() as i16;
            self.make_room(place);
            self.codes.0[index % N] = u8::try_from(place - self.base).unwrap_or(0);
        }
    }

    /// Moves the range so that it holds `place`, unless that is too far below the largest amount.
    fn make_room(&mut self, place: i16) {
        let largest = self.codes.0.iter().copied().max().unwrap_or(0);
        if largest == 0 {
            self.base = place - 128;
        }
        let above = place - self.base - i16::from(u8::MAX);
        let below = (self.base + 1 - place).min(i16::from(u8::MAX - largest));
        let shift = if above > 0 { above } else { -below.max(0) };
        if shift != 0 && largest != 0 {
            self.base += shift;
            for code in self.codes.0.iter_mut().filter(|code| **code != 0) {
                *code = u8::try_from((i16::from(*code) - shift).max(0)).unwrap_or(u8::MAX);
            }
        }
    }
}

/// A payee's or a rail's name as 32 bits: equal names are equal, and two of an agent's two dozen payees collide about
/// once in ten million agents. Folded multiplication of eight bytes at a time, as wyhash does it.
pub(crate) fn fingerprint(name: &str) -> u32 {
    const SEED: u64 = 0xa076_1d64_78bd_642f;
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0xe703_7ed1_a0b4_28db;
        u64::try_from((product ^ (product >> 64)) & u128::from(u64::MAX)).unwrap_or(0)
    };
    let bytes = name.as_bytes();
    let short = |half: Option<&[u8; 4]>| u64::from(half.map_or(0, |half| u32::from_le_bytes(*half)));
    // The last word overlaps the one before it; what is shorter than a word is read as two overlapping halves.
    let last = match (bytes.last_chunk::<8>(), bytes) {
        (Some(last), _) => u64::from_le_bytes(*last),
        (None, [_, _, _, _, ..]) => short(bytes.first_chunk()) << 32 | short(bytes.last_chunk()),
        (None, bytes) => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let (words, _) = bytes.as_chunks::<8>();
    let length = fold(SEED, bytes.len() as u64);
    let all = words.iter().fold(length, |hash, word| fold(hash, u64::from_le_bytes(*word)));
    let hash = fold(all, last);
    u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_size_and_survive_the_store() {
        let mut halves = Halves::<7>::default();
        for (index, value) in [0.0, 1e-9, 0.012, -3.5, 8.1, 340.0, 1e9].into_iter().enumerate() {
            halves.set(index, value);
            assert!((halves.get(index) - value).abs() <= value.abs() * 0.004, "{value}");
        }
        let bytes = postcard::to_stdvec(&halves).unwrap();
        assert_eq!(bytes.len(), 1 + 14);
        assert_eq!(postcard::from_bytes::<Halves<7>>(&bytes).unwrap(), halves);
        assert!(postcard::from_bytes::<Halves<6>>(&bytes).is_err());
    }

    #[test]
    fn amounts_keep_their_size_while_the_range_follows_them() {
        let mut logs = Logs::<5>::default();
        let mut exact = [0.0_f32; 5];
        let near = |logs: &Logs<5>, exact: &[f32; 5]| {
            for (index, exact) in exact.iter().enumerate() {
                let error = (logs.get(index) - exact).abs();
                assert!(error <= exact * Logs::<5>::ERROR, "{index}: {} of {exact}", logs.get(index));
            }
        };
        // Down and up by a factor of a thousand and back, further than the range is wide in all.
        for (step, value) in
            [1.0, 1e-3, 1e-6, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 8.1, 0.0].into_iter().enumerate()
        {
            let largest = exact.iter().copied().fold(value, f32::max);
            logs.set(step % 5, value);
            exact[step % 5] = value;
            exact.iter_mut().filter(|exact| **exact < largest / 90_000.0).for_each(|exact| *exact = 0.0);
            for (index, exact) in exact.iter_mut().enumerate() {
                if logs.get(index) == 0.0 {
                    assert!(*exact <= largest / 30_000.0, "{exact} of {largest} is gone");
                    *exact = 0.0;
                }
            }
            near(&logs, &exact);
        }
        let bytes = postcard::to_stdvec(&logs).unwrap();
        assert_eq!(postcard::from_bytes::<Logs<5>>(&bytes).unwrap(), logs);
        for value in [f32::NAN, f32::INFINITY, -1.0, f32::MAX, f32::MIN_POSITIVE] {
            logs.set(0, value);
            assert!((0..5).all(|index| logs.get(index).is_finite()), "{value}");
        }
    }

    #[test]
    fn names_are_told_apart_to_the_last_byte() {
        let text = "payee-0123456789-abcdefghijk";
        let mut names: Vec<String> = (0..=text.len()).map(|end| text.chars().take(end).collect()).collect();
        names.extend((0..20_000).map(|n| format!("p{n}")));
        names.extend((0..text.len()).map(|at| {
            let replace = |(index, c)| if index == at { '_' } else { c };
            text.chars().enumerate().map(replace).collect()
        }));
        let mut seen: Vec<u32> = names.iter().map(|name| fingerprint(name)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), names.len());
    }

    #[test]
    fn nothing_in_it_is_infinite() {
        let mut halves = Halves::<1>::default();
        for value in [f32::INFINITY, f32::NAN, f32::MAX, f32::MIN] {
            halves.set(0, value);
            assert!(halves.get(0).is_finite(), "{value}");
        }
    }
}
