//! `perennial bench`: it measures, and removes its topics.

use support::kafka::Broker;
use support::{Bench, stream};

/// A folder with a stream of 600 samples and a pipeline that reads topics.
fn bench(broker: &Broker, topic: &str) -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(61, 600, 0.1)));
    let config = stream::config("stream.csv", "records: 300").replace(
        "  path: stream.csv",
        &format!(
            "  kafka: {{topic: {topic}}}\nkafka: {{brokers: '{}'}}",
            broker.address
        ),
    );
    bench.write(
        "config.yaml",
        format!("{config}mode: live\nproduce: {{path: stream.csv}}\n")
            .replace("name: stream", &format!("name: {topic}")),
    );
    bench
}

#[test]
fn bench_uses_topics_of_its_own() {
    let broker = Broker::shared();
    let bench = bench(&broker, "measured");
    // The stream is sent several times.
    let arguments = "bench config.yaml --records 2000 --seconds 1 --report found.json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let ended = bench.run(&arguments).success();
    assert!(ended.stdout.contains("full speed: "), "{ended:?}");
    let found = support::json(&bench.read("found.json"));
    assert_eq!(found["predicted"], 2000, "{found}");
    let steps = found["steps"].as_array().expect("steps");
    let kept_up: Vec<_> = steps
        .iter()
        .filter(|step| step["kept_up"] == true)
        .collect();
    assert!(!steps.is_empty(), "{found}");
    for step in &kept_up {
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|key| step[key].as_f64().expect("a figure"));
        assert!(p50 <= p99, "{found}");
    }
    let knee = kept_up.last().map(|step| step["offered"].clone());
    assert_eq!(found["knee"], knee.unwrap_or_default(), "{found}");
    let left = broker.topics();
    let own = left.iter().filter(|topic| topic.starts_with("measured"));
    assert_eq!(own.count(), 0, "{left:?}");
}

#[test]
fn missing_inputs_are_reported() {
    let broker = Broker::shared();
    let bench = bench(&broker, "unmeasured");
    let config = String::from_utf8(bench.read("config.yaml")).expect("a text");
    bench.write("config.yaml", config.replace("produce: ", "# produce: "));
    bench
        .run(&["bench", "config.yaml"])
        .failure(2, &["produce", "path"]);
    bench.write(
        "config.yaml",
        config.replace("path: stream.csv", "path: none.csv"),
    );
    bench
        .run(&["bench", "config.yaml"])
        .failure(1, &["none.csv"]);
    // A pipeline that cannot start says why.
    bench.write("config.yaml", &config);
    bench.write("stream.csv", stream::csv(&stream::samples(62, 600, 1.0)));
    let ended = bench.run(&["bench", "config.yaml", "--records", "1000"]);
    let words = ["the pipeline on trial has failed", "no model answers"];
    ended.failure(1, &words);
}
