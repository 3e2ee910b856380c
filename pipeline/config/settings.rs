//! What a config means, once it is known to make sense.

use perennial_connectors::kafka::{Delivery, KafkaConfig};
use perennial_connectors::knowledge_base::SCHEMA;
use perennial_connectors::sink::Layout;
use perennial_connectors::source::Schema;
use perennial_connectors::trainer::CommandLine;
use perennial_operators::algorithms::drift::DriftRules;
use perennial_operators::algorithms::recognize::RecognitionRules;
use perennial_operators::label::{Arrival, Delay};
use perennial_operators::learn::{Schedule, TriggerRules};
use perennial_operators::share::SharePolicy;
use perennial_operators::{LabelKind, RetainedSample, TaskLevels};

use super::condition::{daily_window, duration, trigger};
use super::load::nearest;
use super::produce::{Production, production};
use super::share::SamplesShare;
use super::tasks::levels;
use super::trainer::command_line;
use super::{
    Config, ConfigError, DelayConfig, LevelConfig, Loaded, Mode, Role, drift, link, requests,
    share, unseen,
};

/// Records that a sample on a topic waits for its label, where nothing is said.
const DEFAULT_WAIT: u64 = 100_000;

/// A config that makes sense, and what follows from it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The config as it was loaded.
    pub loaded: Loaded,
    /// The columns of a sample.
    pub schema: Schema,
    /// Class names; none where the label is a number.
    pub classes: Vec<String>,
    /// The task tree's levels.
    pub levels: TaskLevels,
    /// When models are trained.
    pub rules: TriggerRules,
    /// How drift is looked for.
    pub drift: DriftRules,
    /// How samples of unseen tasks are recognized, if they are.
    pub unseen: Option<RecognitionRules>,
    /// How labels come to their samples.
    pub arrival: Arrival,
    /// The command that fits models, if the built-in trainer does not.
    pub command: Option<CommandLine>,
    /// What is produced, if anything.
    pub production: Option<Production>,
    /// What is shared, if anything; the secret of pseudonyms aside.
    pub share: Option<SharePolicy>,
}

impl Settings {
    /// The config.
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// How to reach Kafka, for a command that needs it.
    pub fn kafka(&self) -> Result<&KafkaConfig, ConfigError> {
        self.config().kafka.as_ref().ok_or_else(|| {
            let message = "missing: it says how to reach Kafka (brokers)";
            self.loaded.error("kafka", message)
        })
    }

    /// Fails unless the pipeline is all in one process, as a command needs it.
    pub fn only_local(&self, command: &str) -> Result<(), ConfigError> {
        if self.config().role == Role::Local {
            return Ok(());
        }
        let message = format!(
            "perennial {command} is of a local pipeline: --set role=local, without link and share"
        );
        Err(self.loaded.error("role", message))
    }

    /// What the label is.
    pub fn label_kind(&self) -> LabelKind {
        LabelKind::of(&self.classes)
    }

    /// What there is to a prediction.
    pub fn layout(&self) -> Layout {
        Layout {
            classes: self.classes.clone(),
            recognizes: self.unseen.is_some(),
        }
    }

    /// How many features a sample has.
    pub fn features(&self) -> usize {
        self.schema.features.len()
    }

    /// What a knowledge base must have been made with to go on with this config, by name.
    pub fn fingerprint(&self) -> Vec<(String, String)> {
        let path = &self.config().tasks.path;
        let mut parts = vec![(SCHEMA.to_string(), json(&self.schema))];
        let cluster = path
            .iter()
            .find(|level| matches!(level, LevelConfig::Cluster(_)));
        // It is of the task path too, but there is more to say of it.
        parts.extend(cluster.map(|level| {
            let what = "cluster level (its features or k)";
            (what.to_string(), json(level))
        }));
        parts.push(("task path".to_string(), json(path)));
        let baselines = json(&self.config().report.baselines);
        parts.push(("baselines".to_string(), baselines));
        parts
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl TryFrom<Loaded> for Settings {
    type Error = ConfigError;

    fn try_from(loaded: Loaded) -> Result<Self, ConfigError> {
        check_source(&loaded)?;
        let schema = schema(&loaded)?;
        let Some(label) = &schema.label else {
            return Err(loaded.error(
                "schema",
                "there is no label: add \"label\" with its column and classes, or its column and \"kind: number\"",
            ));
        };
        let (kind, classes) = (label.kind(), label.classes.clone());
        let levels = levels(&loaded, &schema)?;
        check_outputs(&loaded)?;
        requests::check(&loaded)?;
        link::check(&loaded)?;
        check_kafka(&loaded)?;
        check_bootstrap(&loaded)?;
        check_training(&loaded)?;
        check_memory(&loaded, &schema)?;
        Ok(Settings {
            classes,
            rules: rules(&loaded, kind)?,
            drift: drift::rules(&loaded, kind)?,
            unseen: unseen::rules(&loaded, kind)?,
            arrival: arrival(&loaded)?,
            command: command_line(&loaded)?,
            production: production(&loaded, &schema)?,
            share: share::policy(&loaded, &schema, &levels)?,
            levels,
            schema,
            loaded,
        })
    }
}

fn check_memory(loaded: &Loaded, schema: &Schema) -> Result<(), ConfigError> {
    let least = RetainedSample::bytes(schema.features.len());
    if loaded.config.memory.bytes < least {
        let message = format!("expected at least {least}, which is what one sample counts");
        return Err(loaded.error("memory.bytes", message));
    }
    Ok(())
}

fn check_source(loaded: &Loaded) -> Result<(), ConfigError> {
    let source = &loaded.config.source;
    let kinds = [
        source.path.is_some(),
        source.kafka.is_some(),
        source.simulator.is_some(),
        source.edges.is_some(),
    ];
    match kinds.iter().filter(|there| **there).count() {
        1 => {}
        0 => {
            let message = "expected \"path\", \"kafka\", \"edges\" or \"simulator\"";
            return Err(loaded.error("source", message));
        }
        _ => {
            let message = "\"path\", \"kafka\", \"edges\" and \"simulator\" exclude each other";
            return Err(loaded.error("source", message));
        }
    }
    check_labels(loaded)?;
    if source.edges.is_some() && loaded.config.role != Role::Cloud {
        return Err(loaded.error("source.edges", "only the cloud has edges: set role: cloud"));
    }
    if (source.kafka.is_some() || source.edges.is_some()) && source.rate.is_some() {
        let message = "records of a topic come when they come: remove this";
        return Err(loaded.error("source.rate", message));
    }
    if source
        .rate
        .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
    {
        return Err(loaded.error("source.rate", "expected a number above 0"));
    }
    if source.max_record_bytes == Some(0) {
        return Err(loaded.error("source.max_record_bytes", "expected at least 1"));
    }
    let simulator = source.simulator.iter();
    let mut problems = simulator.flat_map(|simulator| simulator.problems("source.simulator"));
    if let Some((path, message)) = problems.next() {
        return Err(loaded.error(&path, message));
    }
    Ok(())
}

fn check_labels(loaded: &Loaded) -> Result<(), ConfigError> {
    let (source, labels) = (&loaded.config.source, &loaded.config.labels);
    if source.simulator.is_some() && labels.path.is_some() {
        let message = "the simulator brings its own labels: remove this";
        return Err(loaded.error("labels.path", message));
    }
    if source.kafka.is_some() && labels.path.is_some() {
        let message =
            "labels of samples on a topic are on a topic too (labels.kafka), or in the samples";
        return Err(loaded.error("labels.path", message));
    }
    let says_labels = labels.path.is_some() || labels.kafka.is_some() || labels.on_request;
    let has_delay = labels.delay.records.is_some() || labels.delay.seconds.is_some();
    if source.edges.is_some() && (says_labels || has_delay) {
        let message = "what edges share has its labels, which are known: remove this";
        return Err(loaded.error("labels", message));
    }
    if source.kafka.is_none() && labels.kafka.is_some() {
        let message = "only samples on a topic (source.kafka) have labels on a topic";
        return Err(loaded.error("labels.kafka", message));
    }
    if labels.kafka.is_some() && has_delay {
        let message = "labels on a topic are known when they come: remove this, or set labels.wait";
        return Err(loaded.error("labels.delay", message));
    }
    Ok(())
}

fn check_outputs(loaded: &Loaded) -> Result<(), ConfigError> {
    if let Some(predictions) = &loaded.config.predictions {
        match (&predictions.path, &predictions.kafka) {
            (Some(_), None) => {}
            (None, Some(_)) if predictions.format.is_some() => {
                let message = "the format of a topic is predictions.kafka.format";
                return Err(loaded.error("predictions.format", message));
            }
            (None, Some(_)) => {}
            _ => {
                let message = "expected \"path\" or \"kafka\", one of them";
                return Err(loaded.error("predictions", message));
            }
        }
    }
    let dead_letters = &loaded.config.dead_letters;
    if dead_letters.path.is_some() && dead_letters.kafka.is_some() {
        let message = "\"path\" and \"kafka\" exclude each other";
        return Err(loaded.error("dead_letters", message));
    }
    Ok(())
}

fn check_kafka(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let outputs = config.output_topics();
    let has_output = outputs.all().next().is_some();
    let Some(kafka) = &config.kafka else {
        if config.source.kafka.is_some() || has_output {
            let message = "missing: it says how to reach Kafka (brokers)";
            return Err(loaded.error("kafka", message));
        }
        return Ok(());
    };
    if config.source.kafka.is_none() && !has_output {
        let message = "nothing is on a topic: remove this, or set source.kafka";
        return Err(loaded.error("kafka", message));
    }
    let exactly_once = kafka.delivery == Delivery::ExactlyOnce;
    if config.source.kafka.is_none() && has_output && exactly_once {
        let message = "only what was read from Kafka is written to it exactly once: set at_least_once, or bring the \
                       samples to a topic first";
        return Err(loaded.error("kafka.delivery", message));
    }
    let endless = config
        .source
        .kafka
        .as_ref()
        .is_some_and(|samples| !samples.stop_at_end);
    if endless && config.mode == Mode::Replay {
        let message = "a replay has an end: set source.kafka.stop_at_end, or live here";
        return Err(loaded.error("mode", message));
    }
    match kafka.problems().into_iter().next() {
        Some((path, message)) => Err(loaded.error(&path, message)),
        None => Ok(()),
    }
}

fn schema(loaded: &Loaded) -> Result<Schema, ConfigError> {
    let config = &loaded.config;
    let schema = match (&config.schema, &config.source.simulator) {
        (Some(_), Some(_)) => {
            return Err(loaded.error("schema", "the simulator brings its own: remove this"));
        }
        (None, None) => {
            return Err(loaded.error("schema", "missing: it names the columns of source.path"));
        }
        (Some(schema), None) => schema.clone(),
        (None, Some(simulator)) => simulator.schema(),
    };
    match schema.problems().into_iter().next() {
        Some((path, message)) => Err(loaded.error(&path, message)),
        None => Ok(schema),
    }
}

/// The column of the attribute with this name, or what to say if there is none.
pub fn find_attribute(schema: &Schema, name: &str) -> Result<usize, String> {
    let names: Vec<&str> = schema.attribute_names().collect();
    names
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| {
            let hint = nearest(name, &names)
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            format!(
                "\"{name}\" is not an attribute of the schema{hint} (expected: {})",
                names.join(", ")
            )
        })
}

fn check_bootstrap(loaded: &Loaded) -> Result<(), ConfigError> {
    let bootstrap = &loaded.config.bootstrap;
    if loaded.config.role == Role::Edge {
        let message =
            "nobody trains first models on it: remove this, or set share.samples or link.train";
        let trains = loaded.config.link.as_ref().is_some_and(|link| link.train);
        match bootstrap.is_none() {
            true => return Ok(()),
            false if loaded.config.share.samples == SamplesShare::None && !trains => {
                return Err(loaded.error("bootstrap", message));
            }
            false => {}
        }
    }
    match (bootstrap.share, bootstrap.records) {
        (Some(share), None) if share > 0.0 && share < 1.0 => Ok(()),
        (Some(_), None) => Err(loaded.error("bootstrap.share", "expected a share between 0 and 1")),
        (None, Some(0)) => Err(loaded.error(
            "bootstrap.records",
            "expected at least 1: without a bootstrap no model answers",
        )),
        (None, Some(_)) => Ok(()),
        _ => Err(loaded.error(
            "bootstrap",
            "expected \"share\" or \"records\", one of them",
        )),
    }
}

fn check_training(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let training = &config.training;
    let trees = &training.trees;
    let share = |value: f32| value > 0.0 && value <= 1.0;
    let checks = [
        (
            config.epoch.records > 0,
            "epoch.records",
            "expected at least 1",
        ),
        (
            config.epoch.in_flight > 0,
            "epoch.in_flight",
            "expected at least 1",
        ),
        (config.epoch.bytes > 0, "epoch.bytes", "expected at least 1"),
        (
            config.inference.memory_bytes > 0,
            "inference.memory_bytes",
            "expected at least 1",
        ),
        (
            config.epoch.tick_ms > 0,
            "epoch.tick_ms",
            "expected at least 1",
        ),
        (
            config.commit.epochs > 0,
            "commit.epochs",
            "expected at least 1",
        ),
        (
            config.triggers.window > 0,
            "triggers.window",
            "expected at least 1",
        ),
        (
            training.min_samples > 0,
            "training.min_samples",
            "expected at least 1",
        ),
        (
            training.min_new_samples > 0,
            "training.min_new_samples",
            "expected at least 1",
        ),
        (
            config.memory.samples_per_task > 0,
            "memory.samples_per_task",
            "expected at least 1",
        ),
        (
            training.max_samples > 0,
            "training.max_samples",
            "expected at least 1",
        ),
        (
            !training.candidates.is_empty(),
            "training.candidates",
            "expected at least one of scratch, warm_start, relative, pooled, recent, recall, donor",
        ),
        (
            training.threads != Some(0),
            "training.threads",
            "expected at least 1",
        ),
        (
            training.holdout > 0.0 && training.holdout < 0.9,
            "training.holdout",
            "expected a share above 0 and below 0.9",
        ),
        (
            config.gate.margin >= 0.0 && config.gate.margin.is_finite(),
            "gate.margin",
            "expected a number of nats from 0 on",
        ),
        (
            (1..=10_000).contains(&trees.rounds),
            "training.trees.rounds",
            "expected 1 to 10000",
        ),
        (
            (1..=16).contains(&trees.max_depth),
            "training.trees.max_depth",
            "expected 1 to 16",
        ),
        (
            share(trees.eta),
            "training.trees.eta",
            "expected above 0, at most 1",
        ),
        (
            share(trees.subsample),
            "training.trees.subsample",
            "expected above 0, at most 1",
        ),
        (
            share(trees.colsample_bytree),
            "training.trees.colsample_bytree",
            "expected above 0, at most 1",
        ),
        (
            trees.lambda >= 0.0,
            "training.trees.lambda",
            "expected at least 0",
        ),
        (
            trees.min_child_weight >= 0.0,
            "training.trees.min_child_weight",
            "expected at least 0",
        ),
    ];
    match checks.into_iter().find(|(holds, _, _)| !holds) {
        Some((_, path, message)) => Err(loaded.error(path, message)),
        None => Ok(()),
    }
}

fn rules(loaded: &Loaded, kind: LabelKind) -> Result<TriggerRules, ConfigError> {
    let config = &loaded.config;
    let mut triggers = Vec::new();
    for (number, text) in config.triggers.when.iter().enumerate() {
        let path = format!("triggers.when[{number}]");
        triggers.push(trigger(text, kind).map_err(|message| loaded.error(&path, message))?);
    }
    let period = match &config.triggers.check_every {
        None => 0,
        Some(text) => {
            let seconds =
                duration(text).map_err(|message| loaded.error("triggers.check_every", message))?;
            (seconds * 1e6) as i64
        }
    };
    let between = match &config.triggers.between {
        None => None,
        Some(text) => {
            Some(daily_window(text).map_err(|message| loaded.error("triggers.between", message))?)
        }
    };
    Ok(TriggerRules {
        triggers,
        schedule: Schedule { period, between },
        min_samples: config.training.min_samples as i64,
        min_new_samples: config.training.min_new_samples as i64,
        // Half a window is enough to tell a trend, and keeps a young task from being judged by its
        // first few labels.
        min_window: config.triggers.window.div_ceil(2) as i64,
    })
}

fn arrival(loaded: &Loaded) -> Result<Arrival, ConfigError> {
    let labels = &loaded.config.labels;
    let wait = delay(loaded, "labels.wait", &labels.wait, DEFAULT_WAIT)?;
    let delay = delay(loaded, "labels.delay", &labels.delay, 0)?;
    Ok(match labels.kafka {
        Some(_) => Arrival::Apart(wait),
        None if labels.on_request => Arrival::OnRequest(delay),
        None => Arrival::Carried(delay),
    })
}

pub(super) fn delay(
    loaded: &Loaded,
    path: &str,
    delay: &DelayConfig,
    records: u64,
) -> Result<Delay, ConfigError> {
    match (delay.records, delay.seconds) {
        (Some(_), Some(_)) => {
            Err(loaded.error(path, "\"records\" and \"seconds\" exclude each other"))
        }
        (_, Some(seconds)) if !(0.0..=1e12).contains(&seconds) => {
            Err(loaded.error(&format!("{path}.seconds"), "expected a number from 0"))
        }
        (None, Some(seconds)) => Ok(Delay::Time((seconds * 1e6) as i64)),
        (given, None) => Ok(Delay::Records(given.unwrap_or(records))),
    }
}
