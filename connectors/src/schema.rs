//! The schema of samples: which columns of a record mean what.

use std::collections::BTreeSet;
use std::fmt;

use perennial_operators::LabelKind;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Which columns (CSV), keys (JSON Lines) or fields (Parquet) of a record mean what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The column with the sample's id, which must be unique in the stream: labels are joined by
    /// it.
    pub id: String,
    /// The column with the event time: RFC 3339, a date, `YYYY-MM-DD HH:MM:SS` (UTC) or Unix
    /// seconds.
    pub time: String,
    /// The column with the site (building, device, camera) that the sample was taken at.
    pub site: String,
    /// Other categorical columns that can tell tasks apart, such as season or city. The site is not
    /// repeated here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// The model's inputs, in order: a plain name is a numeric column, `{column, values}` a
    /// categorical one.
    pub features: Vec<Feature>,
    /// The label to predict. Samples may lack it if labels arrive on their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// One input of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Feature {
    /// A column of numbers. Empty, null, `NaN` and `NA` mean missing.
    Numeric(String),
    /// A column of texts out of a fixed list.
    Categorical(Categorical),
}

/// A column of texts out of a fixed list. The model gets the number of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Categorical {
    /// The column's name.
    pub column: String,
    /// Its values: the model gets the position in this list, from 0. Any other value is missing.
    pub values: Vec<String>,
}

/// The column with the label: one of some `classes`, or a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The column's name.
    pub column: String,
    /// The classes, at least two. An empty label is a missing one; a value not listed makes the
    /// record bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// `number` for a label that is a number; it replaces `classes`. An empty label is a missing
    /// one; a value that is not a finite number makes the record bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<NumberKind>,
}

/// The kind of a label that has no classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumberKind {
    /// The label is a number.
    Number,
}

/// A key path in the configuration, such as `schema.features[3]`, and what is wrong there.
pub type Problem = (String, String);

impl Schema {
    /// Names of the attribute columns in the order of `Batch::attributes`: the site comes first.
    pub fn attribute_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.site.as_str()).chain(self.attributes.iter().map(String::as_str))
    }

    /// The names of all columns, each once, the label's last.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = vec![self.id.as_str(), &self.time];
        let features = self.features.iter().map(Feature::column);
        let label = self.label.iter().map(|label| label.column.as_str());
        for name in self.attribute_names().chain(features).chain(label) {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
        columns
    }

    /// Whether a column is read as a number everywhere, so that its spelling does not matter.
    pub fn is_number(&self, column: &str) -> bool {
        let features = self
            .features
            .iter()
            .filter(|feature| feature.column() == column);
        let mut is_number = self.time == column;
        let mut is_text = self.id == column || self.attribute_names().any(|name| name == column);
        for feature in features {
            match feature {
                Feature::Numeric(_) => is_number = true,
                Feature::Categorical(_) => is_text = true,
            }
        }
        let mut label = self.label.iter().filter(|label| label.column == column);
        is_number |= label.any(|label| label.kind() == LabelKind::Number);
        is_number && !is_text
    }

    /// Every reason why the schema cannot be used; empty if there is none.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, name) in [("id", &self.id), ("time", &self.time), ("site", &self.site)] {
            if name.trim().is_empty() {
                problems.push((format!("schema.{key}"), "must name a column".into()));
            }
        }
        if self.id == self.time && !self.id.is_empty() {
            problems.push((
                "schema.time".into(),
                "must be another column than `id`".into(),
            ));
        }
        let attributes: Vec<&str> = self.attributes.iter().map(String::as_str).collect();
        problems.extend(name_problems("schema.attributes", &attributes));
        for (i, _) in attributes
            .iter()
            .enumerate()
            .filter(|(_, a)| **a == self.site)
        {
            let key = format!("schema.attributes[{i}]");
            problems.push((
                key,
                "is the site, which is an attribute already: remove it here".into(),
            ));
        }
        self.feature_problems(&mut problems);
        self.label_problems(&mut problems);
        problems
    }

    fn feature_problems(&self, problems: &mut Vec<Problem>) {
        if self.features.is_empty() {
            problems.push((
                "schema.features".into(),
                "must list at least one feature".into(),
            ));
        }
        let names: Vec<&str> = self.features.iter().map(Feature::column).collect();
        problems.extend(name_problems("schema.features", &names));
        for (i, feature) in self.features.iter().enumerate() {
            let Feature::Categorical(categorical) = feature else {
                continue;
            };
            let key = format!("schema.features[{i}].values");
            if categorical.values.is_empty() {
                problems.push((key.clone(), "must list at least one value".into()));
            }
            let values: Vec<&str> = categorical.values.iter().map(String::as_str).collect();
            problems.extend(name_problems(&key, &values));
        }
    }

    fn label_problems(&self, problems: &mut Vec<Problem>) {
        let Some(label) = &self.label else { return };
        problems.extend(label.problems("schema.label"));
        for (i, feature) in self.features.iter().enumerate() {
            if feature.column() == label.column {
                let key = format!("schema.features[{i}]");
                problems.push((
                    key,
                    "is the label: a model must not see what it predicts".into(),
                ));
            }
        }
        for (i, attribute) in self.attributes.iter().enumerate() {
            if *attribute == label.column {
                let key = format!("schema.attributes[{i}]");
                problems.push((
                    key,
                    "is the label: it is not known when tasks are told apart".into(),
                ));
            }
        }
    }
}

impl Feature {
    /// The column's name.
    pub fn column(&self) -> &str {
        match self {
            Feature::Numeric(column) => column,
            Feature::Categorical(categorical) => &categorical.column,
        }
    }
}

impl Label {
    /// Classes or number.
    pub fn kind(&self) -> LabelKind {
        LabelKind::of(&self.classes)
    }

    /// Every reason why the label cannot be used, under the key path `key`.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.column.trim().is_empty() {
            problems.push((format!("{key}.column"), "must name a column".into()));
        }
        let classes: Vec<&str> = self.classes.iter().map(String::as_str).collect();
        match (classes.len(), self.kind) {
            (0, None) => {
                let expected = "expected \"classes\", two at least, or \"kind: number\"";
                problems.push((key.to_owned(), expected.into()));
            }
            (0, Some(NumberKind::Number)) => {}
            (_, Some(NumberKind::Number)) => {
                let message = "a number has no classes: remove this, or \"classes\"";
                problems.push((format!("{key}.kind"), message.into()));
            }
            (1, None) => problems.push((
                format!("{key}.classes"),
                "must list at least two classes".into(),
            )),
            (_, None) => {}
        }
        problems.extend(name_problems(&format!("{key}.classes"), &classes));
        problems
    }
}

/// Empty and repeated entries of a list of names.
fn name_problems(key: &str, names: &[&str]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let key = format!("{key}[{i}]");
        if name.trim().is_empty() {
            problems.push((key, "must not be empty".into()));
        } else if !seen.insert(*name) {
            problems.push((key, format!("{name:?} is listed twice")));
        }
    }
    problems
}

/// Written by hand and not as an untagged enum, so that an error says what is wrong instead of
/// that no variant fits.
impl<'de> Deserialize<'de> for Feature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Feature, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Feature;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a column name or {column, values}")
            }

            fn visit_str<E>(self, name: &str) -> Result<Feature, E> {
                Ok(Feature::Numeric(name.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Feature, A::Error> {
                Categorical::deserialize(MapAccessDeserializer::new(map)).map(Feature::Categorical)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> Schema {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn both_kinds_of_features_are_read_and_written() {
        let text =
            r#"{"id":"i","time":"t","site":"s","features":["a",{"column":"b","values":["x"]}]}"#;
        let parsed = schema(text);
        assert!(parsed.problems().is_empty());
        assert_eq!(parsed.features[1].column(), "b");
        assert_eq!(serde_json::to_string(&parsed).unwrap(), text);
    }

    #[test]
    fn unknown_keys_are_named() {
        let text = r#"{"column":"b","value":["x"]}"#;
        let error = serde_json::from_str::<Feature>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `value`"), "{error}");
    }

    #[test]
    fn problems_point_at_their_keys() {
        let text = r#"{"id":"i","time":"i","site":"s","attributes":["s","y"],
            "features":["a","a","",{"column":"b","values":[]},"y"],
            "label":{"column":"y","classes":["one"]}}"#;
        let keys: Vec<String> = schema(text)
            .problems()
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(
            keys,
            [
                "schema.time",
                "schema.attributes[0]",
                "schema.features[1]",
                "schema.features[2]",
                "schema.features[3].values",
                "schema.label.classes",
                "schema.features[4]",
                "schema.attributes[1]",
            ]
        );
    }

    #[test]
    fn a_label_has_classes_or_is_a_number() {
        let label = |text: &str| serde_json::from_str::<Label>(text).unwrap();
        let number = label(r#"{"column":"y","kind":"number"}"#);
        assert_eq!(number.kind(), LabelKind::Number);
        assert!(number.problems("l").is_empty());
        let text = r#"{"column":"y","classes":["a","b"]}"#;
        assert_eq!(label(text).kind(), LabelKind::Classes(2));
        assert_eq!(serde_json::to_string(&label(text)).unwrap(), text);
        for (text, key, message) in [
            (r#"{"column":"y"}"#, "l", "or \"kind: number\""),
            (
                r#"{"column":"y","classes":["a","b"],"kind":"number"}"#,
                "l.kind",
                "has no classes",
            ),
        ] {
            let problems = label(text).problems("l");
            assert_eq!(problems[0].0, key);
            assert!(problems[0].1.contains(message), "{problems:?}");
        }
    }

    #[test]
    fn json_schema_carries_the_comments() {
        let text = serde_json::to_string(&schemars::schema_for!(Schema)).unwrap();
        assert!(text.contains("RFC 3339"));
        assert!(text.contains("Any other value is missing"));
    }
}
