//! Messages whose schemas come from a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use support::registry::{Server, not_found, stored};

use super::*;

/// A patience that no test exhausts.
const LONG: Duration = Duration::from_secs(600);

/// A message with the id of its schema.
fn message(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

#[test]
fn a_parser_can_go_to_another_thread() {
    fn check(_: &impl Send) {}
    check(&AvroParser::plain(&of(json!("int")), &names(&["a"])).unwrap());
}

#[test]
fn each_schema_is_fetched_once() {
    let server = Server::with(&[
        ("GET /schemas/ids/1", stored(&of(json!("int")))),
        (
            "GET /schemas/ids/4000000000",
            stored(&record(json!([
                {"name": "new", "type": "string"},
                {"name": "a", "type": ["null", "string"]},
            ]))),
        ),
    ]);
    let mut parser = AvroParser::registered(Registry::of(&server), &names(&["a"]), LONG);
    let mut row = Row::new(1);
    for _ in 0..3 {
        parser.parse(&message(1, &long(5)), &mut row).unwrap();
        assert_eq!(row.get(0), Value::Number(5.0));
        let datum = [sized("x"), long(1), sized("y")].concat();
        parser
            .parse(&message(4_000_000_000, &datum), &mut row)
            .unwrap();
        assert_eq!(row.get(0), Value::Text("y"));
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn types_of_other_schemas_are_found() {
    let main = record(json!([{"name": "a", "type": ["null", "other.Season"]}]));
    let other = json!({"type": "enum", "name": "other.Season", "symbols": ["dry", "wet"]});
    let references = json!([{"name": "other.Season", "subject": "season", "version": 3}]);
    let answer = json!({"schema": main, "references": references}).to_string();
    let server = Server::with(&[
        ("GET /schemas/ids/1", answer),
        (
            "GET /subjects/season/versions/3",
            stored(&other.to_string()),
        ),
    ]);
    let mut parser = AvroParser::registered(Registry::of(&server), &names(&["a"]), LONG);
    let mut row = Row::new(1);
    let datum = [long(1), long(1)].concat();
    parser.parse(&message(1, &datum), &mut row).unwrap();
    assert_eq!(row.get(0), Value::Text("wet"));
}

#[test]
fn messages_without_a_schema_id_are_bad() {
    let server = Server::with(&[]);
    let mut parser = AvroParser::registered(Registry::of(&server), &names(&["a"]), LONG);
    let mut row = Row::new(1);
    for message in [&b""[..], &[0], &[0, 0, 0, 1]] {
        assert!(bad(parser.parse(message, &mut row)).contains("less than the 5"));
    }
    let reason = bad(parser.parse(b"{\"a\":1}", &mut row));
    assert!(reason.contains("begins with the byte 123"), "{reason}");
    assert!(server.requests().is_empty());
}

#[test]
fn refused_ids_are_not_asked_for_again_at_once() {
    let server = Server::with(&[("GET /schemas/ids/1", stored(&of(json!("int"))))]);
    let mut parser = AvroParser::registered(Registry::of(&server), &names(&["b"]), LONG);
    let mut row = Row::new(1);
    for _ in 0..3 {
        let reason = bad(parser.parse(&message(1, &long(5)), &mut row));
        assert_eq!(
            reason,
            r#"the Avro schema 1 cannot be used: it has no field "b""#
        );
        let reason = bad(parser.parse(&message(7, &long(5)), &mut row));
        assert!(reason.contains("not in the schema registry"), "{reason}");
    }
    assert_eq!(server.requests().len(), 2);
    let Writers::Registered(registered) = &mut parser.writers else {
        unreachable!();
    };
    for (_, since) in registered.refused.values_mut() {
        *since -= REFUSED_FOR;
    }
    bad(parser.parse(&message(7, &long(5)), &mut row));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn floods_of_ids_take_no_memory() {
    let schema = of(json!("int"));
    let server = Server::start(move |line| {
        if line.ends_with('3') {
            not_found()
        } else {
            (200, stored(&schema))
        }
    });
    let mut parser = AvroParser::registered(Registry::of(&server), &names(&["a"]), LONG);
    let mut row = Row::new(1);
    for id in 0..KEPT as u32 + 50 {
        let parsed = parser.parse(&message(id, &long(5)), &mut row);
        assert_eq!(parsed.is_ok(), id % 10 != 3);
    }
    let Writers::Registered(registered) = &parser.writers else {
        unreachable!();
    };
    assert!(registered.known.len() <= KEPT && registered.refused.len() <= REFUSED);
}

#[test]
fn a_registry_that_fails_is_asked_again() {
    let down = std::sync::Mutex::new(2);
    let schema = of(json!("int"));
    let server = Server::start(move |_| {
        let mut down = down.lock().unwrap();
        if *down == 0 {
            return (200, stored(&schema));
        }
        *down -= 1;
        (503, String::new())
    });
    let mut parser = AvroParser::registered(Registry::of(&server), &names(&["a"]), LONG);
    let mut row = Row::new(1);
    for _ in 0..2 {
        let parsed = parser.parse(&message(1, &long(5)), &mut row);
        assert!(matches!(parsed, Err(AvroError::Retry(_))));
    }
    parser.parse(&message(1, &long(5)), &mut row).unwrap();
    assert_eq!(row.get(0), Value::Number(5.0));
}

#[test]
fn an_id_that_fails_for_long_while_others_work_is_bad() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = is_away.clone();
    let schema = of(json!("int"));
    let server = Server::start(move |line| match line {
        _ if away.load(Ordering::SeqCst) => (503, String::new()),
        "GET /schemas/ids/1" => (200, stored(&schema)),
        "GET /schemas/ids/9" => (500, String::new()),
        // A user who may read schemas alone.
        _ => (403, String::new()),
    });
    let columns = names(&["a"]);
    let mut parser = AvroParser::registered(Registry::of(&server), &columns, Duration::ZERO);
    let mut row = Row::new(1);
    // Nothing shows yet that the registry works.
    let parsed = parser.parse(&message(9, &long(5)), &mut row);
    assert!(matches!(parsed, Err(AvroError::Retry(_))), "{parsed:?}");
    parser.parse(&message(1, &long(5)), &mut row).unwrap();
    is_away.store(true, Ordering::SeqCst);
    let parsed = parser.parse(&message(9, &long(5)), &mut row);
    assert!(matches!(parsed, Err(AvroError::Retry(_))), "{parsed:?}");
    is_away.store(false, Ordering::SeqCst);
    let parsed = parser.parse(&message(9, &long(5)), &mut row);
    let Err(AvroError::Bad(reason)) = parsed else {
        panic!("{parsed:?}");
    };
    assert!(
        reason.contains("500") && reason.contains("though it answers other"),
        "{reason}"
    );
    // Others go on, and an id is waited for at first.
    parser.parse(&message(1, &long(5)), &mut row).unwrap();
    let mut parser = AvroParser::registered(Registry::of(&server), &columns, LONG);
    parser.parse(&message(1, &long(5)), &mut row).unwrap();
    let parsed = parser.parse(&message(9, &long(5)), &mut row);
    assert!(matches!(parsed, Err(AvroError::Retry(_))), "{parsed:?}");
}
