//! The dataflow of Perennial: one operator a file, no input or output, each testable alone.
//!
//! Samples flow as [`Batch`]es of columns through [`allocate`](allocate::allocate),
//! [`infer`](infer::infer), [`join`](join::join) and on; what is learned flows as
//! [`KnowledgeChange`]s. The timestamp is the [`Epoch`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod algorithms;
pub mod commit;
pub mod data;
pub mod epochs;
pub mod flow;
pub mod ingest;
pub mod label;
pub mod learn;
pub mod predict;
pub mod share;
pub mod unseen;

pub use self::data::{
    Batch, Blobs, ClassRetained, ClusterPlan, Dictionary, Epoch, EpochsLater, LARGEST_NUMBER,
    LabelKind, Level, Losses, MISSING, MemoryBounded, ModelId, Moments, Offsets, OwnedRecord,
    RawRecord, RecentMoved, RecentSamples, RecordMetadata, RetainedSample, Rise, SITE,
    SamplesRetained, Score, SharedSamples, SharedStatistics, SharedTexts, Standing, TaskDefinition,
    TaskDifference, TaskId, TaskLevels, TaskPath, TaskPseudonym, TaskScores, Texts, TopicPartition,
    TrainRequest, TrainResponse, TreeParameters, View, id_number, in_scales, is_held_back,
    number_loss, priority, scale, sequence_of,
};

/// What went wrong, as the operators pass it on: they neither cause nor handle it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
