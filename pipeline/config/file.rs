//! Loading a config file: YAML with places, values from the environment, overrides, and errors that
//! name the place, what was expected, and the name that was probably meant.

use std::fmt::Write;
use std::path::Path;

use saphyr::{MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::Config;
use super::places::{ConfigError, Places, did_you_mean};
use super::yaml::{self, json};

/// A config and the place of each of its values.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// The values.
    pub config: Config,
    pub(super) places: Places,
    /// The overrides, as they were given.
    overrides: Vec<String>,
}

impl ConfigFile {
    /// An error about the value at `path`, such as `tasks.path[1]`.
    pub fn error(&self, path: &str, message: impl std::fmt::Display) -> ConfigError {
        self.places.error(path, message)
    }

    /// Loads the file again, with the same overrides.
    pub fn reload(&self) -> Result<ConfigFile, ConfigError> {
        load(&self.places.file, &self.overrides)
    }
}

/// Loads a config file with overrides `key=value`.
pub fn load(file: &Path, overrides: &[String]) -> Result<ConfigFile, ConfigError> {
    let whole = |message: String| ConfigError {
        place: file.display().to_string(),
        message,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| whole(format!("the config cannot be read: {error}")))?;
    let mut places = Places::new(file);
    let documents = yaml::parse(&text).map_err(|error| {
        let message = format!("this is not YAML: {}", error.info());
        places.error_at(error.marker().line(), message)
    })?;
    let Some(document) = documents.first() else {
        return Err(whole("the config is empty".to_string()));
    };
    let mut value = Reader(&mut places).value(document, "")?;
    for text in overrides {
        let key = apply(&mut value, text, &mut places)?;
        places.overrides.push(key);
    }
    let config = deserialize(value, &places)?;
    Ok(ConfigFile {
        config,
        places,
        overrides: overrides.to_vec(),
    })
}

/// Converts YAML to JSON and records the places of its values.
struct Reader<'a>(&'a mut Places);

impl Reader<'_> {
    fn value(&mut self, node: &MarkedYaml<'_>, path: &str) -> Result<Value, ConfigError> {
        let line = node.span.start.line();
        self.0.lines.entry(path.to_string()).or_insert(line);
        match &node.data {
            YamlData::Value(scalar) => self.scalar(scalar, line),
            YamlData::Sequence(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.value(item, &format!("{path}[{index}]")))
                .collect(),
            YamlData::Mapping(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let line = key.span.start.line();
                    let name = key
                        .data
                        .as_str()
                        .ok_or_else(|| self.0.error_at(line, "a key is expected to be text"))?;
                    let path = if path.is_empty() {
                        name.to_string()
                    } else {
                        format!("{path}.{name}")
                    };
                    // An error about a key points to the key, not to the value below it.
                    self.0.lines.insert(path.clone(), line);
                    let value = self.value(value, &path)?;
                    map.insert(name.to_string(), value);
                }
                Ok(Value::Object(map))
            }
            _ => {
                let message = "tags and aliases are not expected here";
                Err(self.0.error_at(line, message))
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar<'_>, line: usize) -> Result<Value, ConfigError> {
        match scalar {
            Scalar::String(text) if text.contains("${") => self.substitute(text, line),
            scalar => Ok(json(scalar)),
        }
    }

    /// Replaces each `${NAME}` by the environment variable. A value that consists of one variable
    /// alone gets the type that it would have if it were written there.
    fn substitute(&mut self, text: &str, line: usize) -> Result<Value, ConfigError> {
        let mut result = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(end) = rest[start..].find('}') else {
                return Err(self.0.error_at(line, "\"${\" is not closed by \"}\""));
            };
            let name = &rest[start + 2..start + end];
            let value = std::env::var(name).map_err(|_| {
                let message = format!("the environment variable {name} is not set");
                self.0.error_at(line, message)
            })?;
            self.0.hide(&value, name);
            result.push_str(&rest[..start]);
            result.push_str(&value);
            rest = &rest[start + end + 1..];
        }
        let is_one_variable =
            !result.is_empty() && text.starts_with("${") && text.find('}') == Some(text.len() - 1);
        result.push_str(rest);
        Ok(if is_one_variable {
            json(&Scalar::parse_from_cow(result.into()))
        } else {
            Value::String(result)
        })
    }
}

/// Applies `a.b.c=value`; the value is YAML. Returns the key.
fn apply(root: &mut Value, text: &str, places: &mut Places) -> Result<String, ConfigError> {
    let error = |message: String| ConfigError {
        place: format!("--set {}", text.split('=').next().unwrap_or_default()),
        message,
    };
    let Some((key, value)) = text.split_once('=') else {
        return Err(error("KEY=VALUE is expected".to_string()));
    };
    let documents = yaml::parse(value)
        .map_err(|cause| error(format!("the value is not YAML: {}", cause.info())))?;
    let mut own_places = Places::new(Path::new("--set"));
    let value = match documents.first() {
        Some(document) => Reader(&mut own_places).value(document, "")?,
        None => Value::Null,
    };
    places.from_environment.extend(own_places.from_environment);
    let mut target = root;
    for part in key.split('.') {
        let Value::Object(map) = target else {
            return Err(error(format!("there is nothing below \"{part}\" to set")));
        };
        target = map.entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
    *target = value;
    Ok(key.to_string())
}

fn deserialize(value: Value, places: &Places) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut path = error.path().to_string();
        let explained = explain(&error.inner().to_string());
        if let Some(unknown) = &explained.unknown_key {
            if path == "." {
                path = unknown.clone();
            } else if !path.ends_with(&format!(".{unknown}")) && path != *unknown {
                let _ = write!(path, ".{unknown}");
            }
        }
        let shown = if path == "." { "the config" } else { &path };
        ConfigError {
            place: places.place(&path),
            message: places.mask(&format!("{shown}: {}", explained.text)),
        }
    })
}

struct Explained {
    text: String,
    unknown_key: Option<String>,
}

/// Rewords a message of serde in plainer words, with the nearest of the names that it expected.
fn explain(message: &str) -> Explained {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let Some((found, expected)) = quoted.split_first().filter(|_| is_unknown) else {
        return Explained {
            text: message.replace("missing field", "missing key"),
            unknown_key: None,
        };
    };
    let is_key = message.starts_with("unknown field");
    let mut text = if is_key {
        "there is no such key".to_string()
    } else {
        format!("\"{found}\" is not a valid value")
    };
    text.push_str(&did_you_mean(found, expected));
    if !expected.is_empty() {
        let _ = write!(text, " (expected: {})", expected.join(", "));
    }
    Explained {
        text,
        unknown_key: is_key.then(|| found.to_string()),
    }
}
