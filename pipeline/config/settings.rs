//! What a config means, once it is known to make sense.

use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::knowledge_base::SCHEMA;
use perennial_connectors::schema::Schema;
use perennial_connectors::sink::Layout;
use perennial_connectors::trainer::CommandLine;
use perennial_operators::algorithms::drift::DriftRules;
use perennial_operators::algorithms::recognize::RecognitionRules;
use perennial_operators::label::LabelTiming;
use perennial_operators::learn::TriggerRules;
use perennial_operators::share::SharePolicy;
use perennial_operators::{LabelKind, TaskLevels};

use super::bootstrap::check_bootstrap;
use super::kafka::check_kafka;
use super::labels::arrival;
use super::memory::check_memory;
use super::outputs::check_outputs;
use super::produce::{Production, production};
use super::schema::schema;
use super::source::check_source;
use super::tasks::levels;
use super::trainer::command_line;
use super::training::check_training;
use super::triggers::rules;
use super::{
    Config, ConfigError, ConfigFile, LevelConfig, Role, drift, link, requests, share, unseen,
};

/// Records that a sample on a topic waits for its label, where nothing is said.
pub(crate) const DEFAULT_WAIT: u64 = 100_000;

/// A config that makes sense, and what follows from it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The config as it was loaded.
    pub loaded: ConfigFile,
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
    pub arrival: LabelTiming,
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

impl TryFrom<ConfigFile> for Settings {
    type Error = ConfigError;

    fn try_from(loaded: ConfigFile) -> Result<Self, ConfigError> {
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
