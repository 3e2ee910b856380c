//! The topics of the link are deleted under a fleet, or lose messages: each side notices.

use support::fleet::{Fleet, common_config};
use support::stream;

/// Number of samples from which the cloud trains its first models.
const BOOTSTRAP: usize = 800;

#[test]
fn edge_follows_a_topic_made_anew() {
    let fleet = Fleet::new("anew", &["only"]);
    let samples = &stream::samples(81, 3000, 0.0)[..1500];
    let (first, rest) = samples.split_at(BOOTSTRAP);
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 400']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &cloud);
    fleet.edge_config("only", first.len(), "samples: raw", &common);
    fleet.produce("only", first);
    let edge = fleet.start("only");
    let cloud = fleet.start("cloud");
    fleet.wait_for_knowledge("only");
    cloud.stop();
    fleet.cloud.delete_topic(&fleet.knowledge());
    let cloud = fleet.start("cloud");
    // Models that come after that.
    fleet.produce("only", rest);
    fleet.wait_for_samples("only", samples.len());
    fleet.wait_for_knowledge("only");
    let models = fleet.models("cloud");
    assert!(
        models.values().any(|(version, _)| *version != 1),
        "{models:?}"
    );
    edge.stop();
    cloud.stop();
    assert_eq!(fleet.models("only"), models);
}

#[test]
fn cloud_goes_on_without_deleted_changes() {
    let fleet = Fleet::new("lost", &["only"]);
    let samples = &stream::samples(82, 3000, 0.0)[..1500];
    let (first, rest) = samples.split_at(BOOTSTRAP);
    let (lost, last) = rest.split_at(400);
    let common = common_config();
    fleet.cloud_config("live", BOOTSTRAP, &common);
    fleet.edge_config("only", first.len(), "samples: raw", &common);
    fleet.produce("only", first);
    let edge = fleet.start("only");
    let cloud = fleet.start("cloud");
    fleet.wait_for_knowledge("only");
    cloud.stop();
    let sent = |samples: usize| {
        fleet.wait_until("all is sent", || {
            let status = fleet.status("only");
            status["commit"]["samples"] == samples && status["outbox"]["waiting"] == 0
        });
    };
    fleet.produce("only", lost);
    sent(first.len() + lost.len());
    fleet.cloud.expire(&fleet.changes());
    let refused = support::ended(fleet.command("cloud", &[]).output());
    refused.failure(1, &["source.edges.on_gone", "no longer in"]);
    let go_on = ["--set", "source.edges.on_gone=earliest"];
    fleet.produce("only", last);
    sent(samples.len());
    let mut cloud = fleet.command("cloud", &go_on).spawn().expect("it starts");
    fleet.wait_for_samples("only", first.len() + last.len());
    support::process::signal(cloud.id(), "TERM");
    assert!(cloud.wait().expect("a child").success());
    edge.stop();
    let status = fleet.status("cloud");
    let skipped = &status["skipped"][0];
    assert_eq!(
        skipped["last"]["place"]["topic"],
        *fleet.changes(),
        "{status}"
    );
    assert!(skipped["offsets"].as_u64() > Some(0), "{status}");
    fleet.assert_sound("cloud");
}
