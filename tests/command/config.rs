//! Configs: each error is reported with its place before anything runs.

use support::stream;
use support::{Bench, Ended};

/// A folder with a valid config and its stream.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(1, 1000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 1"));
    bench
}

/// Runs the config with one piece of its text replaced; returns the error and the piece's line.
fn with(from: &str, to: &str) -> (Ended, String) {
    let bench = bench();
    let text = stream::config("stream.csv", "records: 1");
    let before = text.split(from).next().expect("a part");
    assert_ne!(before.len(), text.len(), "{from:?} is not in the config");
    let line = before.lines().count().max(1);
    let line = line + usize::from(before.ends_with('\n'));
    bench.write("config.yaml", text.replacen(from, to, 1));
    let ended = bench.run(&["validate", "config.yaml"]);
    let run = bench.run_as("state", &[]);
    assert_eq!((run.status, &run.stderr), (ended.status, &ended.stderr));
    assert!(!bench.path("state").exists(), "nothing may have begun");
    (ended, format!("config.yaml:{line}: "))
}

/// Asserts that the config with a piece replaced is refused at the piece's line, with these words.
#[track_caller]
fn refused(from: &str, to: &str, words: &[&str]) {
    let (ended, place) = with(from, to);
    let ended = ended.failure(2, words);
    let expected = format!("perennial: {place}");
    assert!(ended.stderr.starts_with(&expected), "{expected} {ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    refused(
        "  min_samples: 100",
        "  min_sample: 100",
        &["training.min_sample", "did you mean \"min_samples\"?"],
    );
    refused("epoch:", "epochs:", &["epochs", "did you mean \"epoch\"?"]);
    refused(
        "  trees: {rounds: 8",
        "  trees: {round: 8",
        &["training.trees.round", "\"rounds\""],
    );
    refused(
        "  attributes: [season]",
        "  atributes: [season]",
        &["schema.atributes", "\"attributes\""],
    );
    refused(
        "[a, b, c, {column",
        "[a, b, c, {colum",
        &["schema.features[3]", "\"column\""],
    );
}

#[test]
fn wrong_types_are_refused() {
    refused(
        "  records: 128",
        "  records: many",
        &["epoch.records", "many"],
    );
    refused("  records: 128", "  records: -1", &["epoch.records", "-1"]);
    refused(
        "  records: 128",
        "  records: 1.5",
        &["epoch.records", "1.5"],
    );
    refused(
        "  path: [[season], [site]]",
        "  path: season",
        &["tasks.path"],
    );
    refused("name: stream", "name: [stream]", &["name"]);
    refused(
        "  baselines: [frozen]",
        "  baselines: [frosen]",
        &["report.baselines[0]", "did you mean \"frozen\"?"],
    );
}

#[test]
fn missing_keys_are_refused() {
    for (from, to, words) in [
        ("name: stream\n", "", ["missing", "name"]),
        ("  id: id\n", "", ["schema", "id"]),
        ("  path: stream.csv", "  rate: 5", ["source", "path"]),
        ("  records: 800", "  {}", ["bootstrap", "share"]),
    ] {
        let (ended, _) = with(from, to);
        let ended = ended.failure(2, &words);
        assert!(
            ended.stderr.starts_with("perennial: config.yaml:"),
            "{ended:?}"
        );
    }
    let bench = bench();
    bench.write("config.yaml", "");
    bench
        .run(&["validate", "config.yaml"])
        .failure(2, &["config.yaml", "empty"]);
}

#[test]
fn impossible_values_are_refused() {
    let cases = [
        ("  records: 128", "  records: 0", "epoch.records"),
        ("  records: 800", "  records: 0", "bootstrap.records"),
        ("  records: 800", "  share: 1.5", "bootstrap.share"),
        ("{records: 1}", "{seconds: -1}", "labels.delay.seconds"),
        ("{records: 1}", "{records: 1, seconds: 1}", "labels.delay"),
        ("max_depth: 3", "max_depth: 99", "training.trees.max_depth"),
        ("rounds: 8", "rounds: 0", "training.trees.rounds"),
        ("rounds: 8", "eta: 0", "training.trees.eta"),
        ("rounds: 8", "eta: .nan", "training.trees.eta"),
        ("  min_samples: 100", "  holdout: 1", "training.holdout"),
        ("  min_samples: 100", "  threads: 0", "training.threads"),
        ("  min_samples: 100", "  timeout: 0s", "training.timeout"),
        ("  min_samples: 100", "  timeout: soon", "training.timeout"),
        ("  path: [[", "  most: 0\n  path: [[", "tasks.most"),
        ("  epochs: 4", "  epochs: 0", "commit.epochs"),
        ("[low, mid, high]", "[low]", "schema.label.classes"),
        ("[low, mid, high]", "[low, low]", "schema.label.classes[1]"),
        ("[a, b, c,", "[a, a, c,", "schema.features[1]"),
        ("[a, b, c,", "[a, label, c,", "schema.features[1]"),
        ("[season]\n", "[site]\n", "schema.attributes[0]"),
    ];
    for (from, to, key) in cases {
        refused(from, to, &[&format!("{key}: ")]);
    }
}

#[test]
fn commands_that_cannot_train_are_refused() {
    let cases = [
        ("{}", "training.trainer: missing key"),
        (
            "{command: []}",
            "training.trainer.command: expected a program",
        ),
        (
            "{command: [no-such-program]}",
            "training.trainer.command[0]: there is no program \"no-such-program\" in ",
        ),
        (
            "{command: [./train.py]}",
            "training.trainer.command[0]: there is no program \"./train.py\" in ",
        ),
        (
            "{command: [sh], timeout: 10}",
            "training.trainer.timeout: invalid type",
        ),
        (
            "{command: [sh], timeout: 0s}",
            "training.trainer.timeout: expected a duration above 0",
        ),
        (
            "{command: [sh], memory: 2 GB}",
            "training.trainer.memory: \"2 GB\" is not a size: expected a number with KiB, MiB or GiB",
        ),
        (
            "{command: [sh], memory: 1 KiB}",
            "training.trainer.memory: expected at least 1 MiB",
        ),
        ("{comand: [sh]}", "did you mean \"command\"?"),
    ];
    for (trainer, words) in cases {
        let to = format!("  trainer: {trainer}\n  min_samples: 100");
        refused("  min_samples: 100", &to, &[words]);
    }
}

#[test]
fn task_paths_must_name_attributes() {
    refused(
        "[[season], [site]]",
        "[[seasn], [site]]",
        &["tasks.path[0][0]", "\"seasn\"", "did you mean \"season\"?"],
    );
    refused("[[season], [site]]", "[[season], []]", &["tasks.path[1]"]);
    refused(
        "[[season], [site]]",
        "[[season], [site, season]]",
        &["tasks.path[1][1]", "already"],
    );
}

#[test]
fn cluster_settings_are_checked() {
    let cases: [(&str, &[&str]); 10] = [
        (
            "{features: [a, bb]}",
            &[
                "features[1]: \"bb\" is not a feature",
                "expected: a, b, c, mode",
            ],
        ),
        (
            "{features: [a, mod]}",
            &["features[1]", "did you mean \"mode\"?"],
        ),
        (
            "{features: [a, mode]}",
            &["features[1]: \"mode\" is categorical", "schema.attributes"],
        ),
        (
            "{features: [a, b, a]}",
            &["features[2]: \"a\" is named twice"],
        ),
        ("{features: []}", &["features: ", "one feature at least"]),
        ("{features: [a], k: 0}", &["k: expected 2 to 100 clusters"]),
        (
            "{features: [a], k: 101}",
            &["k: expected 2 to 100 clusters"],
        ),
        ("{features: [a], k: many}", &["k", "many"]),
        (
            "{features: [a], number: 3}",
            &["there is no such key", "features, k"],
        ),
        ("{k: 3}", &["missing key", "features"]),
    ];
    for (cluster, words) in cases {
        let to = format!("[[season], {{cluster: {cluster}}}]");
        let words = [&["tasks.path[1].cluster"], words].concat();
        refused("[[season], [site]]", &to, &words);
    }
    refused(
        "[[season], [site]]",
        "[{cluster: {features: [a]}}, {cluster: {features: [b]}}]",
        &["tasks.path[1]: another level is a cluster already"],
    );
    refused(
        "[[season], [site]]",
        "[{clusters: {features: [a]}}]",
        &["tasks.path[0].clusters", "did you mean \"cluster\"?"],
    );
    refused(
        "[[season], [site]]",
        "[season]",
        &[
            "tasks.path[0]",
            "a list of attributes or {cluster: {features, k}}",
        ],
    );
    let bench = bench();
    let few = ["--set", "bootstrap.records=3"];
    let path = ["--set", "tasks.path=[{cluster: {features: [a], k: 4}}]"];
    bench
        .run(&[&["validate", "config.yaml"], &few[..], &path].concat())
        .failure(
            2,
            &["tasks.path[0].cluster.k", "fewer", "bootstrap.records"],
        );
    let shown = bench
        .run(&[&["validate", "config.yaml"], &path[..]].concat())
        .success();
    assert!(
        shown.stdout.contains("base → 4 clusters of (a)"),
        "{shown:?}"
    );
}

#[test]
fn conditions_are_checked() {
    let cases: [(&str, &[&str]); 9] = [
        (
            "rmse > 2",
            &[
                "triggers.when[0]: \"rmse\" is a metric of numbers, and the label has classes",
                "(expected: new_samples, accuracy, accuracy_drop, log_loss, model_age, drift)",
            ],
        ),
        ("acuracy < 1", &["did you mean \"accuracy\"?"]),
        ("new_samples 600", &["not a condition", "new_samples 600"]),
        ("new_sample >= 600", &["did you mean \"new_samples\"?"]),
        ("new_samples >= many", &["\"many\" is not a number"]),
        ("accuracy < NaN", &["\"NaN\" is not a number"]),
        ("model_age > 12", &["\"12\" is not a duration", "12h"]),
        ("", &["not a condition"]),
        ("drift > 2", &["expected \"drift\" alone"]),
    ];
    for (condition, words) in cases {
        refused("new_samples >= 600", condition, words);
    }
    let when = "  when: ['new_samples >= 600']";
    refused(
        when,
        "  between: 25:00-26:00",
        &["triggers.between", "02:00-20:00"],
    );
    refused(
        when,
        "  check_every: often",
        &["triggers.check_every", "12h"],
    );
}

#[test]
fn label_has_classes_or_is_a_number() {
    let classes = "{column: label, classes: [low, mid, high]}";
    let expected = "schema.label: expected \"classes\", two at least, or \"kind: number\"";
    refused(classes, "{column: label}", &[expected]);
    refused(
        classes,
        "{column: label, kind: number, classes: [a, b]}",
        &["config.yaml:10: schema.label.kind: a number has no classes"],
    );
    refused(
        classes,
        "{column: label, kind: nubmer}",
        &["schema.label.kind", "did you mean \"number\"?"],
    );
    let bench = bench();
    let text = stream::config("stream.csv", "records: 1");
    let text = text.replace(classes, "{column: label, kind: number}");
    bench.write("config.yaml", text);
    let when = |condition: &str| {
        let when = format!("triggers.when=['{condition}']");
        bench.run(&["validate", "config.yaml", "--set", &when])
    };
    when("log_loss > 1").failure(
        2,
        &[
            "\"log_loss\" is a metric of classes, and the label is a number",
            "(expected: new_samples, mae, rmse, rmse_rise, model_age, drift)",
        ],
    );
    when("rsme > 1").failure(2, &["did you mean \"rmse\"?"]);
}

#[test]
fn missing_variables_are_named() {
    refused(
        "stream.csv",
        "${PERENNIAL_NO_SUCH_VARIABLE}",
        &["the environment variable PERENNIAL_NO_SUCH_VARIABLE is not set"],
    );
    refused("stream.csv", "${HOME", &["not closed"]);
}

/// Validates a config whose epoch is the value of a variable, in the file or as an override.
fn with_secret(secret: &str, as_override: bool) -> Ended {
    let bench = bench();
    let text = stream::config("stream.csv", "records: 1");
    let mut arguments = vec!["validate", "config.yaml"];
    if as_override {
        arguments.extend(["--set", "epoch.records=${SECRET}"]);
    } else {
        bench.write(
            "config.yaml",
            text.replace("records: 128", "records: ${SECRET}"),
        );
    }
    let mut command = bench.command(&arguments);
    command.env("SECRET", secret);
    support::ended(command.output())
}

#[test]
fn environment_values_are_used_and_not_shown() {
    for as_override in [false, true] {
        with_secret("64", as_override).success();
        for secret in ["hunter-2", "-7777777", "7777.5e3", "hunter\"quo\\ted"] {
            let ended = with_secret(secret, as_override).failure(2, &["epoch.records"]);
            for shown in ["hunter", "7777", "quo"] {
                assert!(!ended.stderr.contains(shown), "{secret}: {ended:?}");
            }
        }
    }
}

#[test]
fn overrides_are_checked_like_the_file() {
    let bench = bench();
    let set = |value: &str| bench.run(&["validate", "config.yaml", "--set", value]);
    let ended = set("epoch.records=64").success();
    assert!(ended.stdout.contains("epochs of 64"), "{ended:?}");
    set("epoch.record=64").failure(2, &["--set epoch.record:", "\"records\""]);
    set("nonsense=1").failure(2, &["--set nonsense:"]);
    set("epoch.records=often").failure(2, &["--set epoch.records:", "often"]);
    set("epoch.records").failure(2, &["--set epoch.records:", "KEY=VALUE"]);
    set("epoch.records=0").failure(2, &["--set epoch.records:", "at least 1"]);
    set("name.first=a").failure(2, &["--set name.first:"]);
    set("epoch.records=[1").failure(2, &["--set epoch.records:", "YAML"]);
}

#[test]
fn invalid_yaml_is_refused() {
    let bench = bench();
    for (text, place) in [
        ("name: a\n  b: [", "config.yaml:2: "),
        ("name: *x\n", "config.yaml:1: "),
        ("just a text", "config.yaml"),
        ("- a\n- list\n", "config.yaml"),
        ("name: \"never closed\n", "config.yaml:"),
    ] {
        bench.write("config.yaml", text);
        bench.run(&["validate", "config.yaml"]).failure(2, &[place]);
    }
    // Without a bound it would exceed the stack.
    bench.write("config.yaml", "- ".repeat(20_000));
    let ended = bench.run(&["validate", "config.yaml"]);
    ended.failure(2, &["config.yaml:1: ", "more than 64 deep"]);
    bench.write("config.yaml", b"name: \xff\xfe\n");
    bench
        .run(&["validate", "config.yaml"])
        .failure(2, &["config.yaml", "UTF-8"]);
}

#[test]
fn missing_configs_and_bad_arguments_are_refused() {
    let bench = bench();
    for command in ["run", "validate"] {
        let ended = bench.run(&[command, "nowhere.yaml"]);
        ended.failure(2, &["nowhere.yaml", "No such file"]);
    }
    let bad: [&[&str]; 6] = [
        &[],
        &["frobnicate"],
        &["run"],
        &["run", "config.yaml", "--workers", "0"],
        &["run", "config.yaml", "--workers", "many"],
        &["validate", "config.yaml", "--wrong"],
    ];
    for arguments in bad {
        bench.run(arguments).failure(2, &["--help"]);
    }
    bench.run(&["kb", "tasks"]).failure(1, &["--state"]);
}

#[test]
fn shipped_configs_are_valid() {
    let bench = Bench::new();
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/configs");
    // Ten votes with the columns of the real stream; the first two are the bootstrap.
    let mut votes = "id,time,site,season,cooling,city,climate,building,gender,ta,tr,top,rh,vel,met,clo,age,ht,wt,t_out,rh_out,t_out_isd,rh_out_isd,t_mot_isd,t_out_monthly,preference\n".to_string();
    for vote in 0..10 {
        votes.push_str(&format!("{vote},1982-07-01T00:00:00Z,b,hot,ac,darwin,dry,office,female,24.2,25,24,44,0.1,1,0.5,52,,,,,,,,,warmer\n"));
    }
    bench.write("votes.csv", votes);
    let drawn: [(&str, &[&str], &[&str]); 4] = [
        (
            "simulator",
            &[],
            &[
                "the config is valid",
                "120000 records, 17 features, 3 classes",
                "10000 records of bootstrap",
                "season × zone → site",
                "deploy",
            ],
        ),
        (
            "edge",
            &[],
            &[
                "12000 records of bootstrap",
                "share       samples, to topic fleet-changes",
                "follow",
            ],
        ),
        (
            "cloud",
            &[],
            &[
                "edges edge: no end, 17 features, 3 classes",
                "on topic fleet-knowledge",
            ],
        ),
        (
            "thermal",
            &["--set", "source.path=votes.csv"],
            &[
                "votes.csv: 10 records, 20 features, 3 classes",
                "2 records of bootstrap",
                "base → season × cooling → city → site",
            ],
        ),
    ];
    for (name, settings, parts) in drawn {
        let config = format!("{configs}/{name}.yaml");
        let arguments = [&["validate", &config], settings].concat();
        let drawn = bench.run(&arguments).success().stdout;
        for part in parts {
            assert!(drawn.contains(part), "{part:?} is not in {drawn}");
        }
    }
}

#[test]
fn schema_and_version_are_printed() {
    let bench = Bench::new();
    let schema = bench.run(&["schema"]).success().stdout;
    let schema = support::json(schema.as_bytes());
    assert!(schema["$schema"].as_str().is_some(), "{schema}");
    let keys = schema["properties"].as_object().expect("properties");
    for key in [
        "name",
        "mode",
        "schema",
        "source",
        "tasks",
        "bootstrap",
        "labels",
        "epoch",
        "inference",
        "memory",
        "training",
        "triggers",
        "commit",
        "predictions",
        "dead_letters",
        "report",
    ] {
        assert!(keys.contains_key(key), "{key} is not in {keys:?}");
    }
    assert_eq!(schema["additionalProperties"], false);
    let text = schema.to_string();
    for key in ["max_record_bytes", "samples_per_task", "colsample_bytree"] {
        assert!(text.contains(&format!("\"{key}\":")), "{key}");
    }
    let version = bench.run(&["--version"]).success().stdout;
    assert_eq!(
        version,
        format!("perennial {}\n", env!("CARGO_PKG_VERSION"))
    );
}
