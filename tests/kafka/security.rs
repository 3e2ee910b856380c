//! Kafka behind TLS and SASL: allowed users connect, refused ones get the reason, and no secret is
//! printed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use support::kafka::Broker;
use support::topics::Pipeline;
use support::{Bench, Ended, ended, stream};

/// Users and their passwords.
const ALICE: (&str, &str) = ("alice-7f3a", "scram-secret-51d0");
const BOB: (&str, &str) = ("bob-90cc", "plain-secret-e28b");

/// A broker that accepts users over TLS only, and a folder with its certificate.
struct Secured {
    folder: Bench,
    broker: Arc<Broker>,
}

impl Secured {
    fn start() -> Secured {
        let folder = Bench::new();
        for name in ["ours", "theirs"] {
            certificate(&folder, name);
        }
        let both = [folder.read("ours.key"), folder.read("ours.pem")].concat();
        folder.write("broker.pem", both);
        let user = format!("SCRAM-SHA-256=[name={},password={}]", ALICE.0, ALICE.1);
        let store = format!(
            "ssl.keystore.location={}",
            support::text(&folder.path("broker.pem"))
        );
        let login = |mechanism: &str, module: &str| {
            let package = "org.apache.kafka.common.security";
            format!("listener.name.client.{mechanism}.sasl.jaas.config={package}.{module};")
        };
        let plain = format!(
            "plain.PlainLoginModule required user_{}=\"{}\"",
            BOB.0, BOB.1
        );
        let token =
            "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\"";
        let broker = Broker::start_with(&[
            "--scram",
            &user,
            "listener.security.protocol.map=CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "ssl.keystore.type=PEM",
            &store,
            "sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN,OAUTHBEARER",
            &login("scram-sha-256", "scram.ScramLoginModule required"),
            &login("plain", &plain),
            &login("oauthbearer", token),
        ]);
        let broker = broker.for_clients(&[
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", support::text(&folder.path("ours.pem"))),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.username", ALICE.0),
            ("sasl.password", ALICE.1),
        ]);
        Secured {
            folder,
            broker: Arc::new(broker),
        }
    }

    /// A pipeline on topics with this prefix, with these settings of librdkafka.
    fn pipeline(&self, name: &str, options: &[(&str, String)]) -> Pipeline {
        let pipeline = Pipeline::new(&self.broker, name, false);
        let config = String::from_utf8(pipeline.bench.read("config.yaml")).expect("a text");
        let plain = format!("kafka: {{brokers: '{}'}}\n", self.broker.address);
        assert!(config.contains(&plain), "{config}");
        let options: String = options
            .iter()
            .map(|(key, value)| format!("    {key}: '{value}'\n"))
            .collect();
        let address = &self.broker.address;
        let secured =
            format!("kafka:\n  brokers: '{address}'\n  wait_seconds: 5\n  options:\n{options}");
        pipeline
            .bench
            .write("config.yaml", config.replace(&plain, &secured));
        pipeline
    }

    /// Runs a pipeline, and asserts that no secret is in its output or its files.
    fn run(&self, pipeline: &Pipeline) -> Ended {
        let mut command = pipeline.command(&[]);
        command.env("RUST_LOG", "debug,librdkafka=trace");
        command.env("KAFKA_USER", ALICE.0);
        command.env("PLAIN_PASSWORD", BOB.1);
        let ended = ended(command.output());
        for secret in [ALICE.1, BOB.1] {
            let said = [&ended.stdout, &ended.stderr];
            assert!(said.iter().all(|said| !said.contains(secret)), "{ended:?}");
            let mut found = Vec::new();
            holding(&pipeline.bench.path(""), secret.as_bytes(), &mut found);
            assert_eq!(found, [] as [&str; 0], "{secret} is in these files");
        }
        ended
    }

    /// Runs a pipeline that may connect, and checks that each sample is predicted once.
    fn works(&self, name: &str, options: &[(&str, String)]) {
        let pipeline = self.pipeline(name, options);
        let samples = stream::samples(51, 1400, 0.0);
        pipeline.produce(&samples);
        self.run(&pipeline).success();
        pipeline.check(&samples);
    }

    /// Settings of a client over TLS that trusts a certificate.
    fn tls(&self, trusted: &str) -> Vec<(&'static str, String)> {
        let trusted = support::text(&self.folder.path(trusted)).to_string();
        vec![
            ("security.protocol", "SASL_SSL".to_string()),
            ("ssl.ca.location", trusted),
        ]
    }

    /// Settings of a client over TLS with a user and a password from a file.
    fn scram(&self, trusted: &str, password: &str) -> Vec<(&'static str, String)> {
        self.folder.write("password", format!("{password}\n"));
        let file = self.folder.path("password");
        let login = [
            ("sasl.mechanism", "SCRAM-SHA-256".to_string()),
            ("sasl.username", "${KAFKA_USER}".to_string()),
            ("sasl.password", format!("file:{}", support::text(&file))),
            ("debug", "security,conf".to_string()),
        ];
        [self.tls(trusted), login.to_vec()].concat()
    }
}

/// Makes a key and a self-signed certificate.
fn certificate(bench: &Bench, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ])
        .args(["-keyout", &key, "-out", &certificate])
        .current_dir(bench.path(""))
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{made:?}");
}

/// The names of all files below a folder that contain these bytes.
fn holding(folder: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            holding(&path, bytes, found);
            continue;
        }
        let content = std::fs::read(&path).expect("a file");
        if content.windows(bytes.len()).any(|window| window == bytes) {
            let name = path.file_name().expect("a name");
            found.push(name.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn users_connect_over_tls() {
    let secured = Secured::start();
    secured.works("scram", &secured.scram("ours.pem", ALICE.1));
    let mut found = Vec::new();
    holding(&secured.folder.path(""), ALICE.1.as_bytes(), &mut found);
    assert_eq!(found, ["password"], "what is looked for can be found");
    let plain = [
        ("sasl.mechanism", "PLAIN".to_string()),
        ("sasl.username", BOB.0.to_string()),
        ("sasl.password", "${PLAIN_PASSWORD}".to_string()),
    ];
    secured.works("plain", &[secured.tls("ours.pem"), plain.to_vec()].concat());
    let token = [
        ("sasl.mechanism", "OAUTHBEARER".to_string()),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true".to_string()),
        ("sasl.oauthbearer.config", "principal=carol".to_string()),
    ];
    secured.works("token", &[secured.tls("ours.pem"), token.to_vec()].concat());
}

#[test]
fn refused_users_get_the_reason() {
    let secured = Secured::start();
    let address = secured.broker.address.clone();
    let away = format!("perennial: Kafka at {address} does not let this client in: ");
    let fails = |name: &str, options: &[(&str, String)], words: &[&str]| {
        let ended = secured.run(&secured.pipeline(name, options));
        ended.failure(1, words);
    };
    // The other user's password must not be printed either.
    let wrong = secured.scram("ours.pem", BOB.1);
    fails(
        "wrong",
        &wrong,
        &[&away, "invalid credentials", "Check kafka.options"],
    );
    let distrusted = secured.scram("theirs.pem", ALICE.1);
    fails(
        "distrusted",
        &distrusted,
        &[&away, "certificate verify failed"],
    );
    let nobody = format!("perennial: no Kafka broker answers at {address}: ");
    let bare = [("security.protocol", "PLAINTEXT".to_string())];
    fails("bare", &bare, &[&nobody, "security.protocol"]);
    // A feature that librdkafka was not built with.
    let oidc = [
        ("sasl.mechanism", "OAUTHBEARER".to_string()),
        ("sasl.oauthbearer.method", "oidc".to_string()),
    ];
    let oidc = [secured.tls("ours.pem"), oidc.to_vec()].concat();
    let ended = secured.run(&secured.pipeline("oidc", &oidc));
    ended.failure(2, &["kafka.options", "sasl.oauthbearer.method"]);
}
