//! Messages in Avro, and their schemas, given or from a registry.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_connectors::format::{AvroParser, Registry, Row};
use perennial_connectors::source::Decoder;
use support::avro::{SCHEMA, avro};
use support::registry::Server;

use crate::files::{samples, schema as sample_schema};
use crate::harness::Subject;
use crate::mutate;

/// A schema whose columns have all types, some of them through others.
const WIDE: &str = r#"{"type":"record","name":"W","namespace":"n","fields":[
    {"name":"id","type":{"type":"bytes","logicalType":"decimal","precision":30,"scale":2}},
    {"name":"time","type":["null",{"type":"long","logicalType":"timestamp-micros"},{"type":"int","logicalType":"date"}]},
    {"name":"site","type":{"type":"fixed","name":"F","size":16,"logicalType":"uuid"}},
    {"name":"season","type":{"type":"enum","name":"E","symbols":["dry","wet"]}},
    {"name":"a","type":["null","int","long","float","double","string","boolean"]},
    {"name":"b","type":{"type":"map","values":"double"}},
    {"name":"c","type":{"type":"array","items":["null","W"]}},
    {"name":"mode","type":["F","string"]},
    {"name":"label","type":["null","string"]},
    {"name":"more","type":["null","W"]}]}"#;

/// A record of [`WIDE`] that contains another.
fn wide() -> Vec<u8> {
    let inner = |more: &[u8]| {
        let mut bytes = vec![6, 1, 2, 3, 2, 8];
        bytes.extend([7; 16]);
        bytes.extend([
            2, 8, 0x80, 1, 2, 2, b'k', 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,
        ]);
        bytes.extend([2, 4, b'a', b'c', 2, 6, b'l', b'o', b'w']);
        bytes.extend(more);
        bytes
    };
    let mut more = vec![2];
    more.extend(inner(&[0]));
    inner(&more)
}

fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = samples().iter().map(avro).collect();
    messages.push(wide());
    messages
}

fn tokens() -> Vec<&'static str> {
    let mut tokens = mutate::TEXT.to_vec();
    tokens.extend([
        "\"null\"",
        "\"record\"",
        "\"enum\"",
        "\"fixed\"",
        "\"array\"",
        "\"map\"",
        "\"bytes\"",
        "\"decimal\"",
        "\"uuid\"",
        "\"duration\"",
        "\"date\"",
        "\"Sample\"",
        "\"W\"",
        "\"n.W\"",
        "\"size\":",
        "\"scale\":",
        "\"precision\":",
        "\"items\":",
        "\"type\":",
        "\"symbols\":",
        "\"fields\":",
        "[[",
        "{\"type\":",
        "{\"type\":\"array\",\"items\":",
        "[\"null\",",
    ]);
    tokens
}

/// Parses messages with one parser, and decodes what they hold.
struct Reading {
    columns: Vec<String>,
    row: Row,
    decoder: Decoder,
}

impl Reading {
    fn new() -> Reading {
        let decoder = Decoder::new(&sample_schema(), true, 100);
        Reading {
            columns: decoder.columns().to_vec(),
            row: Row::new(decoder.columns().len()),
            decoder,
        }
    }

    /// Whether the parser takes the message.
    fn read(&mut self, parser: &mut AvroParser, message: &[u8]) -> bool {
        let is_parsed = parser.parse(message, &mut self.row).is_ok();
        if is_parsed {
            // A parsed row may still be a bad record.
            let _ = self.decoder.push(&self.row, 1);
        }
        self.decoder.take();
        is_parsed
    }
}

pub fn message() -> Subject {
    let mut reading = Reading::new();
    let parsers = [SCHEMA, WIDE].map(|schema| AvroParser::plain(schema, &reading.columns));
    let mut parsers = parsers.map(|parser| parser.expect("a schema"));
    Subject {
        seeds: messages(),
        tokens: mutate::TEXT.to_vec(),
        decode: Box::new(move |input| {
            let [narrow, wide] = &mut parsers;
            reading.read(narrow, input) | reading.read(wide, input)
        }),
    }
}

pub fn schema() -> Subject {
    let mut reading = Reading::new();
    let messages = messages();
    Subject {
        seeds: vec![SCHEMA.into(), WIDE.into()],
        tokens: tokens(),
        decode: Box::new(move |input| {
            let schema = String::from_utf8_lossy(input);
            let Ok(mut parser) = AvroParser::plain(&schema, &reading.columns) else {
                return false;
            };
            for message in &messages {
                reading.read(&mut parser, message);
            }
            true
        }),
    }
}

/// The answers of a registry.
pub fn registry() -> Subject {
    let mut reading = Reading::new();
    let answer = Arc::new(Mutex::new(String::new()));
    let body = answer.clone();
    let server = Server::start(move |_| (200, body.lock().expect("an answer").clone()));
    let stored = |schema: &str| {
        let references = serde_json::json!([{"name": "n", "subject": "s", "version": 1}]);
        let stored =
            serde_json::json!({"schema": schema, "schemaType": "AVRO", "references": references});
        stored.to_string().into_bytes()
    };
    let messages = messages();
    Subject {
        seeds: vec![
            stored(SCHEMA),
            stored(WIDE),
            support::registry::stored(SCHEMA).into_bytes(),
        ],
        tokens: tokens(),
        decode: Box::new(move |input| {
            *answer.lock().expect("an answer") = String::from_utf8_lossy(input).into_owned();
            let registry = Registry::new(&server.url(), None, None, Duration::from_secs(10));
            let registry = registry.expect("an address");
            let mut parser = AvroParser::registered(registry, &reading.columns, Duration::ZERO);
            [&messages[0], &messages[messages.len() - 1]]
                .map(|message| [&[0, 0, 0, 0, 7], &message[..]].concat())
                .map(|message| reading.read(&mut parser, &message))
                .contains(&true)
        }),
    }
}
