//! Donors: a site that shares no samples shares its models, and other sites profit.

use std::path::Path;

use serde_json::Value;

use support::fleet::{Fleet, common_config};
use support::stream::{self, Sample};

const BOOTSTRAP: usize = 300;
/// Number of samples of the rich site in each season.
const MANY: usize = 1500;
/// Number of samples of the poor sites.
const FEW: usize = 120;

/// Samples of one site, with `wet` of them in the second half, where labels are inverted.
fn site(seed: u64, site: &str, dry: usize, wet: usize) -> Vec<Sample> {
    // All before what labels mean turns round.
    let samples = &stream::samples(seed, 12_000, 0.0)[..6000];
    let of = |season: &str, count: usize| -> Vec<Sample> {
        let of = samples.iter().filter(|sample| sample.season == season);
        of.take(count).cloned().collect()
    };
    let mut all = [of("dry", dry), of("wet", wet)].concat();
    for (number, sample) in all.iter_mut().enumerate() {
        sample.id = format!("{site}-{}", sample.id);
        sample.site = site.to_string();
        sample.time = 1_700_000_000 + number as i64 * 60;
    }
    all
}

/// The first version of models that edges train; the cloud's are lower.
const OF_EDGES: u64 = 1 << 20;

/// Whether a model of the wet season that was made from a donor, or by the other side of the link,
/// has answered. A model of the site's own may have replaced it soon.
fn has_profited(fleet: &Fleet, state: &str) -> bool {
    let models = fleet.bench.kb_json(state, &["models"]);
    let models = models.as_array().expect("models");
    let is_of_an_edge = |version: &Value| version.as_u64().map(|version| version > OF_EDGES);
    // A donated model has its own version at its task.
    let is_donated = |from: &Value| {
        let of_tasks = models
            .iter()
            .map(|model| &model["trained"]["model"]["task"]);
        !from.is_null() && !of_tasks.into_iter().any(|task| *task == from["task"])
    };
    models.iter().any(|model| {
        let task = model["task"].as_str().expect("a task");
        let remodeling = &model["trained"]["remodeling"];
        let from = &remodeling["warm_start"]["from"];
        let side = is_of_an_edge(&from["version"]);
        let is_other_sides = side.is_some() && side != is_of_an_edge(&model["version"]);
        !model["deployed"].is_null()
            && task.starts_with("season=wet")
            && (is_donated(from) || is_other_sides || !remodeling["adopted"].is_null())
    })
}

#[test]
fn donor_model_helps_another_site() {
    let fleet = Fleet::new("donors", &["rich", "poor", "alone"]);
    let common = common_config();
    let triggers =
        |samples: usize| format!("{common}triggers: {{when: ['new_samples >= {samples}']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &triggers(100));
    // It has seen much and shares no sample.
    fleet.edge_config("rich", MANY, "models: true", &triggers(400));
    fleet.set("rich", "train: true");
    // One shares its few samples; another trains on its own.
    fleet.edge_config("poor", BOOTSTRAP, "samples: raw", &common);
    fleet.edge_config("alone", BOOTSTRAP, "models: true", &triggers(100));
    fleet.set("alone", "train: true");
    fleet.make_topics();
    // Models are in a store; messages have their hashes only.
    let store = fleet.bench.path("models");
    std::fs::create_dir(&store).expect("a folder");
    let set_store = |name: &str, store: &Path| {
        let store = format!("store: {{url: 'file://{}', above: 1000}}", store.display());
        fleet.set(name, &store);
    };
    for name in ["rich", "poor", "alone"] {
        set_store(name, &store);
    }
    // The cloud cannot read the store at first: the folder is missing.
    let unreadable = fleet.bench.path("cloud-models");
    std::fs::write(&unreadable, "").expect("a file");
    set_store("cloud", &unreadable);
    let cloud = fleet.start("cloud");

    fleet.produce("rich", &site(81, "rich", MANY, MANY));
    let rich = fleet.start("rich");
    fleet.wait_for_answers("rich", 2 * MANY);
    fleet.wait_until("rich has donated", || {
        let status = fleet.status("rich");
        status["outbox"]["sent"].as_u64() > Some(1) && status["outbox"]["waiting"] == 0
    });
    fleet.wait_until("the cloud waits for the model", || {
        fleet
            .log("cloud")
            .contains("waiting for a model of an edge")
    });
    let link = fleet.bench.path("link");
    std::os::unix::fs::symlink(&store, &link).expect("a link");
    std::fs::rename(&link, &unreadable).expect("it takes its place");

    // The poor sites know next to nothing of the wet season.
    let poor = site(82, "poor", BOOTSTRAP, FEW);
    let alone = site(83, "alone", BOOTSTRAP, FEW);
    fleet.produce("poor", &poor[..BOOTSTRAP]);
    fleet.produce("alone", &alone[..BOOTSTRAP]);
    let edges = [fleet.start("poor"), fleet.start("alone")];
    fleet.wait_for_knowledge("poor");
    fleet.wait_until("alone knows what rich has donated", || {
        let changes = fleet.bench.run(&["kb", "--state", "alone", "changes"]);
        changes
            .stdout
            .contains("model donated: season=wet, by rich")
    });
    fleet.produce("poor", &poor[BOOTSTRAP..]);
    fleet.produce("alone", &alone[BOOTSTRAP..]);
    fleet.wait_for_samples("poor", poor.len());
    fleet.wait_until("the cloud answers for poor by what rich has seen", || {
        has_profited(&fleet, "cloud")
    });
    fleet.wait_until("so does alone", || has_profited(&fleet, "alone"));
    fleet.wait_for_knowledge("poor");
    for edge in edges {
        edge.stop();
    }
    rich.stop();
    cloud.stop();
    for state in ["cloud", "rich", "poor", "alone"] {
        fleet.assert_sound(state);
    }
    // Messages on the link are small: models are elsewhere.
    for topic in [fleet.changes(), fleet.knowledge()] {
        let longest = fleet
            .cloud
            .read(&topic)
            .iter()
            .map(|read| read.value.len())
            .max();
        assert!(longest < Some(8000), "{topic}: {longest:?}");
    }
    let stored = std::fs::read_dir(fleet.bench.path("models")).expect("a folder");
    assert!(stored.count() > 5);
    // No sample of the sites that share none came to the cloud.
    let edges = fleet.status("cloud")["edges"].clone();
    assert_eq!(edges["rich"]["samples"], 0, "{edges}");
    assert_eq!(edges["alone"]["samples"], 0, "{edges}");
}
