//! The client of a registry, against a server that speaks its protocol.

use serde_json::json;
use support::registry::{Server, not_found, stored};

use super::*;

fn bad(result: Result<impl fmt::Debug, AvroError>) -> String {
    match result.unwrap_err() {
        AvroError::Bad(reason) => reason,
        AvroError::Retry(reason) => panic!("to be tried again: {reason}"),
    }
}

fn retry(result: Result<impl fmt::Debug, AvroError>) -> String {
    match result.unwrap_err() {
        AvroError::Retry(reason) => reason,
        AvroError::Bad(reason) => panic!("bad for good: {reason}"),
    }
}

fn answering(status: u16, body: &str) -> Server {
    let body = body.to_string();
    Server::start(move |_| (status, body.clone()))
}

impl Registry {
    /// A client of this server.
    pub(crate) fn of(server: &Server) -> Registry {
        Registry::new(&server.url(), None, None, Duration::from_secs(10)).unwrap()
    }
}

#[test]
fn a_registry_is_there_whatever_it_refuses() {
    for status in [200, 403, 404] {
        let server = answering(status, "");
        let registry = Registry::of(&server);
        assert_eq!(registry.greet(), Ok(()));
        assert_eq!(registry.shows_settings(), status == 200);
    }
    assert!(bad(Registry::of(&answering(401, "")).greet()).contains("refuses the user"));
    for status in [500, 502, 503] {
        let server = answering(status, "");
        assert!(retry(Registry::of(&server).greet()).contains(&status.to_string()));
    }
    let server = answering(200, "");
    let registry = Registry::of(&server);
    drop(server);
    assert!(retry(registry.greet()).contains("cannot be reached"));
}

#[test]
fn a_schema_is_asked_for_by_its_id() {
    let server = Server::with(&[("GET /schemas/ids/7", stored(r#""int""#))]);
    let schema = Registry::of(&server).schema(7).unwrap();
    assert_eq!(schema.schema, r#""int""#);
    assert!(schema.references.is_empty());
    let headers = &server.requests()[0].headers;
    assert!(
        headers
            .iter()
            .all(|line| !line.starts_with("authorization"))
    );
}

#[test]
fn the_address_may_end_with_slashes_and_have_a_path() {
    let server = Server::with(&[("GET /a/b/schemas/ids/7", stored("x"))]);
    for end in ["/a/b", "/a/b/", "/a/b//"] {
        let url = server.url() + end;
        let registry = Registry::new(&url, None, None, Duration::from_secs(10)).unwrap();
        assert_eq!(registry.schema(7).unwrap().schema, "x");
    }
}

#[test]
fn the_login_is_sent_and_never_told() {
    let server = answering(401, r#"{"error_code":401,"message":"Unauthorized"}"#);
    let login = Some(("me", "s3cret:ü"));
    let registry = Registry::new(&server.url(), login, None, Duration::from_secs(10)).unwrap();
    let told = format!("{registry:?} {}", retry(registry.schema(7)));
    let encoded = STANDARD.encode("me:s3cret:ü");
    assert!(
        !told.contains("s3cret") && !told.contains(&encoded),
        "{told}"
    );
    assert!(told.contains("refuses the user or the password"), "{told}");
    let sent = format!("authorization: Basic {encoded}");
    assert!(server.requests()[0].headers.contains(&sent));
}

#[test]
fn references_are_followed_once_each() {
    let refers = |schema: &str, to: &[&str]| {
        let references: Vec<_> = to
            .iter()
            .map(|subject| json!({"name": "n", "subject": subject, "version": 2}))
            .collect();
        json!({"schema": schema, "schemaType": "AVRO", "references": references}).to_string()
    };
    let server = Server::with(&[
        ("GET /schemas/ids/7", refers("main", &["a/b ü", "c"])),
        (
            "GET /subjects/a%2Fb%20%C3%BC/versions/2",
            refers("ab", &["c"]),
        ),
        ("GET /subjects/c/versions/2", refers("c", &["a/b ü"])),
    ]);
    let mut schema = Registry::of(&server).schema(7).unwrap();
    schema.references.sort();
    assert_eq!(schema.references, ["ab", "c"]);
    assert_eq!(server.requests().len(), 3);
    let server = Server::with(&[("GET /schemas/ids/7", refers("main", &["gone"]))]);
    let reason = bad(Registry::of(&server).schema(7));
    assert!(reason.starts_with(r#"version 2 of "gone""#), "{reason}");
}

#[test]
fn endless_references_end() {
    let server = Server::start(|line| {
        let next = line.len();
        let references = json!([{"name": "n", "subject": "x".repeat(next), "version": 1}]);
        let body = json!({"schema": "x", "references": references});
        (200, body.to_string())
    });
    let reason = bad(Registry::of(&server).schema(7));
    assert!(reason.contains("more than 64"), "{reason}");
}

#[test]
fn what_will_not_change_is_told_from_what_may() {
    let client = |status, body: &str| {
        let server = answering(status, body);
        (Registry::of(&server), server)
    };
    let (status, body) = not_found();
    let (registry, _server) = client(status, &body);
    let reason = bad(registry.schema(7));
    assert_eq!(
        reason,
        "the Avro schema 7 is not in the schema registry (Schema 7 not found)"
    );
    let (registry, _server) = client(200, r#"{"schema":"x","schemaType":"JSON"}"#);
    assert_eq!(
        bad(registry.schema(7)),
        r#"the Avro schema 7 is of the type "JSON""#
    );
    let (registry, _server) = client(200, &stored(&"x".repeat(2 << 20)));
    assert!(bad(registry.schema(7)).contains("more than 1048576 bytes"));
    for (status, body) in [
        // No answer of a registry: the address is wrong.
        (404, "<html>"),
        (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
        (200, "<html>"),
        (403, ""),
        (429, ""),
        (
            500,
            r#"{"error_code":50001,"message":"Error in the backend datastore"}"#,
        ),
        (503, ""),
    ] {
        let (registry, server) = client(status, body);
        let reason = retry(registry.schema(7));
        assert!(reason.contains(&server.url()), "{reason}");
    }
}

#[test]
fn who_does_not_answer_may_be_asked_again() {
    let server = answering(200, "");
    let registry = Registry::of(&server);
    drop(server);
    assert!(retry(registry.schema(7)).contains("cannot be reached"));
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(1));
        (200, stored("x"))
    });
    let registry = Registry::new(&server.url(), None, None, Duration::from_millis(100)).unwrap();
    assert!(retry(registry.schema(7)).contains("timeout"));
}

#[test]
fn a_schema_is_registered_under_its_subject() {
    let server = Server::with(&[("POST /subjects/t%2Fx-value/versions", r#"{"id":12}"#.into())]);
    let id = Registry::of(&server).register("t/x-value", r#"{"type":"int"}"#);
    assert_eq!(id, Ok(12));
    let request = &server.requests()[0];
    assert_eq!(request.body, r#"{"schema":"{\"type\":\"int\"}"}"#);
    let kind = "content-type: application/vnd.schemaregistry.v1+json";
    assert!(request.headers.contains(&kind.into()));
    let server = answering(409, r#"{"error_code":409,"message":"incompatible"}"#);
    assert_eq!(
        bad(Registry::of(&server).register("t", "x")),
        r#"the schema registry refuses the Avro schema of the subject "t" (incompatible)"#
    );
    let server = answering(500, "");
    retry(Registry::of(&server).register("t", "x"));
}

#[test]
fn arguments_that_cannot_be_used_are_refused() {
    let new = |url, login| Registry::new(url, login, None, Duration::from_secs(1)).unwrap_err();
    for url in [
        "",
        "host:8081",
        "ftp://host",
        "http://",
        "http://h/?a=b",
        "http://h/#a",
        "http://a b",
    ] {
        assert!(new(url, None).contains("not of the form"), "{url}");
    }
    let reason = new("http://me:s3cret@host", None);
    assert!(!reason.contains("s3cret"), "{reason}");
    assert!(new("http://host", Some(("a:b", ""))).contains("colon"));
    for pem in ["", "-----BEGIN CERTIFICATE-----\nnothing"] {
        let ca = Some(pem.as_bytes());
        let registry = Registry::new("https://host", None, ca, Duration::from_secs(1));
        assert!(registry.unwrap_err().contains("ca "), "{pem}");
    }
}
