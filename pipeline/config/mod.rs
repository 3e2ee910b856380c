//! The configuration: one YAML file launches one pipeline.

mod bootstrap;
mod condition;
mod drift;
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

use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::schema::Schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::bootstrap::BootstrapConfig;
pub use self::drift::{DetectorConfig, DriftConfig};
pub use self::epoch::{CommitConfig, EpochConfig, Mode};
pub use self::file::{ConfigFile, load};
pub use self::inference::{BaselineConfig, InferenceConfig, IntegrationConfig, ReportConfig};
pub use self::labels::{DelayConfig, LabelsConfig};
pub use self::link::{CanaryConfig, LinkConfig, OutboxConfig, Role, Shed};
pub use self::memory::MemoryConfig;
pub use self::outputs::{DeadLetterTopic, DeadLettersConfig, PredictionsConfig};
pub use self::places::ConfigError;
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

/// A pipeline: where samples come from, how tasks are made of them, how models are trained and when,
/// and where predictions go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the pipeline, for people.
    pub name: String,
    /// `replay` waits for training in the order of the stream, so that the same input gives the same
    /// predictions; `live` never waits.
    #[serde(default)]
    pub mode: Mode,
    /// The part that the pipeline plays.
    #[serde(default)]
    pub role: Role,
    /// The link between cloud and edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkConfig>,
    /// What an edge shares with the cloud.
    #[serde(default)]
    pub share: ShareConfig,
    /// The columns of a sample. The simulator brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// How to reach Kafka, if samples, labels or results are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConfig>,
    /// Where samples come from.
    pub source: SourceConfig,
    /// How tasks are made from samples.
    pub tasks: TasksConfig,
    /// The labelled head of the stream that trains the first models and is not scored. An edge that shares samples may have one,
    /// for the cloud to train its first models on.
    #[serde(default)]
    pub bootstrap: BootstrapConfig,
    /// When labels become known.
    #[serde(default)]
    pub labels: LabelsConfig,
    /// The unit of replay.
    #[serde(default)]
    pub epoch: EpochConfig,
    /// How predictions are made.
    #[serde(default)]
    pub inference: InferenceConfig,
    /// How much of the past is retained.
    #[serde(default)]
    pub memory: MemoryConfig,
    /// How models are trained.
    #[serde(default)]
    pub training: TrainingConfig,
    /// What a new model must not do.
    #[serde(default)]
    pub gate: GateConfig,
    /// When models are trained.
    #[serde(default)]
    pub triggers: TriggersConfig,
    /// How drift is looked for.
    #[serde(default)]
    pub drift: DriftConfig,
    /// How samples of unseen tasks are recognized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<UnseenConfig>,
    /// Which labels are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_requests: Option<LabelRequestsConfig>,
    /// How often the state is made durable.
    #[serde(default)]
    pub commit: CommitConfig,
    /// Where predictions are written; left out, they are only scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionsConfig>,
    /// Where records are written that could not be used.
    #[serde(default)]
    pub dead_letters: DeadLettersConfig,
    /// What the report compares with.
    #[serde(default)]
    pub report: ReportConfig,
    /// What `perennial produce` sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produce: Option<ProduceConfig>,
}
