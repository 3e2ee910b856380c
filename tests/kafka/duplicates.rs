//! Samples that a producer sends again.

use support::kafka::Broker;
use support::stream;
use support::topics::{BOOTSTRAP, Pipeline};

#[test]
fn ids_that_come_again_are_duplicates_after_a_restart_too() {
    let broker = Broker::shared();
    let samples = stream::samples(52, 2400, 0.1);
    let reasons = |pipeline: &Pipeline| {
        let letters = broker.read(&pipeline.topic("dead-letters"));
        let reason = |letter: &support::kafka::Read| letter.headers["perennial.reason"].clone();
        let mut reasons: Vec<String> = letters.iter().map(reason).collect();
        reasons.sort();
        reasons
    };
    let whole = Pipeline::new(&broker, "again-whole", true);
    let restarted = Pipeline::new(&broker, "again-restarted", true);
    for pipeline in [&whole, &restarted] {
        pipeline.produce(&samples[..2000]);
        if pipeline.topic("") == restarted.topic("") {
            pipeline.run(&[]).success();
        }
        // A producer that was restarted sends its latest samples again.
        pipeline.produce(&samples[1900..]);
        pipeline.run(&[]).success();
        let predictions = broker.read(&pipeline.topic("predictions"));
        assert_eq!(predictions.len(), samples.len() - BOOTSTRAP);
    }
    let found = reasons(&restarted);
    let duplicates = found
        .iter()
        .filter(|reason| reason.contains("was seen before"));
    assert_eq!(duplicates.count(), 100, "{found:?}");
    let whole = reasons(&whole);
    assert_eq!(
        whole
            .iter()
            .filter(|reason| reason.contains("was seen before"))
            .count(),
        100
    );
}

#[test]
fn ids_beyond_the_window_may_come_again() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "again-later", false);
    let samples = stream::samples(53, 1500, 0.1);
    let window = ["--set", "source.duplicates_within=100"];
    pipeline.produce(&samples);
    pipeline.run(&window).success();
    let before = broker.read(&pipeline.topic("predictions")).len();
    pipeline.produce(&samples[1000..1050]);
    pipeline.produce(&samples[1450..]);
    pipeline.run(&window).success();
    let after = broker.read(&pipeline.topic("predictions")).len();
    // Those of 500 samples ago are samples again; the latest are duplicates.
    assert_eq!(after - before, 50);
    let stored = pipeline.bench.report("report");
    assert_eq!(stored["dead_letters"], 50, "{stored}");
}
