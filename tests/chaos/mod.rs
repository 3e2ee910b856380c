//! Chaos: a pipeline and its broker, killed and halted at any moment, and a recount of the results.

mod calm;
mod feeder;
mod recount;
mod rounds;
mod year;

use std::sync::Arc;

use feeder::Feeder;
use recount::{Pipeline, check};
use rounds::{DECK, Rounds};
use support::kafka::{Broker, PARTITIONS};
use support::stream::{self, Chance};
use support::{Bench, given};

/// Samples of the bootstrap.
const BOOTSTRAP: usize = 800;
/// The seed, unless the environment gives one.
const SEED: u64 = 20_260_711;

/// The topics of a pipeline.
#[derive(Clone)]
pub struct Topics {
    samples: String,
    labels: String,
    predictions: String,
    dead_letters: String,
}

impl Topics {
    /// Creates empty topics.
    fn new(broker: &Broker, name: &str) -> Topics {
        let topic = |what: &str| {
            let topic = format!("{name}-{what}");
            broker.create_topic(&topic, PARTITIONS, &[]);
            topic
        };
        Topics {
            samples: topic("samples"),
            labels: topic("labels"),
            predictions: topic("predictions"),
            dead_letters: topic("dead-letters"),
        }
    }
}

/// The config of a pipeline that trains and commits often; `kafka` holds more settings of Kafka.
fn config(broker: &Broker, topics: &Topics, kafka: &str) -> String {
    let Topics {
        samples,
        labels,
        predictions,
        dead_letters,
    } = topics;
    format!(
        "name: {samples}-reader
mode: live
kafka: {{brokers: '{address}', {kafka}}}
source:
  kafka: {{topic: {samples}}}
{schema}bootstrap:
  records: {BOOTSTRAP}
labels:
  kafka: {{topic: {labels}}}
  wait: {{records: 100000000}}
{training}triggers:
  when: ['new_samples >= 150']
epoch: {{records: 100, tick_ms: 5}}
commit: {{interval_ms: 30}}
predictions:
  kafka: {{topic: {predictions}}}
dead_letters:
  kafka: {{topic: {dead_letters}}}
",
        address = broker.address,
        schema = stream::SCHEMA,
        training = stream::TRAINING,
    )
}

#[test]
fn inputs_count_once_despite_kills() {
    let seed = given("PERENNIAL_CHAOS_SEED", SEED);
    let wanted = given("PERENNIAL_CHAOS_KILLS", 10);
    println!("PERENNIAL_CHAOS_SEED={seed}");
    let broker = Arc::new(Broker::start_in_cluster(&[
        "transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
    ]));
    let topics = Topics::new(&broker, "chaos");
    let bench = Bench::new();
    let kafka = "options: {transaction.timeout.ms: 3000, reconnect.backoff.max.ms: 500}";
    bench.write("config.yaml", config(&broker, &topics, kafka));
    let mut chance = Chance::new(seed);
    let mut feeder = Feeder::new(&broker, &topics, chance.draw());
    let position = broker.position("chaos-samples-reader", &topics.samples);
    let mut rounds = Rounds::new(bench, &broker, position, Chance::new(chance.draw()));
    feeder.send_bootstrap(BOOTSTRAP);
    let feeding = feeder.start();
    let mut kills = 0;
    while kills < wanted {
        let mut deck = DECK;
        chance.shuffle(&mut deck);
        for misfortune in deck {
            let began = std::time::Instant::now();
            rounds.round(misfortune);
            kills += u64::from(misfortune.is_kill());
            let seconds = began.elapsed().as_secs_f64();
            println!("{kills:>4} kills, {seconds:>5.1} s: {misfortune:?}");
        }
    }
    feeding.finish();
    let (bench, state) = rounds.finish();
    // See Broker::start_in_cluster.
    let is_torn = broker.has_logged("while trying to send transaction markers");
    assert!(!is_torn, "Kafka itself has left transactions open");
    let checked = check(&Pipeline {
        bench: &bench,
        broker: &broker,
        topics: &topics,
        state: &state,
        report: "report",
        partitions: 0..=3,
        bootstrap: BOOTSTRAP,
        repeats: false,
    });
    println!(
        "{kills} kills: {} predictions, {} dead letters, {} labels in {} tasks",
        checked.predictions, checked.dead_letters, checked.labelled, checked.tasks
    );
}
