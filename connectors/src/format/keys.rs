//! ObjectKeys of JSON objects, as the columns of a stream.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// ObjectKeys of some objects, in the order in which they appear.
#[derive(Debug, Default)]
pub(crate) struct KeyList {
    found: Vec<String>,
    /// ObjectKeys with a list or an object as their value, which is no cell.
    unfit: Vec<String>,
}

impl KeyList {
    /// Adds the keys of an object. A text that is none will be a dead letter, and is left out.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let Ok(ObjectKeys(keys)) = serde_json::from_slice(text) else {
            return;
        };
        for (key, is_single) in keys {
            let list = if is_single {
                &mut self.found
            } else {
                &mut self.unfit
            };
            if !list.contains(&key) {
                list.push(key);
            }
        }
    }

    /// The keys whose values are always single ones.
    pub(crate) fn into_columns(mut self) -> Vec<String> {
        self.found.retain(|key| !self.unfit.contains(key));
        self.found
    }
}

/// ObjectKeys of an object, each with whether its value is a single one.
struct ObjectKeys(Vec<(String, bool)>);

impl<'de> Deserialize<'de> for ObjectKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ObjectKeys, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = ObjectKeys;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectKeys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    keys.push((key, !value.is_array() && !value.is_object()));
                }
                Ok(ObjectKeys(keys))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_columns_in_the_order_of_their_first_objects() {
        let mut keys = KeyList::default();
        for text in [
            r#"{"b": 1, "a": "x", "list": null}"#,
            "no object",
            r#"{"c": true, "a": null, "list": [1]}"#,
        ] {
            keys.add(text.as_bytes());
        }
        assert_eq!(keys.into_columns(), ["b", "a", "c"]);
    }
}
