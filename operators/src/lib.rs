//! The dataflow of Perennial: one operator a file, no input or output, each testable alone.
//!
//! Samples flow as [`Batch`]es of columns, facts that are learned as [`KnowledgeChange`]s. The
//! timestamp is the [`Epoch`]. What flows lies below, what acts lies above; each floor uses only
//! the floors below it, and no stage uses another.
//!
//! | floor | holds |
//! | --- | --- |
//! | stages | the operators, by stage of the loop |
//! | [`epochs`] | three verbs on streams, with which operators are written |
//! | [`flow`] | records that flow between operators |
//! | [`algorithms`] | algorithms without streams, each with its source |
//! | [`data`] | samples, tasks, scores, and other words that every floor uses |
//!
//! | stage | operators |
//! | --- | --- |
//! | [`ingest`] | [`source`], [`allocate`], [`define`] |
//! | [`predict`] | [`infer`], [`calibrate`], [`render`] |
//! | [`label`] | [`join`] |
//! | [`share`] | [`share`](share::share) |
//! | [`unseen`] | [`hold`], [`group`], [`known`] |
//! | [`learn`] | [`summarize`], [`statistics`], [`strangeness`], [`drift`], [`adapt`], [`recent`] |
//! | | [`retain`], [`trigger`], [`train`], [`receive`] |
//! | [`commit`] | [`commit`](commit::commit) |
//!
//! What [`learn`] yields comes back as [`Feedback`] and [`TaskUpdate`]s, and is in force one epoch
//! later.
//!
//! [`KnowledgeChange`]: flow::KnowledgeChange
//! [`Feedback`]: flow::Feedback
//! [`TaskUpdate`]: flow::TaskUpdate
//! [`source`]: ingest::source
//! [`allocate`]: ingest::allocate
//! [`define`]: ingest::define
//! [`infer`]: predict::infer
//! [`calibrate`]: predict::calibrate
//! [`render`]: predict::render
//! [`join`]: label::join
//! [`hold`]: unseen::hold
//! [`group`]: unseen::group
//! [`known`]: unseen::known
//! [`summarize`]: learn::summarize
//! [`statistics`]: learn::statistics
//! [`strangeness`]: learn::strangeness
//! [`drift`]: learn::drift
//! [`adapt`]: learn::adapt
//! [`recent`]: learn::recent
//! [`retain`]: learn::retain
//! [`trigger`]: learn::trigger
//! [`train`]: learn::train
//! [`receive`]: learn::receive

pub mod algorithms;
pub mod commit;
pub mod data;
pub mod epochs;
mod error;
pub mod flow;
pub mod ingest;
pub mod label;
pub mod learn;
mod pauses;
pub mod predict;
pub mod share;
pub mod unseen;

pub use self::data::{
    Batch, Blobs, ClassRetained, ClusterPlan, Dictionary, Epoch, EpochsLater, ErasedSite, Erasure,
    Forgotten, LARGEST_FEATURE, LARGEST_NUMBER, LabelKind, Level, Losses, MISSING, MemoryBounded,
    ModelId, Moments, Offsets, OwnedRecord, RawRecord, RecentMoved, RecentSamples, RecordMetadata,
    RetainedSample, Rise, SITE, SamplesRetained, Score, SharedSamples, SharedStatistics,
    SharedTexts, Standing, TaskDefinition, TaskDifference, TaskId, TaskLevels, TaskPath,
    TaskPseudonym, TaskScores, Texts, TopicPartition, TrainRequest, TrainResponse, TreeParameters,
    View, id_number, in_scales, is_held_back, number_loss, priority, scale, sequence_of,
};
pub use self::error::{Failure, OperatorError};
