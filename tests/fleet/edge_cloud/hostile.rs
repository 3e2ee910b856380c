//! Models that are made to deceive: of an edge, for the cloud.

use std::collections::BTreeMap;

use serde_json::Value;

use support::fleet::{Fleet, common_config};
use support::{forge, onnx, stream};

const BOOTSTRAP: usize = 300;
/// Numbers of features and classes of the stream.
const SIZES: (usize, usize) = (4, 3);

/// Sends a model of the base task to the cloud in the name of an edge.
fn donate(fleet: &Fleet, edge: &str, onnx: Vec<u8>) {
    let base = forge::base_of(fleet);
    let donation = forge::donation(&base, onnx);
    forge::send(fleet, &base, edge, edge, donation);
}

/// The greatest version of a model that the cloud has trained for the base task.
fn trained(fleet: &Fleet) -> u64 {
    let models = fleet.bench.kb_json("cloud", &["models"]);
    let models = models.as_array().expect("models").iter();
    let of_base = models.filter(|model| model["task"] == "base");
    of_base
        .filter_map(|model| model["version"].as_u64())
        .max()
        .unwrap_or(0)
}

#[test]
fn deceitful_models_of_an_edge_are_refused() {
    let fleet = Fleet::new("hostile", &["honest", "evil", "worse"]);
    let samples = &stream::samples(91, 3000, 0.0)[..1500];
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 300']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &cloud);
    fleet.edge_config("honest", BOOTSTRAP, "samples: raw", &common);
    fleet.make_topics();
    fleet.produce("honest", &samples[..BOOTSTRAP]);
    let running = [fleet.start("cloud"), fleet.start("honest")];
    fleet.wait_for_knowledge("honest");

    // The loss of the one would be −ln 1 = 0, whatever the label: no honest model is as good. The
    // other could keep the cloud busy for ever.
    let (features, classes) = SIZES;
    let sure = onnx::constant(features, &vec![1.0; classes]);
    let busy = onnx::with_loop(features, classes);
    donate(&fleet, "evil", sure);
    donate(&fleet, "worse", busy);
    fleet.wait_until("the cloud has got them", || {
        let changes = fleet.bench.run(&["kb", "--state", "cloud", "changes"]);
        ["by evil", "by worse"].map(|it| changes.stdout.contains(it)) == [true, true]
    });
    let before = trained(&fleet);
    fleet.produce("honest", &samples[BOOTSTRAP..]);
    fleet.wait_for_samples("honest", samples.len());
    fleet.wait_until("the cloud has trained again", || trained(&fleet) > before);
    fleet.wait_for_knowledge("honest");
    let models = fleet.bench.kb_json("cloud", &["models"]);
    for model in models.as_array().expect("models") {
        let adopted = &model["trained"]["remodeling"]["adopted"];
        assert!(adopted.is_null() || model["answers"] == false, "{model}");
    }
    let refusals = || {
        let said = fleet.log("cloud");
        ["refused a model of evil", "refused a model of worse"].map(|it| said.matches(it).count())
    };
    fleet.wait_until("it has refused the models", || !refusals().contains(&0));
    fleet.wait_for_knowledge("honest");
    for running in running {
        running.stop();
    }
    let said = fleet.log("cloud");
    // Once each, however many trainings there are.
    assert_eq!(refusals(), [1, 1], "{said}");
    assert!(said.contains("control flow"), "{said}");
    assert!(
        said.contains("its probabilities add up to 3 and not to 1"),
        "{said}"
    );
    for state in ["cloud", "honest"] {
        fleet.assert_sound(state);
    }
    let sums: BTreeMap<String, f64> = fleet
        .predictions("honest")
        .iter()
        .map(|it| (it["id"].to_string(), sum(&it["probabilities"])))
        .collect();
    assert!(!sums.is_empty());
    let odd = sums.iter().find(|(_, sum)| (**sum - 1.0).abs() > 0.01);
    assert_eq!(odd, None);
}

/// The sum of a prediction's probabilities.
fn sum(probabilities: &Value) -> f64 {
    let all = probabilities.as_object().expect("probabilities").values();
    all.filter_map(Value::as_f64).sum()
}
