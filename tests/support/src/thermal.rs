//! The thermal comfort stream, which is not part of this repository.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::unzipped;

/// The stream's file; none where it is missing, which fails the test in CI.
pub fn stream() -> Option<PathBuf> {
    let given = std::env::var_os("PERENNIAL_THERMAL").map(PathBuf::from);
    let path = given.unwrap_or_else(|| crate::checkout("../shared/data/thermal/stream.csv.gz"));
    if path.exists() {
        return Some(path);
    }
    let missing = format!(
        "the thermal comfort stream is not at {}: set PERENNIAL_THERMAL to its path",
        path.display()
    );
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// A vote of the file.
pub struct Vote {
    pub id: String,
    /// The index of its city, by first appearance.
    pub city: usize,
    /// Its line.
    pub line: String,
    /// Its fields without the preference.
    pub fields: Value,
    pub preference: String,
}

impl Vote {
    /// Its messages: key, sample, label.
    pub fn messages(&self) -> (String, String, String) {
        let label = json!({"id": self.id, "preference": self.preference});
        (self.id.clone(), self.fields.to_string(), label.to_string())
    }
}

/// All votes, and the header of the file.
pub fn votes(path: &Path) -> (String, Vec<Vote>) {
    let text = unzipped(path);
    let mut lines = text.lines();
    let header = lines.next().expect("a header").to_string();
    let names: Vec<&str> = header.split(',').collect();
    let mut cities: Vec<String> = Vec::new();
    let votes = lines.map(|line| {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        let of = |name: &str| {
            let place = names.iter().position(|known| *known == name);
            values[place.expect("a column")].to_string()
        };
        let city = of("city");
        let place = cities.iter().position(|known| *known == city);
        let place = place.unwrap_or_else(|| {
            cities.push(city);
            cities.len() - 1
        });
        let fields = names.iter().zip(&values);
        let fields = fields.filter(|(name, value)| **name != "preference" && !value.is_empty());
        Vote {
            id: of("id"),
            city: place,
            line: line.to_string(),
            fields: fields
                .map(|(name, value)| (name.to_string(), json!(value)))
                .collect(),
            preference: of("preference"),
        }
    });
    (header.clone(), votes.collect())
}

/// The columns and tasks of the stream's config.
pub fn columns_and_tasks() -> String {
    let config = std::fs::read_to_string(crate::checkout("configs/thermal.yaml"));
    let config = config.expect("the config");
    let start = config.find("schema:").expect("a schema");
    let end = config.find("bootstrap:").expect("a bootstrap");
    config[start..end].to_string()
}
