//! A cloud that learns from its edges, and edges that predict with its models, on two brokers.

mod canary;
mod donors;
mod file;
mod gone;
mod hostile;
mod keys;
mod large;
mod offline;
mod policy;
mod thermal;
mod trust;

use support::Bench;
use support::fleet::{Fleet, common_config};
use support::stream::{self, Sample};

/// Number of samples of both edges from which the cloud trains its first models.
const BOOTSTRAP: usize = 800;

/// Splits a stream by season, for two edges.
fn split(samples: &[Sample]) -> (Vec<Sample>, Vec<Sample>) {
    let samples = samples.iter().cloned();
    samples.partition(|sample| sample.season == "dry")
}

#[test]
fn edges_share_samples_and_predict_with_the_clouds_models() {
    let fleet = Fleet::new("share", &["dry", "wet"]);
    // All from before the concept changes.
    let samples = &stream::samples(51, 7200, 0.0)[..3600];
    let (first, rest) = samples.split_at(BOOTSTRAP);
    let (dry, wet) = split(first);
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 600']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &cloud);
    let share = "samples: raw";
    fleet.edge_config("dry", dry.len(), share, &common);
    fleet.edge_config("wet", wet.len(), share, &common);
    // Edges without models collect and wait.
    fleet.produce("dry", &dry);
    fleet.produce("wet", &wet);
    let running = [fleet.start("dry"), fleet.start("wet")];
    let cloud = fleet.start("cloud");
    fleet.wait_for_knowledge("dry");
    fleet.wait_for_knowledge("wet");
    // The cloud learns from their samples and publishes models.
    let (mut seen_dry, mut seen_wet) = (dry.len(), wet.len());
    for part in rest.chunks(700) {
        let (dry, wet) = split(part);
        fleet.produce("dry", &dry);
        fleet.produce("wet", &wet);
        seen_dry += dry.len();
        seen_wet += wet.len();
        fleet.wait_for_answers("dry", seen_dry);
        fleet.wait_for_answers("wet", seen_wet);
        fleet.wait_for_samples("dry", seen_dry);
        fleet.wait_for_samples("wet", seen_wet);
        fleet.wait_for_knowledge("dry");
        fleet.wait_for_knowledge("wet");
    }
    for running in running {
        running.stop();
    }
    cloud.stop();
    for state in ["cloud", "dry", "wet"] {
        fleet.assert_sound(state);
    }
    let models = fleet.models("cloud");
    assert!(models.len() > 2, "{models:?}");
    assert_eq!(fleet.models("dry"), models);
    assert_eq!(fleet.models("wet"), models);
    fleet.assert_answered("dry", seen_dry - dry.len());
    fleet.assert_answered("wet", seen_wet - wet.len());
    for edge in ["dry", "wet"] {
        let outbox = &fleet.status(edge)["outbox"];
        assert_eq!(outbox["waiting"], 0, "{outbox}");
        assert_eq!(outbox["shed_samples"], 0, "{outbox}");
        let report = fleet.bench.report(edge);
        assert!(report["accuracy"].as_f64() > Some(0.5), "{report}");
        // It scales features as the cloud does.
        let changes = fleet.bench.run(&["kb", "--state", edge, "changes"]);
        let scaled = changes.stdout.matches("features scaled").count();
        assert_eq!(scaled, 1, "{edge}");
    }
    let all = fleet.status("cloud")["commit"]["samples"].clone();
    assert_eq!(all, samples.len());
}

#[test]
fn link_settings_are_checked() {
    let bench = Bench::new();
    let samples = stream::samples(53, 100, 0.0);
    bench.write("stream.csv", stream::csv(&samples));
    let config = stream::config("stream.csv", "records: 100");
    let config = config.replace("report:\n  baselines: [frozen]\n", "");
    let refused = |more: &str, words: &[&str]| {
        bench.write("config.yaml", format!("{config}{more}"));
        bench.run(&["validate", "config.yaml"]).failure(2, words);
    };
    let kafka = "kafka: {brokers: 'localhost:1'}";
    let edge = |share: &str| {
        format!(
            "mode: live\nrole: edge\nlink: {{{kafka}, verify: a.pem, sign: b.pem}}\nshare: {{{share}}}\n"
        )
    };
    refused("role: cloud\n", &["link", "missing"]);
    refused(&format!("link: {{{kafka}}}\n"), &["link", "set role"]);
    refused(
        &format!("role: cloud\nlink: {{{kafka}}}\n"),
        &["link.sign", "openssl genpkey"],
    );
    refused(
        &format!("role: edge\nlink: {{{kafka}, verify: a.pem}}\n"),
        &["mode", "set live"],
    );
    refused(
        &format!("mode: live\nrole: edge\nlink: {{{kafka}, verify: a.pem}}\n"),
        &["bootstrap", "share.samples"],
    );
    refused(&edge(""), &["link.sign", "nothing is shared"]);
    refused(
        &edge("samples: redacted"),
        &["share.samples", "share.redact"],
    );
    refused(
        &edge("samples: raw, redact: [a]"),
        &["share.samples", "redacted"],
    );
    refused(
        &edge("samples: redacted, redact: [sites]"),
        &["share.redact[0]", "did you mean \"site\"?"],
    );
    refused(
        &edge("samples: redacted, redact: [label]"),
        &["share.redact[0]", "of no use"],
    );
    refused(
        &edge("samples: redacted, pseudonyms: [a]"),
        &["share.pseudonyms[0]", "redact it"],
    );
    refused(
        &edge("samples: redacted, pseudonyms: [site]"),
        &["share.secret", "openssl rand"],
    );
    refused("share: {samples: raw}\n", &["share", "only an edge"]);
    refused(
        &edge("samples: raw, models: true"),
        &["share.models", "link.train"],
    );
    refused(
        &format!("{}unseen: {{}}\n", edge("samples: raw")),
        &["unseen", "nothing is trained here"],
    );
    let cloud = |more: &str| format!("role: cloud\nlink: {{{kafka}, sign: a.pem, {more}}}\n");
    refused(&cloud("train: true"), &["link.train", "only an edge"]);
    refused(
        &cloud("canary: {edges: [a]}"),
        &["link.canary", "source.edges"],
    );
    refused(
        &cloud("store: {url: 'file:///models', above: 100000000}"),
        &["link.store.above", "at most"],
    );
    refused(
        &cloud("edges: {a: {key: a.pem, sites: {sit: [x]}}}"),
        &["link.edges.a.sites.sit", "did you mean \"site\"?"],
    );
    refused(
        &cloud("edges: {a: {keys: [{key: a.pem, until: tomorrow}]}}"),
        &["link.edges.a.keys[0].until", "2027-01-31T00:00:00Z"],
    );
    refused(
        &cloud("edges: {a: {samples: false}}"),
        &["link.edges.a.key", "missing"],
    );
    refused(
        &cloud("edges: {a: [a.pem]}"),
        &["link.edges.a", "the file of a public key"],
    );
    bench.write(
        "config.yaml",
        format!("{config}role: cloud\nlink: {{{kafka}, sign: none.pem}}\n"),
    );
    bench
        .run(&["run", "config.yaml"])
        .failure(1, &["none.pem", "cannot be used"]);
    bench.write("open.pem", "whatever it holds");
    bench.set_mode("open.pem", 0o640);
    bench.write(
        "config.yaml",
        format!("{config}role: cloud\nlink: {{{kafka}, sign: open.pem}}\n"),
    );
    bench
        .run(&["run", "config.yaml"])
        .failure(1, &["open.pem", "other users have access", "chmod 600"]);
}
