//! `perennial import sedna`: what becomes of a job of Sedna's.

use std::process::Stdio;

use support::kafka::Broker;
use support::process::signal;
use support::{Bench, Ended};

/// A job in the shape of Sedna's example of thermal comfort.
const JOB: &str = r#"apiVersion: sedna.io/v1alpha1
kind: LifelongLearningJob
metadata:
  name: comfort
spec:
  dataset:
    name: votes
    trainProb: 0.8
  trainSpec:
    template:
      spec:
        nodeName: cloud-1
        containers:
          - image: example.org/comfort:v1
            name: train-worker
            args: ["train.py"]
            env:
              - name: early_stopping_rounds
                value: "100"
            resources: {limits: {cpu: 1500m, memory: 2Gi}}
    trigger:
      checkPeriodSeconds: 60
      timer:
        start: 02:00
        end: 24:00
      condition:
        operator: ">"
        threshold: 500
        metric: num_of_samples
  evalSpec:
    template:
      spec:
        nodeName: cloud-1
        containers:
          - image: example.org/comfort:v1
            args: ["eval.py"]
            env:
              - {name: model_threshold, value: "0.5"}
  deploySpec:
    template:
      spec:
        nodeName: cloud-1
        containers:
          - image: example.org/comfort:v1
            args: ["inference.py"]
            env:
              - {name: UT_SAVED_URL, value: /ut_saved_url}
              - {name: infer_dataset_url, value: /data/test.csv}
  outputDir: /output
"#;

const DATASET: &str = r#"apiVersion: sedna.io/v1alpha1
kind: Dataset
metadata:
  name: votes
spec:
  url: /nowhere/votes.csv
  format: csv
  nodeName: cloud-1
"#;

/// Votes in the shape of that example: what people want follows from the temperature, in each
/// season in another way.
fn votes(count: usize) -> String {
    let mut text = "Season,Cooling startegy_building level,Air temperature (C),Relative humidity (%),Thermal preference\n".to_string();
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..count {
        let (season, cooling) = (random(2), random(2));
        let (temperature, humidity) = (15 + random(20), 30 + random(50));
        let ideal = [21, 26][season as usize] + cooling;
        let wanted = match temperature.cmp(&ideal) {
            std::cmp::Ordering::Less => "warmer",
            std::cmp::Ordering::Equal => "no change",
            std::cmp::Ordering::Greater => "cooler",
        };
        let season = ["winter", "summer"][season as usize];
        let cooling = ["Air Conditioned", "Naturally Ventilated"][cooling as usize];
        text += &format!("{season},{cooling},{temperature},{humidity},{wanted}\n");
    }
    text
}

/// A folder with the samples.
fn folder() -> Bench {
    let bench = Bench::new();
    bench.write("votes.csv", votes(3000));
    bench
}

/// Imports the resources of a text.
fn import(bench: &Bench, resources: &str, more: &[&str]) -> Ended {
    bench.write("job.yaml", resources);
    let command = [
        "import",
        "sedna",
        "job.yaml",
        "--attributes",
        "Season,Cooling startegy_building level",
        "--label",
        "Thermal preference",
    ];
    bench.run(&[&command[..], more].concat())
}

/// Arguments that the import of these samples needs.
const COPY: [&str; 4] = ["--data", "votes.csv", "--write", "copy.csv"];

#[test]
fn job_becomes_a_config_that_runs() {
    let bench = folder();
    let resources = format!("{JOB}---\n{DATASET}");
    let config = import(&bench, &resources, &COPY).success().stdout;
    let lines: Vec<&str> = config.lines().collect();
    for line in [
        "name: comfort",
        "  path: copy.csv",
        "  time: time # when the sample was taken",
        "  attributes: [Season, Cooling startegy_building level]",
        "    - \"Air temperature (C)\"",
        "    column: Thermal preference",
        "    classes: [cooler, no change, warmer]",
        "  path: [[Season, Cooling startegy_building level]]",
        "  records: 626",
        "epoch:",
        "  records: 156",
        "  when: ['new_samples > 625']",
        "  check_every: 60s",
        "  # between: \"02:00-24:00\"",
        "  holdout: 0.2 # what trainProb leaves",
        "  threads: 2 # the limit of the training's pod",
        "unseen: {}",
    ] {
        assert!(lines.contains(&line), "{line:?} is not in\n{config}");
    }
    for left in [
        "early_stopping_rounds = 100",
        "example.org/comfort:v1 train.py",
        "model_threshold = 0.5",
        "infer_dataset_url = /data/test.csv",
        "outputDir: /output",
    ] {
        let mut lines = lines.iter().filter(|line| line.starts_with("#   spec."));
        assert!(
            lines.any(|line| line.contains(left)),
            "{left:?} is not told in\n{config}"
        );
    }
    bench.write("comfort.yaml", &config);
    bench.run(&["validate", "comfort.yaml"]).success();
    let run = ["run", "comfort.yaml", "--report", "report.json"];
    bench.run(&run).success();
    let report = bench.report("report");
    assert_eq!(
        (&report["records"], &report["bootstrapped"]),
        (&3000.into(), &626.into())
    );
    assert!(report["accuracy"].as_f64() > Some(0.8), "{report}");
    assert_eq!(
        report["tasks"].as_array().map(Vec::len),
        Some(5),
        "{report}"
    );
}

#[test]
fn job_of_two_nodes_becomes_an_edge_and_a_cloud() {
    let bench = folder();
    let job = JOB.replace(
        "deploySpec:\n    template:\n      spec:\n        nodeName: cloud-1",
        "deploySpec:\n    template:\n      spec:\n        nodeName: edge-1",
    );
    let resources = format!("{job}---\n{DATASET}");
    let two = [&COPY[..], &["--edge-cloud", "."]].concat();
    let told = import(&bench, &resources, &two).success().stdout;
    assert!(told.contains("CHANGE-ME"), "{told}");
    // Nothing is written over.
    import(&bench, &resources, &two).failure(1, &["comfort-edge.yaml"]);
    let broker = Broker::shared();
    for role in ["edge", "cloud"] {
        let name = format!("comfort-{role}");
        let config = String::from_utf8(bench.read(&format!("{name}.yaml"))).expect("text");
        assert!(!config.contains("nodeName"), "{config}");
        assert!(
            config.contains("# Not carried over:\n#   spec."),
            "{config}"
        );
        let config = config.replace("CHANGE-ME:9092", &broker.address);
        bench.write(&format!("{name}.yaml"), config);
        bench.make_keys(&name);
    }
    let mut cloud = bench.command(&["run", "comfort-cloud.yaml", "--state", "cloud"]);
    let mut cloud = cloud.stdout(Stdio::null()).spawn().expect("it starts");
    let edge = ["run", "comfort-edge.yaml", "--report", "report.json"];
    bench.run(&edge).success();
    signal(cloud.id(), "TERM");
    cloud.wait().expect("it ends");
    let report = bench.report("report");
    assert_eq!(
        (&report["records"], &report["bootstrapped"]),
        (&3000.into(), &851.into())
    );
    assert!(report["accuracy"].as_f64() > Some(0.7), "{report}");
}

#[test]
fn lists_and_json_are_read_as_kubectl_prints_them() {
    let bench = folder();
    let plain = import(&bench, &format!("{JOB}---\n{DATASET}"), &COPY).success();
    let indented = |text: &str| {
        let mut lines = text.lines();
        let first = lines.next().expect("a line");
        let rest: Vec<String> = lines.map(|line| format!("    {line}\n")).collect();
        format!("  - {first}\n{}", rest.concat())
    };
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n{}{}",
        indented(DATASET),
        indented(JOB)
    );
    assert_eq!(import(&bench, &list, &COPY).success().stdout, plain.stdout);
    let json = r#"{"kind": "List", "items": [{"kind": "LifelongLearningJob", "metadata": {"name": "comfort"},
        "spec": {"dataset": {"name": "votes", "trainProb": 0.8}, "trainSpec": {"template": {"spec": {}},
        "trigger": {"condition": {"operator": "gt", "threshold": 500, "metric": "num_of_samples"}}},
        "evalSpec": {"template": {"spec": {}}}, "deploySpec": {"template": {"spec": {}}}, "outputDir": ""}}]}"#;
    let config = import(&bench, json, &COPY).success().stdout;
    assert!(config.contains("new_samples > 625"), "{config}");
    assert!(
        !config.contains("between:") && !config.contains("Not carried over"),
        "{config}"
    );
}

/// Jobs that differ from [`JOB`] in one text, further arguments, and what the config has.
const CARRIED: [(&str, &str, &[&str], &str); 9] = [
    ("operator: \">\"", "operator: ge", &[], "  records: 625\n"),
    (
        "operator: \">\"",
        "operator: '>='",
        &[],
        "'new_samples >= 625'",
    ),
    (
        "threshold: 500",
        "threshold: 20",
        &[],
        "  min_samples: 26 #",
    ),
    (
        "threshold: 500",
        "threshold: 20",
        &[],
        "  min_new_samples: 25\n",
    ),
    ("cpu: 1500m", "cpu: 4", &[], "  threads: 4 #"),
    (
        "end: 24:00",
        "end: 24:00",
        &["--utc-offset", "+08:00"],
        "between: \"18:00-16:00\"",
    ),
    (
        "start: 02:00",
        "start: '00:00'",
        &[],
        "  # The whole day.\n",
    ),
    (
        "deploySpec:\n    template:\n      spec:\n        nodeName: cloud-1",
        "deploySpec:\n    template:\n      spec:\n        nodeName: edge-1",
        &[],
        "trained on \"cloud-1\", deployed on \"edge-1\": this pipeline does both. --edge-cloud DIR",
    ),
    (
        "outputDir: /output",
        "outputDir: s3://bucket/out\n  credentialName: keys",
        &[],
        "#   spec.credentialName: keys",
    ),
];

/// Jobs and datasets that differ in one text, and what is said about it.
const REFUSED: [(&str, &str, &str); 10] = [
    (
        "operator: \">\"",
        "operator: eq",
        "condition.operator: \"eq\" cannot be carried over",
    ),
    (
        "operator: \">\"",
        "operator: <",
        "condition.operator: \"<\" cannot be carried over",
    ),
    (
        "num_of_samples",
        "precisions",
        "condition.metric: \"precisions\" is not known",
    ),
    (
        "threshold: 500",
        "threshold: -1",
        "condition.threshold: expected a number from 0 on",
    ),
    (
        "threshold: 500",
        "threshold: many",
        "\"comfort\": spec.trainSpec.trigger.condition.threshold: invalid type",
    ),
    (
        "trainProb: 0.8",
        "trainProb: 1",
        "spec.dataset.trainProb: expected above 0.1 and below 1",
    ),
    (
        "end: 24:00",
        "end: 25:00",
        "timer.end: expected a time such as",
    ),
    (
        "kind: LifelongLearningJob",
        "kind: IncrementalLearningJob",
        "there are 0 (they have: IncrementalLearningJob, Dataset)",
    ),
    ("  evalSpec:", "  other:", "missing field `evalSpec`"),
    ("kind: LifelongLearningJob", "kind: [", "this is not YAML"),
];

#[test]
fn fields_are_carried_over_or_refused() {
    let bench = folder();
    let resources = format!("{JOB}---\n{DATASET}");
    for (from, to, more, expected) in CARRIED {
        assert!(resources.contains(from), "{from}");
        let more = [&COPY[..], more].concat();
        let config = import(&bench, &resources.replace(from, to), &more)
            .success()
            .stdout;
        assert!(
            config.contains(expected),
            "{expected:?} is not in\n{config}"
        );
    }
    for (from, to, expected) in REFUSED {
        assert!(resources.contains(from), "{from}");
        import(&bench, &resources.replace(from, to), &COPY).failure(2, &[expected]);
    }
}

#[test]
fn samples_that_are_elsewhere_are_asked_for() {
    let bench = folder();
    let resources = format!("{JOB}---\n{DATASET}");
    let data = ["--data", "votes.csv"];
    import(&bench, JOB, &[]).failure(2, &["Dataset is not in the files"]);
    import(&bench, &resources, &[]).failure(2, &["/nowhere/votes.csv of the node \"cloud-1\""]);
    for (from, to, expected) in [
        (
            "/nowhere/votes.csv",
            "s3://bucket/votes.csv",
            "s3://bucket/votes.csv: fetch them",
        ),
        ("format: csv", "format: txt", "format is \"txt\""),
    ] {
        import(&bench, &resources.replace(from, to), &[]).failure(2, &[expected, "--data"]);
    }
    import(&bench, &resources, &data).failure(2, &["--write FILE.csv"]);
    let unknown = [&data[..], &["--site", "Sesaon"]].concat();
    import(&bench, &resources, &unknown).failure(2, &["did you mean \"Season\""]);
}
