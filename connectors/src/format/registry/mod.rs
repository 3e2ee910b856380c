//! A client of schema registries: Confluent's, and others with the same protocol.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Response, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::WithoutBody;
use ureq::{Agent, RequestBuilder};

use super::AvroError;

/// The media type of the protocol.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Bound on an answer in bytes. Schemas with thousands of columns are smaller.
const MAX_ANSWER: u64 = 1 << 20;

/// Bound on the schemas that one schema refers to, directly or not.
const MAX_REFERENCES: usize = 64;

/// Characters of the registry's message that a reason quotes.
const QUOTED: usize = 200;

/// A client of a schema registry.
pub struct Registry {
    agent: Agent,
    /// The address without a slash at its end, and without user and password.
    url: String,
    login: Option<HeaderValue>,
}

/// A schema in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// Its JSON.
    pub schema: String,
    /// The JSON of the schemas that it refers to, directly or not.
    pub references: Vec<String>,
}

/// The registry's answer to a request for a schema.
#[derive(Deserialize)]
struct Stored {
    schema: String,
    /// Avro if absent.
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Registration {
    id: u32,
}

/// The registry's answer to a request that it refuses.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error_code: u32,
    message: String,
}

impl Registry {
    /// A client of the registry at `url` (`http` or `https`, perhaps with a path, without user and
    /// password). `login` is the user and the password. `ca` (PEM) has the trusted certificates;
    /// the default are the public authorities. A request fails after `timeout`. Nothing is sent
    /// yet.
    ///
    /// # Errors
    /// An argument cannot be used: the reason.
    pub fn new(
        url: &str,
        login: Option<(&str, &str)>,
        ca: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Registry, String> {
        let url = checked(url)?;
        let login = login.map(|(user, password)| basic(user, password));
        let tls = match ca {
            None => TlsConfig::default(),
            Some(pem) => TlsConfig::builder().root_certs(roots(pem)?).build(),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .tls_config(tls)
            .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Registry {
            agent: config.new_agent(),
            url: url.to_owned(),
            login: login.transpose()?,
        })
    }

    /// Checks that the registry answers and accepts the user, if there is one. Other refusals do
    /// not matter: a user who may read schemas need not be allowed to read anything else.
    ///
    /// # Errors
    /// [`AvroError::Bad`] if it refuses the user; [`AvroError::Retry`] if it does not answer, or
    /// says that it cannot.
    pub fn greet(&self) -> Result<(), AvroError> {
        let status = self.settings()?;
        let refusal = self.refusal(status, b"", "its settings");
        if status == StatusCode::UNAUTHORIZED {
            return Err(AvroError::Bad(refusal.to_string()));
        }
        if status.is_server_error() {
            return Err(refusal);
        }
        Ok(())
    }

    /// Asks the registry for its settings; tells whether it gives them, as a working one does.
    pub(crate) fn shows_settings(&self) -> bool {
        self.settings().is_ok_and(|status| status.is_success())
    }

    /// The status of a request for the registry's settings.
    fn settings(&self) -> Result<StatusCode, AvroError> {
        let response = self.get("/config").call();
        let response = response.map_err(|error| self.unreachable(&error))?;
        Ok(response.status())
    }

    fn get(&self, path: &str) -> RequestBuilder<WithoutBody> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.get(url).header(ACCEPT, MEDIA_TYPE);
        match &self.login {
            Some(login) => request.header(AUTHORIZATION, login),
            None => request,
        }
    }

    /// The Avro schema with an id, and the schemas that it refers to.
    ///
    /// # Errors
    /// [`AvroError::Bad`] if there is no such schema, if it is of another kind than Avro, or larger
    /// than 1 MiB; [`AvroError::Retry`] for any other failure.
    pub fn schema(&self, id: u32) -> Result<RegisteredSchema, AvroError> {
        let what = format!("the Avro schema {id}");
        let Stored {
            schema, references, ..
        } = self.stored(&format!("/schemas/ids/{id}"), &what)?;
        let mut open = references;
        let mut seen = BTreeSet::new();
        let mut references = Vec::new();
        while let Some(reference) = open.pop() {
            let path = format!(
                "/subjects/{}/versions/{}",
                escaped(&reference.subject),
                reference.version
            );
            let what = format!(
                "version {} of {:?}, which the Avro schema {id} refers to,",
                reference.version, reference.subject
            );
            if !seen.insert(reference) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Err(AvroError::Bad(format!(
                    "the Avro schema {id} refers to more than {MAX_REFERENCES} others"
                )));
            }
            let stored = self.stored(&path, &what)?;
            references.push(stored.schema);
            open.extend(stored.references);
        }
        Ok(RegisteredSchema { schema, references })
    }

    /// Registers an Avro schema under a subject and returns its id; a registered schema keeps its
    /// id. The subject of the values of a Kafka topic is the topic's name followed by `-value`.
    ///
    /// # Errors
    /// [`AvroError::Bad`] if the registry finds the schema invalid or incompatible with earlier
    /// versions; [`AvroError::Retry`] for any other failure.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, AvroError> {
        let what = format!("the Avro schema of the subject {subject:?}");
        let path = format!("/subjects/{}/versions", escaped(subject));
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header(ACCEPT, MEDIA_TYPE)
            .header(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        let body = json!({ "schema": schema }).to_string();
        let registration: Registration = self.answer(request.send(body), &what)?;
        Ok(registration.id)
    }

    /// Fetches a schema; `what` names it in errors.
    fn stored(&self, path: &str, what: &str) -> Result<Stored, AvroError> {
        let stored: Stored = self.answer(self.get(path).call(), what)?;
        match stored.kind.as_deref() {
            None | Some("AVRO") => Ok(stored),
            Some(kind) => Err(AvroError::Bad(format!("{what} is of the type {kind:?}"))),
        }
    }

    /// Parses an answer; the error says whether another attempt may help.
    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<Response<ureq::Body>, ureq::Error>,
        what: &str,
    ) -> Result<T, AvroError> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let body = body.read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                AvroError::Bad(format!("{what} has more than {MAX_ANSWER} bytes"))
            }
            error => self.unreachable(&error),
        })?;
        if !response.status().is_success() {
            return Err(self.refusal(response.status(), &body, what));
        }
        serde_json::from_slice(&body).map_err(|error| {
            AvroError::Retry(format!(
                "{} does not answer as a schema registry does: {error}",
                self.url
            ))
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> AvroError {
        AvroError::Retry(format!(
            "the schema registry {} cannot be reached: {error}",
            self.url
        ))
    }

    /// The error of an answer without success.
    fn refusal(&self, status: StatusCode, body: &[u8], what: &str) -> AvroError {
        let Refusal {
            error_code,
            message,
        } = serde_json::from_slice(body).unwrap_or_default();
        let message: String = message.chars().take(QUOTED).collect();
        let url = &self.url;
        match (status.as_u16(), error_code) {
            // Without such a code the address is wrong, which must not make every record bad.
            (404, 40401..=40403) => {
                AvroError::Bad(format!("{what} is not in the schema registry ({message})"))
            }
            (409 | 422, _) => {
                AvroError::Bad(format!("the schema registry refuses {what} ({message})"))
            }
            (401 | 403, _) => AvroError::Retry(format!(
                "the schema registry {url} refuses the user or the password ({status})"
            )),
            _ => AvroError::Retry(format!(
                "the schema registry {url} answers {status} when asked for {what} ({message})"
            )),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.url).finish()
    }
}

/// The address of a registry without a slash at its end.
fn checked(url: &str) -> Result<&str, String> {
    // Checked first, and reported without the address, which may contain a password.
    if url.contains('@') {
        return Err("the schema registry's user and password must not be in its address".into());
    }
    let url = url.trim_end_matches('/');
    let parsed = url.parse::<Uri>().ok();
    let scheme = parsed.as_ref().and_then(Uri::scheme_str);
    let queried = parsed.as_ref().is_none_or(|url| url.query().is_some());
    if !matches!(scheme, Some("http" | "https")) || queried || url.contains('#') {
        return Err(format!(
            "the schema registry's address {url:?} is not of the form http://host:port or https://host:port"
        ));
    }
    Ok(url)
}

/// The certificates in a text.
fn roots(pem: &[u8]) -> Result<RootCerts, String> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(format!("the schema registry's ca is not PEM: {error}")),
        }
    }
    if certificates.is_empty() {
        return Err("the schema registry's ca has no certificate (PEM)".into());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The header of a login by HTTP's basic authentication.
fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    if user.contains(':') {
        return Err("the schema registry's user must not contain a colon".into());
    }
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::try_from(format!("Basic {encoded}"))
        .map_err(|_| "the schema registry's user and password cannot be sent".to_string())?;
    // Keeps it out of logs.
    header.set_sensitive(true);
    Ok(header)
}

/// A name, percent-encoded as a part of a path.
fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
