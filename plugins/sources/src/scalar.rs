//! JSON scalars as rails really send them: borrowed where the text has no escapes, and forgiving about the types that
//! API versions disagree on. A value of a wrong type reads as absent, so that one odd field never costs a payment; what
//! is required is asked for where it is used.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use railwatch_model::SmolStr;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The visits that mean "absent" for every scalar of this module.
macro_rules! absent {
    ($value:expr, $($visit:ident),*) => {
        $(absent!(@ $visit, $value);)*
    };
    (@ bool, $value:expr) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> { Ok($value) }
    };
    (@ number, $value:expr) => {
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> { Ok($value) }
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> { Ok($value) }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> { Ok($value) }
    };
    (@ float, $value:expr) => {
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> { Ok($value) }
    };
    (@ text, $value:expr) => {
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> { Ok($value) }
    };
    (@ unit, $value:expr) => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> { Ok($value) }
    };
    (@ seq, $value:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
    (@ map, $value:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

/// A text; numbers read as their decimal text, anything else as the empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// The text itself, borrowed where it can be.
    pub(crate) fn into_cow(self) -> Cow<'a, str> {
        self.0
    }

    /// The text, empty if absent.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, if there is one.
    pub(crate) fn get(&self) -> Option<&str> {
        if self.0.is_empty() { None } else { Some(&self.0) }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
            type Value = Text<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }

            absent!(Text::default(), bool, float, unit, seq, map);
        }
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

/// An integer, as a JSON number or as a decimal text; a fraction or anything else reads as absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Int(Option<i128>);

impl Int {
    /// The integer, if there is one.
    pub(crate) fn get(self) -> Option<i128> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntVisitor;
        impl<'de> Visitor<'de> for IntVisitor {
            type Value = Int;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Int, E> {
                Ok(Int(Some(number.into())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Int, E> {
                Ok(Int(Some(number.into())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Int, E> {
                Ok(Int(text.parse().ok()))
            }

            absent!(Int(None), bool, float, unit, seq, map);
        }
        deserializer.deserialize_any(IntVisitor)
    }
}

/// A boolean; anything else reads as absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flag(Option<bool>);

impl Flag {
    /// The boolean, if there is one.
    pub(crate) fn get(self) -> Option<bool> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl<'de> Visitor<'de> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(Some(flag)))
            }

            absent!(Flag(None), number, text, unit, seq, map);
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}

/// An object, or only its id where the sender did not expand it; anything else reads as an empty object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expandable<T>(pub(crate) T);

impl<'de: 'a, 'a, T: Deserialize<'de> + Default + From<Text<'a>> + 'a> Deserialize<'de> for Expandable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExpandableVisitor<'a, T>(PhantomData<(T, &'a ())>);
        impl<'de: 'a, 'a, T: Deserialize<'de> + Default + From<Text<'a>>> Visitor<'de> for ExpandableVisitor<'a, T> {
            type Value = Expandable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or its id")
            }

            fn visit_borrowed_str<E: Error>(self, id: &'de str) -> Result<Self::Value, E> {
                Ok(Expandable(T::from(Text(Cow::Borrowed(id)))))
            }

            fn visit_str<E: Error>(self, id: &str) -> Result<Self::Value, E> {
                Ok(Expandable(T::from(Text(Cow::Owned(id.to_owned())))))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Expandable)
            }

            absent!(Expandable(T::default()), bool, number, unit, seq);
        }
        deserializer.deserialize_any(ExpandableVisitor(PhantomData))
    }
}

/// An object; anything else reads as an empty one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nested<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Nested<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NestedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for NestedVisitor<T> {
            type Value = Nested<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Nested)
            }

            absent!(Nested(T::default()), bool, number, text, unit, seq);
        }
        deserializer.deserialize_any(NestedVisitor(PhantomData))
    }
}

/// A list of objects, of which at most [`Items::LEN_MAX`] are kept; anything else reads as an empty list.
#[derive(Debug, Clone)]
pub(crate) struct Items<T>(pub(crate) Vec<T>);

impl<T> Items<T> {
    /// Entries beyond this are read over: no rail's own limit is higher.
    const LEN_MAX: usize = 1000;
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ItemsVisitor<T> {
            type Value = Items<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < Items::<T>::LEN_MAX {
                    match seq.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Items(items)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Items(items))
            }

            absent!(Items(Vec::new()), bool, number, text, unit, map);
        }
        deserializer.deserialize_any(ItemsVisitor(PhantomData))
    }
}

/// A flat map of texts, such as a rail's metadata; nested values read as empty texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts<'a>(Vec<(Text<'a>, Text<'a>)>);

impl Texts<'_> {
    /// Entries beyond this are read over; Stripe allows 50.
    const LEN_MAX: usize = 64;

    /// The text with this key, if there is one.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.as_str() == key).and_then(|(_, text)| text.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TextsVisitor<'a> {
            type Value = Texts<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if texts.len() < Texts::LEN_MAX {
                        texts.push(entry);
                    }
                }
                Ok(Texts(texts))
            }

            absent!(Texts(Vec::new()), bool, number, text, unit, seq);
        }
        deserializer.deserialize_any(TextsVisitor(PhantomData))
    }
}

/// Reads a JSON value. Bytes that are UTF-8 as a whole need not be checked text by text, which takes a tenth of the time.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        // Its error has the place.
        Err(_) => serde_json::from_slice(body),
    }
}

/// Characters that are kept of a text that other people write.
const SHORT_MAX: usize = 300;

/// Texts that other people write are cut to a length that an alert can show.
pub(crate) fn short(text: &str) -> SmolStr {
    // Characters have at least a byte.
    let long = if text.len() > SHORT_MAX { text.char_indices().nth(SHORT_MAX) } else { None };
    long.and_then(|(end, _)| text.get(..end)).unwrap_or(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Odd<'a> {
        #[serde(borrow)]
        text: Text<'a>,
        int: Int,
        flag: Flag,
        #[serde(borrow)]
        texts: Texts<'a>,
        list: Items<Int>,
    }

    #[test]
    fn values_of_a_wrong_type_read_as_absent() {
        for wrong in ["null", "{\"a\":[1,{}]}", "[[],{},1.5]", "true", "0.5", "\"x\"", "7"] {
            let json = format!(
                "{{\"text\":{wrong},\"int\":{wrong},\"flag\":{wrong},\"texts\":{wrong},\"list\":{wrong},\"other\":{wrong}}}"
            );
            let odd: Odd<'_> = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(odd.int.get(), (wrong == "7").then_some(7), "{wrong}");
            assert_eq!(odd.flag.get(), (wrong == "true").then_some(true), "{wrong}");
            assert_eq!(odd.text.get(), matches!(wrong, "7" | "\"x\"").then(|| wrong.trim_matches('"')));
            assert_eq!(odd.texts.get("a"), None);
            assert_eq!(odd.list.0.len(), if wrong.starts_with('[') { 3 } else { 0 });
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for (text, len) in
            [("é".repeat(301), 600), ("é".repeat(300), 600), ("x".repeat(301), 300), ("é".into(), 2)]
        {
            assert_eq!(short(&text).len(), len);
        }
    }

    #[test]
    fn texts_borrow_unless_they_are_escaped() {
        let odd: Odd<'_> = serde_json::from_str(r#"{"text":"plain","texts":{"k":"a\nb"}}"#).unwrap();
        assert!(matches!(odd.text.0, Cow::Borrowed("plain")));
        assert_eq!(odd.texts.get("k"), Some("a\nb"));
    }

    #[test]
    fn integers_come_as_numbers_and_as_texts() {
        for (json, expected) in [
            ("12", Some(12)),
            ("\"12\"", Some(12)),
            ("-4999", Some(-4999)),
            ("18446744073709551615", Some(18_446_744_073_709_551_615)),
            ("\"170141183460469231731687303715884105727\"", Some(i128::MAX)),
            ("\"170141183460469231731687303715884105728\"", None),
            ("18446744073709551616", None),
            ("1e3", None),
        ] {
            assert_eq!(serde_json::from_str::<Int>(json).unwrap().get(), expected, "{json}");
        }
    }
}
