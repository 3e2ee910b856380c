//! `perennial init`: a config from what a file or a topic has.

use support::kafka::Broker;
use support::stream::{self, Sample};
use support::topics::Pipeline;
use support::{Bench, Ended};

/// Makes a config from a file of the folder, and runs it.
fn init_and_run(bench: &Bench, file: &str, more: &[&str]) -> String {
    let arguments = [&["init", file], more].concat();
    let config = bench.run(&arguments).success().stdout;
    bench.write("made.yaml", &config);
    bench.run(&["validate", "made.yaml"]).success();
    let run = ["run", "made.yaml", "--report", "report.json"];
    bench.run(&run).success();
    config
}

#[test]
fn file_becomes_a_config_that_runs() {
    let samples = stream::samples(31, 2000, 0.0);
    let csv = stream::csv(&samples);
    let lines: Vec<String> = samples.iter().map(Sample::json).collect();
    let bench = Bench::new();
    bench.write("my readings.csv", csv);
    bench.write("readings.jsonl", lines.join("\n"));
    // Keys of JSON objects are in the order of the alphabet here.
    for (file, attributes) in [
        ("my readings.csv", "  attributes: [season, mode]"),
        ("readings.jsonl", "  attributes: [mode, season]"),
    ] {
        let config = init_and_run(&bench, file, &[]);
        let config: Vec<&str> = config.lines().collect();
        for line in [
            "  id: id # no two samples have the same",
            "  site: site # 6 values",
            attributes,
            "    - a",
            "      values: [ac, fan, none]",
            "    classes: [high, low, mid]",
            // The season is the same at a site throughout, the mode is not.
            "  path: [[season], [site]]",
        ] {
            assert!(config.contains(&line), "{line:?} is not in {config:#?}");
        }
        let report = bench.report("report");
        assert_eq!(report["records"], 2000);
        assert_eq!(report["dead_letters"], 0);
        assert!(report["accuracy"].as_f64() > Some(0.5), "{report}");
    }
}

/// Models change between epochs only: a long one would learn late.
#[test]
fn epochs_are_short_beside_the_trigger() {
    let bench = Bench::new();
    for (count, expected) in [
        (
            2_000,
            "epoch:\n  records: 50\ntriggers:\n  when: ['new_samples >= 200']\n",
        ),
        (12_000, "epoch:\n  records: 250\n\n"),
    ] {
        bench.write("file.csv", stream::csv(&stream::samples(33, count, 0.0)));
        let config = bench.run(&["init", "file.csv"]).success().stdout;
        assert!(config.contains(expected), "{config}");
    }
}

#[test]
fn columns_without_telling_names_are_named_by_arguments() {
    let samples = stream::samples(32, 1000, 0.0);
    let csv = stream::csv(&samples);
    let header = "nr,col1,col2,season,a,b,c,mode,col3";
    let csv = csv.replacen(stream::HEADER, header, 1);
    let bench = Bench::new();
    bench.write("readings.csv", csv);
    let words = ["which column is the label", "--label COLUMN"];
    let init = |more: &[&str]| -> Ended {
        let arguments = [&["init", "readings.csv"], more].concat();
        bench.run(&arguments)
    };
    let given = ["--time", "col1", "--site", "col2"];
    init(&given).failure(2, &words);
    init(&["--label", "col4"]).failure(2, &["there is no column \"col4\"; did you mean \"col"]);
    init(&["--label", "season", "--time", "mode"]).failure(2, &["\"mode\" cannot be the time"]);
    let given = [&given[..], &["--label", "col3", "--attributes", "mode"]].concat();
    let config = init_and_run(&bench, "readings.csv", &given);
    assert!(config.contains("  id: nr #"), "{config}");
    assert!(config.contains("  attributes: [mode]\n"), "{config}");
    // A number of many values is no class.
    let given = ["--time", "col1", "--site", "col2", "--label", "b"];
    let config = init_and_run(&bench, "readings.csv", &given);
    assert!(config.contains("    kind: number\n"), "{config}");
}

#[test]
fn files_that_no_config_fits_are_refused() {
    let bench = Bench::new();
    for (content, words) in [
        ("id,time,site,x,label\n", "has no records"),
        (
            "time,site,x,label\n2024-01-01,a,1,b\n2024-01-02,a,1,c\n",
            "no column can be the id",
        ),
        (
            "id,site,x,label\n1,a,1,b\n2,a,2,c\n",
            "no column can be the time",
        ),
        (
            "id,time,site,label\n1,2024-01-01,a,b\n2,2024-01-02,a,c\n",
            "no column is left",
        ),
        (
            "id,time,site,x,label\n1,2024-01-01,a,1,b\n2,2024-01-02,a,2,b\n",
            "the same value",
        ),
    ] {
        bench.write("file.csv", content);
        let ended = bench.run(&["init", "file.csv"]);
        let ended = ended.failure(2, &[words]);
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    bench
        .run(&["init", "none.csv"])
        .failure(1, &["does not exist"]);
    bench.run(&["init"]).failure(2, &["--topic"]);
}

#[test]
fn topic_becomes_a_config() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "init", false);
    pipeline.produce(&stream::samples(33, 1500, 0.0));
    let bench = &pipeline.bench;
    let topic = pipeline.topic("samples");
    let arguments = ["init", "--topic", &topic, "--brokers", &broker.address];
    let config = bench.run(&arguments).success().stdout;
    bench.write("made.yaml", &config);
    bench.run(&["validate", "made.yaml"]).success();
    let end = ["--set", "source.kafka.stop_at_end=true"];
    let run = [&["run", "made.yaml", "--report", "report.json"], &end[..]].concat();
    bench.run(&run).success();
    assert_eq!(bench.report("report")["records"], 1500);
}
