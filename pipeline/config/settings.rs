//! Checked settings of a pipeline.

use std::time::Duration;

use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::knowledge_base::SCHEMA;
use perennial_connectors::schema::Schema;
use perennial_connectors::sink::Layout;
use perennial_connectors::trainer::CommandLine;
use perennial_operators::algorithms::drift::DriftRules;
use perennial_operators::algorithms::recognize::RecognitionRules;
use perennial_operators::label::LabelTiming;
use perennial_operators::learn::{MemoryRules, TriggerRules};
use perennial_operators::predict::InferenceRules;
use perennial_operators::share::SharePolicy;
use perennial_operators::{LabelKind, TaskLevels};

use super::kafka::{self, check_kafka};
use super::link::link_of;
use super::places::Places;
use super::produce::Production;
use super::schema::schema;
use super::unseen::UnseenConfig;
use super::{Config, ConfigError, ConfigFile, LevelConfig, LinkConfig, Mode, Role};

/// A valid config, and what follows from it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The config as it was loaded.
    pub loaded: ConfigFile,
    /// Columns of a sample.
    pub schema: Schema,
    /// Class names; none where the label is a number.
    pub classes: Vec<String>,
    /// Levels of the task tree.
    pub levels: TaskLevels,
    /// When models are trained.
    pub rules: TriggerRules,
    /// How drift is detected.
    pub drift: DriftRules,
    /// How samples of unseen tasks are recognized, if they are.
    pub unseen: Option<RecognitionRules>,
    /// How labels come to their samples.
    pub arrival: LabelTiming,
    /// Command that fits models in place of the built-in trainer.
    pub command: Option<CommandLine>,
    /// Time limit of a training order.
    pub training_timeout: Duration,
    /// What `perennial produce` sends.
    pub production: Option<Production>,
    /// What leaves an edge; without the secret of pseudonyms, which is read later.
    pub share: Option<SharePolicy>,
}

impl Settings {
    /// The config.
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The section `kafka`, for a command that requires it.
    pub fn kafka(&self) -> Result<&KafkaConfig, ConfigError> {
        let kafka = self.config().kafka.as_ref();
        kafka.ok_or_else(|| self.loaded.error("kafka", kafka::MISSING))
    }

    /// Fails unless the role is local, as `command` requires it.
    pub fn only_local(&self, command: &str) -> Result<(), ConfigError> {
        let message = format!(
            "perennial {command} is of a local pipeline: --set role=local, without link and share"
        );
        let is_local = self.config().role == Role::Local;
        self.loaded.places.require(is_local, "role", message)
    }

    /// Kind of the label.
    pub fn label_kind(&self) -> LabelKind {
        LabelKind::of(&self.classes)
    }

    /// Columns of a prediction.
    pub fn layout(&self) -> Layout {
        Layout {
            classes: self.classes.clone(),
            recognizes: self.unseen.is_some(),
        }
    }

    /// Number of features of a sample.
    pub fn features(&self) -> usize {
        self.schema.features.len()
    }

    /// Whether groups of unseen samples decide what becomes a task, after the bootstrap.
    pub fn defines_by_groups(&self) -> bool {
        self.unseen.as_ref().is_some_and(|rules| rules.attributes)
    }

    /// Rules of inference.
    pub fn inference_rules(&self) -> InferenceRules {
        self.config().inference.rules(self.label_kind())
    }

    /// Number of recent samples of a task among which a sample's neighbours are searched.
    pub fn neighbours(&self) -> usize {
        self.config().inference.used_neighbours()
    }

    /// Rules by which samples are retained.
    pub fn memory_rules(&self) -> MemoryRules {
        let memory = &self.config().memory;
        memory.rules(self.features(), self.classes.len())
    }

    /// Number of recent labelled samples that are kept of each task.
    pub fn recent_samples(&self) -> usize {
        let for_drift = if self.drift.any() {
            self.config().memory.recent_per_task
        } else {
            0
        };
        for_drift.max(self.neighbours())
    }

    /// Parts of the config that a knowledge base keeps the same from run to run: name and value.
    pub fn fingerprint(&self) -> Vec<(String, String)> {
        let path = &self.config().tasks.path;
        let mut parts = vec![(SCHEMA.to_string(), json(&self.schema))];
        // Listed before "task path", which contains it, so that an error names the cluster level.
        if let Some(level) = path.iter().find(|level| level.is_cluster()) {
            let what = "cluster level (its features or k)";
            parts.push((what.to_string(), json::<LevelConfig>(level)));
        }
        parts.push(("task path".to_string(), json(path)));
        let baselines = json(&self.config().report.baselines);
        parts.push(("baselines".to_string(), baselines));
        parts
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl TryFrom<ConfigFile> for Settings {
    type Error = ConfigError;

    fn try_from(loaded: ConfigFile) -> Result<Self, ConfigError> {
        let ConfigFile { config, places, .. } = &loaded;
        config.source.check_kind(places)?;
        config.labels.check(&config.source, places)?;
        config.source.check(config.role, places)?;
        let schema = schema(config.schema.as_ref(), &config.source, places)?;
        let Some(label) = &schema.label else {
            let message = "there is no label: add \"label\" with its column and classes, or its \
                           column and \"kind: number\"";
            return Err(places.error("schema", message));
        };
        let (kind, classes) = (label.kind(), label.classes.clone());
        let levels = config.tasks.levels(&schema, &config.bootstrap, places)?;
        check_outputs(config, places)?;
        if let Some(link) = link_of(config.role, config.link.as_ref(), places)? {
            check_link(config, link, &schema, places)?;
        }
        check_inputs(config, places)?;
        check_learning(config, schema.features.len(), places)?;
        let rules = config.triggers.rules(kind, &config.training, places)?;
        let has_density = config
            .unseen
            .as_ref()
            .is_some_and(UnseenConfig::has_density);
        let min_samples = config.training.min_samples;
        let drift = config.drift.rules(kind, min_samples, has_density, places)?;
        config.triggers.check_drift(drift.any(), places)?;
        let unseen = match &config.unseen {
            Some(unseen) => Some(unseen.rules(kind, places)?),
            None => None,
        };
        let arrival = config.labels.timing(places)?;
        let command = match &config.training.trainer {
            Some(trainer) => Some(trainer.command_line(places)?),
            None => None,
        };
        let training_timeout = config.training.order_limit(command.as_ref(), places)?;
        let has_label_topic = config.labels.kafka.is_some();
        let production = match &config.produce {
            Some(produce) => Some(produce.production(&schema, has_label_topic, places)?),
            None => None,
        };
        Ok(Settings {
            classes,
            rules,
            drift,
            unseen,
            arrival,
            command,
            training_timeout,
            production,
            share: config.share.policy(config.role, &schema, &levels, places)?,
            levels,
            schema,
            loaded,
        })
    }
}

/// Checks where results go.
fn check_outputs(config: &Config, places: &Places) -> Result<(), ConfigError> {
    if let Some(predictions) = &config.predictions {
        predictions.check(config.mode, places)?;
    }
    config.dead_letters.check(config.mode, places)?;
    let are_requested = config.label_requests.is_some();
    config.labels.check_requests(are_requested, places)?;
    match &config.label_requests {
        Some(requests) => requests.check(config.unseen.is_some(), config.mode, places),
        None => Ok(()),
    }
}

/// Checks the link, and at an edge the sections that an edge restricts.
fn check_link(
    config: &Config,
    link: &LinkConfig,
    schema: &Schema,
    places: &Places,
) -> Result<(), ConfigError> {
    if config.role == Role::Edge {
        link.check_edge(config.share.anything(), places)?;
        let message = "an edge takes models when they come: set live";
        places.require(config.mode == Mode::Live, "mode", message)?;
        config.share.check_models(link.train, places)?;
        if let Some(unseen) = config.unseen.as_ref().filter(|_| !link.train) {
            unseen.check_untrained(places)?;
        }
        config.report.check_edge(places)?;
        config.tasks.check_edge(places)?;
    } else {
        link.check_cloud(config.source.edges.is_some(), config.mode, schema, places)?;
    }
    link.check_connection(places)
}

/// Checks how samples come: Kafka, bootstrap, epochs and commits.
fn check_inputs(config: &Config, places: &Places) -> Result<(), ConfigError> {
    let has_output = config.output_topics().all().next().is_some();
    let kafka = config.kafka.as_ref();
    let commits = (config.mode, &config.commit);
    check_kafka(kafka, &config.source, has_output, commits, places)?;
    let (bootstrap, link) = (&config.bootstrap, config.link.as_ref());
    bootstrap.check(config.role, &config.share, link, places)?;
    config.epoch.check(places)?;
    config.commit.check(places)
}

/// Checks how is predicted and learned.
fn check_learning(config: &Config, features: usize, places: &Places) -> Result<(), ConfigError> {
    config.inference.check(places)?;
    config.triggers.check(places)?;
    config.training.check(places)?;
    config.gate.check(places)?;
    config.memory.check(features, places)
}
