//! YAML, parsed within a bound on its depth.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, ScanError, YamlData};
use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

/// Bound on how deep lists and maps are nested. The YAML library, and what handles its result,
/// recurse, and many thousands would exceed the thread's stack. A config has less than ten.
const MAX_DEPTH: usize = 64;

/// Parses a text of YAML documents.
pub(super) fn parse(text: &str) -> Result<Vec<MarkedYaml<'_>>, ScanError> {
    check_depth(text)?;
    MarkedYaml::load_from_str(text)
}

/// Reads the documents of a file that is no config of ours.
///
/// # Errors
/// The file cannot be read or is not YAML: the reason, with its line.
pub(crate) fn read_yaml(file: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let documents = parse(&text).map_err(|error| {
        format!(
            "line {}: this is not YAML: {}",
            error.marker().line(),
            error.info()
        )
    })?;
    documents.iter().map(value).collect()
}

fn value(node: &MarkedYaml<'_>) -> Result<Value, String> {
    match &node.data {
        YamlData::Value(scalar) => Ok(json(scalar)),
        YamlData::Sequence(items) => items.iter().map(value).collect(),
        YamlData::Mapping(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                let name = key.data.as_str().ok_or_else(|| {
                    format!(
                        "line {}: a key is expected to be text",
                        key.span.start.line()
                    )
                })?;
                map.insert(name.to_string(), value(item)?);
            }
            Ok(Value::Object(map))
        }
        _ => Err(format!(
            "line {}: tags and aliases are not expected here",
            node.span.start.line()
        )),
    }
}

/// A scalar as JSON.
pub(super) fn json(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => Value::Bool(*value),
        Scalar::Integer(value) => Value::from(*value),
        Scalar::FloatingPoint(value) => Value::from(value.into_inner()),
        Scalar::String(text) => Value::String(text.to_string()),
    }
}

/// Checks the depth of a text, without recursion. An alias is as deep as the value that it stands
/// for.
fn check_depth(text: &str) -> Result<(), ScanError> {
    let mut anchored = BTreeMap::new();
    // The lists and maps around the event, each with its anchor and the depth of what it holds.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        let depth = match event {
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                open.push((anchor, 0));
                0
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (anchor, inner) = open.pop().unwrap_or_default();
                anchored.insert(anchor, inner + 1);
                inner + 1
            }
            Event::Alias(anchor) => anchored.get(&anchor).copied().unwrap_or(0),
            _ => 0,
        };
        if open.len() + depth > MAX_DEPTH {
            let message = format!("lists and maps are nested more than {MAX_DEPTH} deep");
            return Err(ScanError::new(span.start, message));
        }
        if let Some((_, inner)) = open.last_mut() {
            *inner = depth.max(*inner);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_refused_at_its_line() {
        let flow = |depth: usize| format!("a:\n  {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&flow(MAX_DEPTH - 1)).is_ok());
        let error = parse(&flow(MAX_DEPTH)).unwrap_err();
        assert_eq!(error.marker().line(), 2);
        assert!(error.info().contains("more than 64 deep"), "{error}");
        for text in ["- ".repeat(100_000), "? ".repeat(100_000), "[".repeat(200)] {
            assert!(parse(&text).is_err());
        }
    }

    #[test]
    fn aliases_are_as_deep_as_their_values() {
        let chain = |links: usize| {
            let mut text = "a0: &a0 [[[[[[[[x]]]]]]]]\n".to_owned();
            for link in 1..links {
                let before = link - 1;
                text += &format!("a{link}: &a{link} [[[[[[[[*a{before}]]]]]]]]\n");
            }
            text
        };
        assert!(parse(&chain(7)).is_ok());
        assert!(parse(&chain(8)).is_err());
    }
}
