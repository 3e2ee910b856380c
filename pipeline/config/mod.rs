//! Configuration: one YAML file describes one pipeline.
//!
//! Each section has a file of its own with its keys, defaults and checks. Only [`Settings`] sees
//! the whole config: it runs the checks in order and gives each what it needs.

mod bootstrap;
mod condition;
mod drift;
mod edge;
mod epoch;
mod file;
mod inference;
mod kafka;
mod labels;
mod link;
mod memory;
mod outputs;
mod places;
mod produce;
mod requests;
mod schema;
mod settings;
mod share;
mod source;
mod tasks;
mod trainer;
mod training;
mod triggers;
mod unseen;
mod yaml;

use perennial_connectors::kafka::{KafkaConfig, TopicFormat};
use perennial_connectors::schema::Schema;
use perennial_connectors::sink::kafka::OutputTopics;
use perennial_connectors::source::kafka::SamplesConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::bootstrap::BootstrapConfig;
pub(crate) use self::condition::clock_seconds;
pub use self::drift::{DetectorConfig, DriftConfig};
pub use self::edge::{EdgeConfig, EdgeKeyConfig, EdgeRightsConfig};
pub use self::epoch::{CommitConfig, EpochConfig, Mode};
pub use self::file::{ConfigFile, load};
pub use self::inference::{BaselineConfig, InferenceConfig, IntegrationConfig, ReportConfig};
pub use self::labels::{DelayConfig, LabelsConfig};
pub use self::link::{CanaryConfig, LinkConfig, OutboxConfig, Role, Shed};
pub use self::memory::MemoryConfig;
pub use self::outputs::{DeadLetterTopic, DeadLettersConfig, PredictionsConfig};
pub use self::places::ConfigError;
pub(crate) use self::places::did_you_mean;
pub use self::produce::{ProduceConfig, Production};
pub use self::requests::LabelRequestsConfig;
pub use self::schema::find_attribute;
pub use self::settings::Settings;
pub use self::share::ShareConfig;
pub use self::source::SourceConfig;
pub use self::tasks::{ClusterConfig, ClusterLevel, LevelConfig, TasksConfig};
pub use self::trainer::TrainerConfig;
pub use self::training::{CandidateConfig, TrainingConfig};
pub use self::triggers::{GateConfig, TriggersConfig};
pub use self::unseen::UnseenConfig;
pub(crate) use self::yaml::read_yaml;

/// A pipeline: where samples come from, how tasks are made of them, how and when models are
/// trained, and where predictions go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the pipeline, shown in logs and reports.
    pub name: String,
    /// `replay` waits for training in the order of the stream, so that the same input gives the
    /// same predictions; `live` never waits.
    #[serde(default)]
    pub mode: Mode,
    /// Role of the pipeline: alone, at an edge or in the cloud.
    #[serde(default)]
    pub role: Role,
    /// Link between cloud and edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkConfig>,
    /// What an edge shares with the cloud.
    #[serde(default)]
    pub share: ShareConfig,
    /// Columns of a sample. Left out with the simulator, which has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// Connection to Kafka, required if samples, labels or results are on topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConfig>,
    /// Where samples come from.
    pub source: SourceConfig,
    /// How tasks are made from samples.
    pub tasks: TasksConfig,
    /// Labelled head of the stream that trains the first models and is not scored. An edge may have
    /// one if it shares samples, for the cloud to train its first models on, or if it trains
    /// itself.
    #[serde(default)]
    pub bootstrap: BootstrapConfig,
    /// Where labels come from and when they become known.
    #[serde(default)]
    pub labels: LabelsConfig,
    /// Unit of replay.
    #[serde(default)]
    pub epoch: EpochConfig,
    /// How predictions are made.
    #[serde(default)]
    pub inference: InferenceConfig,
    /// How many samples are retained.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// How models are trained.
    #[serde(default)]
    pub training: TrainingConfig,
    /// What keeps a new model from being deployed.
    #[serde(default)]
    pub gate: GateConfig,
    /// When models are trained.
    #[serde(default)]
    pub triggers: TriggersConfig,
    /// How drift is detected.
    #[serde(default)]
    pub drift: DriftConfig,
    /// How samples of unseen tasks are recognized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<UnseenConfig>,
    /// Which labels are requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_requests: Option<LabelRequestsConfig>,
    /// How often the state is made durable.
    #[serde(default)]
    pub commit: CommitConfig,
    /// Where predictions are written. Left out, they are scored but not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionsConfig>,
    /// Where unusable records are written.
    #[serde(default)]
    pub dead_letters: DeadLettersConfig,
    /// Baselines of the report.
    #[serde(default)]
    pub report: ReportConfig,
    /// What `perennial produce` sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produce: Option<ProduceConfig>,
}

impl Config {
    /// Consumer group of the pipeline.
    pub fn group(&self) -> &str {
        let given = self.kafka.as_ref().and_then(|kafka| kafka.group.as_ref());
        given.unwrap_or(&self.name)
    }

    /// Topics that results are written to.
    pub fn output_topics(&self) -> OutputTopics {
        let predictions = self.predictions.as_ref();
        let requests = self.label_requests.as_ref();
        OutputTopics {
            label_requests: requests
                .and_then(|requests| requests.kafka.as_ref())
                .map(|kafka| kafka.topic.clone()),
            predictions: predictions
                .and_then(|predictions| predictions.kafka.as_ref())
                .map(|kafka| kafka.topic.clone()),
            dead_letters: self
                .dead_letters
                .kafka
                .as_ref()
                .map(|kafka| kafka.topic.clone()),
        }
    }

    /// Whether any topic has Avro without a schema of its own, so that the registry has it.
    pub fn uses_registry(&self) -> bool {
        let predictions = self.predictions.as_ref();
        let topics = [
            self.source.kafka.as_ref().map(SamplesConfig::to_topic),
            self.labels.kafka.clone(),
            predictions.and_then(|predictions| predictions.kafka.clone()),
        ];
        let mut topics = topics.into_iter().flatten();
        topics.any(|topic| topic.format == TopicFormat::Avro && topic.schema.is_none())
    }
}
