//! Backlogs of many partitions.

use support::kafka::Broker;
use support::stream;
use support::topics::{Pipeline, START};
use support::watch_memory;

#[test]
fn memory_does_not_grow_with_the_number_of_partitions() {
    const PARTITIONS: i32 = 60;
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "backlog", false);
    let topic = pipeline.topic("samples");
    broker.create_topic(&topic, PARTITIONS, &[]);
    // 300 MB: each sample has 50 KB in a column that is not read.
    let padding = "x".repeat(50_000);
    let samples = stream::samples(54, 6000, 0.0);
    for part in samples.chunks(600) {
        let messages: Vec<_> = part
            .iter()
            .map(|sample| {
                let number: i32 = sample.id[1..].parse().expect("a number");
                let mut value = support::json(sample.json().as_bytes());
                value["padding"] = padding.clone().into();
                let place = (number % PARTITIONS, START + i64::from(number));
                (
                    place.0,
                    place.1,
                    sample.site.clone(),
                    Some(value.to_string().into_bytes()),
                )
            })
            .collect();
        broker.produce(&topic, &messages);
    }
    let mut command = pipeline.command(&["--set", "epoch.tick_ms=20"]);
    let child = command.stdout(std::process::Stdio::null()).spawn();
    let (status, peak) = watch_memory(child.expect("the program starts"));
    assert!(status.success(), "{status}");
    assert_eq!(pipeline.bench.report("report")["records"], samples.len());
    assert!(peak < 280 << 20, "a peak of {} MiB", peak >> 20);
}
