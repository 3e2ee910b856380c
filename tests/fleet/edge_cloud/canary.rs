//! Canaries: a new model is deployed at one edge first, and at the others once it has done well
//! there.

use support::fleet::{Fleet, common_config};
use support::stream::{self, Sample};

const BOOTSTRAP: usize = 600;

/// All versions of a task's model in a state.
fn versions(fleet: &Fleet, state: &str, task: &str) -> Vec<u64> {
    let models = fleet.bench.kb_json(state, &["models"]);
    let models = models.as_array().expect("models").iter();
    let of_task = models.filter(|model| model["task"] == task);
    of_task
        .map(|model| model["version"].as_u64().expect("a number"))
        .collect()
}

#[test]
fn bad_model_stays_with_the_canaries() {
    let fleet = Fleet::new("canary", &["first", "other"]);
    // The concept changes in the middle.
    let samples = stream::samples(91, 12_000, 0.0);
    let of_one_season = |samples: &[Sample]| -> Vec<Sample> {
        let dry = samples.iter().filter(|sample| sample.season == "dry");
        dry.cloned().collect()
    };
    let (usual, turned) = samples.split_at(6000);
    let (usual, turned) = (of_one_season(usual), of_one_season(turned));
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 500']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &cloud);
    fleet.set("cloud", "canary: {edges: [first], samples: 150}");
    let mut given = [0, 0];
    let mut give = |samples: &[Sample]| {
        let at_first = |sample: &Sample| sample.site != "s2";
        let (first, other): (Vec<_>, Vec<_>) = samples.iter().cloned().partition(at_first);
        fleet.produce("first", &first);
        fleet.produce("other", &other);
        given = [given[0] + first.len(), given[1] + other.len()];
        given
    };
    let wait = |given: [usize; 2]| {
        fleet.wait_for_samples("first", given[0]);
        fleet.wait_for_samples("other", given[1]);
    };
    let first = give(&usual[..BOOTSTRAP]);
    fleet.edge_config("first", first[0], "samples: raw", &common);
    fleet.edge_config("other", first[1], "samples: raw", &common);
    let cloud = fleet.start("cloud");
    let edges = [fleet.start("first"), fleet.start("other")];
    fleet.wait_for_knowledge("first");
    fleet.wait_for_knowledge("other");

    // A model learns labels that mean something else for a while.
    wait(give(&turned[..520]));
    fleet.wait_until("the canary has the new model", || {
        versions(&fleet, "first", "base").contains(&2)
    });
    assert_eq!(versions(&fleet, "other", "base"), [1]);
    // Then labels mean what they did before: the new model does worse than its predecessor.
    wait(give(&usual[BOOTSTRAP..BOOTSTRAP + 450]));
    fleet.wait_until("the new model is rolled back", || {
        let models = fleet.bench.kb_json("cloud", &["models"]);
        let models = models.as_array().expect("models");
        let first = |model: &&serde_json::Value| model["task"] == "base" && model["version"] == 1;
        models.iter().find(first).expect("a model")["answers"] == true
    });
    assert_eq!(versions(&fleet, "other", "base"), [1]);

    // A good model reaches all edges, the canary first.
    let mut next = BOOTSTRAP + 450;
    let mut promoted = None;
    fleet.wait_until("a good model is promoted", || {
        let changes = fleet
            .bench
            .run(&["kb", "--state", "cloud", "changes"])
            .stdout;
        promoted = changes.lines().find_map(|line| {
            let (_, rest) = line.split_once("model promoted: ")?;
            let (task, version) = rest.strip_suffix(", for all edges")?.rsplit_once(" v")?;
            Some((task.to_string(), version.parse::<u64>().expect("a number")))
        });
        if promoted.is_none() && next + 150 <= usual.len() {
            wait(give(&usual[next..next + 150]));
            next += 150;
        }
        promoted.is_some()
    });
    let (task, version) = promoted.expect("a model");
    fleet.wait_until("all have it", || {
        versions(&fleet, "other", &task).contains(&version)
    });
    assert!(!versions(&fleet, "other", "base").contains(&2));
    for edge in edges {
        edge.stop();
    }
    cloud.stop();
    for state in ["cloud", "first", "other"] {
        fleet.assert_sound(state);
    }
}
