//! A page: its items as raw text, their places, and the token of the next page.

use serde_json::value::RawValue;

use crate::decode::Pluck;

/// What a page holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The items' own JSON text.
    pub(super) items: Vec<String>,
    /// Each item's place, where it has one.
    pub(super) places: Vec<Option<String>>,
    /// The token of the next page.
    pub(super) next: Option<String>,
}

impl Page {
    pub(super) fn cut(
        body: &[u8],
        items: Option<&Pluck>,
        place: Option<&Pluck>,
        next: Option<&Pluck>,
    ) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|_| "the page is not UTF-8".to_owned())?.trim_ascii();
        let whole: &RawValue =
            serde_json::from_str(text).map_err(|error| format!("the page is not JSON: {error}"))?;
        let list = items.map_or(Some(whole.get()), |items| items.raw(whole.get()));
        let items = match list {
            Some(list) if list.starts_with('[') => {
                let parts: Vec<&RawValue> = serde_json::from_str(list).map_err(|error| error.to_string())?;
                parts.into_iter().map(|part| part.get().to_owned()).collect()
            }
            Some(single) if single.starts_with('{') => vec![single.to_owned()],
            Some("null") => Vec::new(),
            _ => return Err("the page has no list at its items path".to_owned()),
        };
        let place_of = |item: &String| Some(place?.text(item)?.into_owned());
        let places = items.iter().map(place_of).collect();
        let next = next.and_then(|next| Some(next.text(text)?.into_owned()));
        Ok(Self { items, places, next })
    }
}
