//! The configuration: one YAML file launches one pipeline.

mod check;
mod condition;
mod drift;
mod link;
mod load;
mod produce;
mod requests;
mod share;
mod tasks;
mod trainer;
mod training;
mod unseen;

use std::path::PathBuf;

use perennial_connectors::kafka::{KafkaConfig, TopicConfig};
use perennial_connectors::sink::Format;
use perennial_connectors::sink::kafka::OutputTopics;
use perennial_connectors::source::edges::EdgesConfig;
use perennial_connectors::source::file::Format as FileFormat;
use perennial_connectors::source::kafka::SamplesConfig;
use perennial_connectors::source::{Schema, SimulatorConfig};
use perennial_operators::algorithms::pool::Integration;
use perennial_operators::predict::Baseline;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::check::{Settings, find_attribute};
pub use self::drift::{DetectorConfig, DriftConfig};
pub use self::link::{CanaryConfig, LinkConfig, OutboxConfig, Role, Shed};
pub use self::load::{ConfigError, Loaded, load};
pub use self::produce::{ProduceConfig, Production};
pub use self::requests::LabelRequestsConfig;
pub use self::share::ShareConfig;
pub use self::tasks::{ClusterConfig, ClusterLevel, LevelConfig};
pub use self::trainer::TrainerConfig;
pub use self::training::{CandidateConfig, TrainingConfig};
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

impl Config {
    /// The topics that results go to.
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

    /// The consumer group.
    pub fn group(&self) -> &str {
        let given = self.kafka.as_ref().and_then(|kafka| kafka.group.as_ref());
        given.unwrap_or(&self.name)
    }
}

/// See [`Config::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Training is part of the order of epochs.
    #[default]
    Replay,
    /// Inference goes on while models train.
    Live,
}

/// A file of samples, a topic, what edges share, or the simulator: `path`, `kafka`, `edges` or `simulator`, one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A CSV, JSON Lines or Parquet file; text may be gzipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The file's format, when its name does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A topic of samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<SamplesConfig>,
    /// A text record or a message of more bytes is a dead letter. Default: 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record_bytes: Option<usize>,
    /// An id that was seen within this many records is a duplicate. Default: 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates_within: Option<usize>,
    /// In the cloud: what edges share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesConfig>,
    /// A simulated fleet of sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<SimulatorConfig>,
    /// At most this many records a second. Default: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

/// How tasks are made from samples.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    /// The levels of the task tree below the base task, from coarse to fine.
    pub path: Vec<LevelConfig>,
}

/// The head of the stream for the initial training: `share` or `records`, one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Share of a bounded stream's records, between 0 and 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Number of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl BootstrapConfig {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.share.is_none() && self.records.is_none()
    }
}

/// When labels become known.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// A file of labels, if the samples do not carry them; all of it is held in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The label file's format, when its name does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A topic of labels, if the samples do not carry them. A label is known when it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// The column with the sample's id, where labels are apart. Default: as in the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How long after its sample a label is known, where they are in files.
    #[serde(default)]
    pub delay: DelayConfig,
    /// Whether only labels that are asked for become known (`label_requests`), as where people give them: a
    /// recorded stream then shows what asking would have brought.
    #[serde(default)]
    pub on_request: bool,
    /// How long a sample waits for its label, and a label for its sample, where labels have a topic.
    /// Seconds are counted from when it was read. Default: 100,000 records.
    #[serde(default)]
    pub wait: DelayConfig,
}

/// A length of time: `records` or `seconds`, at most one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayConfig {
    /// Once this many later samples were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Once the stream's event time has moved on by this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// The unit of replay: models change between epochs only.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EpochConfig {
    /// Records in an epoch.
    pub records: u64,
    /// How many epochs the source may be ahead of what is committed or on its way there.
    pub in_flight: u64,
    /// In live mode, an epoch holds what comes in so many milliseconds: from Kafka, or at `source.rate`.
    pub tick_ms: u64,
    /// An epoch from Kafka holds at most so many bytes of records.
    pub bytes: usize,
}

impl Default for EpochConfig {
    fn default() -> Self {
        EpochConfig {
            records: 4096,
            in_flight: 4,
            tick_ms: 10,
            bytes: 1 << 20,
        }
    }
}

/// How predictions are made.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// How the models and adapters along a sample's path become one answer.
    pub integration: IntegrationConfig,
    /// Whether each task learns from its labels to correct the model that answers for it.
    pub adapters: bool,
    /// Among how many of the latest labelled samples of a task, and of the one above it, a sample's neighbours are
    /// looked for; 0 does without. It needs `adapters`.
    pub neighbours: usize,
    /// The most memory that models which are ready to answer may take, over all workers. Where they need more, those
    /// that were asked last are ready, and the others are made ready when they are asked.
    pub memory_bytes: usize,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        InferenceConfig {
            integration: IntegrationConfig::default(),
            adapters: true,
            neighbours: 128,
            memory_bytes: 256 << 20,
        }
    }
}

/// See [`InferenceConfig::integration`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationConfig {
    /// The finest task of the path answers, with the model of its nearest ancestor that has one.
    Leaf,
    /// All along the path count the same.
    Average,
    /// Each along the path counts by how well it did lately on the finest task.
    #[default]
    Weighted,
}

impl From<IntegrationConfig> for Integration {
    fn from(config: IntegrationConfig) -> Self {
        match config {
            IntegrationConfig::Leaf => Integration::Leaf,
            IntegrationConfig::Average => Integration::Average,
            IntegrationConfig::Weighted => Integration::Weighted,
        }
    }
}

/// How much of the past is retained for training and judging.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Labelled samples retained for each finest task, shared out evenly among the classes; at most.
    pub samples_per_task: usize,
    /// The latest labelled samples of each finest task that are kept beside, to learn from after drift. Without
    /// `drift.detectors`, only as many are kept as `inference.neighbours` has it.
    pub recent_per_task: usize,
    /// The most bytes of all retained samples; each counts 48, and 4 more for each feature. Where tasks want more, the
    /// largest give up samples first.
    pub bytes: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            samples_per_task: 2000,
            recent_per_task: 500,
            bytes: 1 << 30,
        }
    }
}

/// What a new model must not do.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// No model is deployed that raises the mean loss of a task for which it answers by more than this, in nats.
    pub margin: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        GateConfig { margin: 0.05 }
    }
}

/// When models are trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TriggersConfig {
    /// Conditions `metric operator threshold`; a task trains when one of them holds for it. Metrics:
    /// `new_samples`, `model_age` (with a unit: `12h`), `drift` (alone); for classes `accuracy`, `accuracy_drop`, `log_loss`; for a
    /// number `mae`, `rmse`, `rmse_rise`.
    pub when: Vec<String>,
    /// Scored labels of a task that its windowed metrics look at: the latest ones, rounded up to
    /// whole epochs.
    pub window: u64,
    /// Time of the stream's clock between two looks, such as `30s`, `15m`, `1h`, `1d`. Default: look
    /// at every epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_every: Option<String>,
    /// Daily time window in which triggers are looked at, UTC, such as `02:00-20:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<String>,
}

impl Default for TriggersConfig {
    fn default() -> Self {
        TriggersConfig {
            when: vec!["new_samples >= 1000".to_string()],
            window: 500,
            check_every: None,
            between: None,
        }
    }
}

/// How often the state is made durable.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// At most this many epochs are committed together.
    pub epochs: usize,
    /// In live mode, an epoch waits at most this long for its commit, milliseconds.
    pub interval_ms: u64,
}

impl Default for CommitConfig {
    fn default() -> Self {
        CommitConfig {
            epochs: 32,
            interval_ms: 100,
        }
    }
}

/// Where predictions are written: `path` or `kafka`, one of them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictionsConfig {
    /// The file; for Parquet a folder that gets one file a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Or a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// The format, when the name does not tell. Default: JSON Lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// Where records are written that could not be used.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersConfig {
    /// A JSON Lines file. Default, without a topic: `dead-letters.jsonl` in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Or a topic, which gets the records byte for byte, the reason in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<DeadLetterTopic>,
}

/// A topic of records as they came.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterTopic {
    /// The topic's name.
    pub topic: String,
}

/// What the report compares with.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportConfig {
    /// Baselines that are scored on the same samples.
    #[serde(default)]
    pub baselines: Vec<BaselineConfig>,
}

/// See [`ReportConfig::baselines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineConfig {
    /// The base model of the bootstrap, never changed.
    Frozen,
    /// One single model for all tasks, retrained on the base task's triggers.
    Single,
}

impl BaselineConfig {
    /// The name in the config and in the report.
    pub fn name(self) -> &'static str {
        match self {
            BaselineConfig::Frozen => "frozen",
            BaselineConfig::Single => "single",
        }
    }
}

impl From<BaselineConfig> for Baseline {
    fn from(config: BaselineConfig) -> Self {
        match config {
            BaselineConfig::Frozen => Baseline::Frozen,
            BaselineConfig::Single => Baseline::Single,
        }
    }
}
