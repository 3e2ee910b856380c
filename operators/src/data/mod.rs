//! Data types that every other module uses: samples, labels, tasks, scores, models' requests.
//!
//! Floor 1 of the crate: nothing here uses an algorithm, a stream or an operator.

mod epoch;
mod erasure;
mod hash;
mod label;
mod memory;
mod moments;
mod record;
mod sample;
mod score;
mod shared;
mod task;
mod trainer;

pub use self::epoch::{Epoch, EpochsLater};
pub use self::erasure::{ErasedSite, Erasure, Forgotten};
pub use self::hash::{id_number, is_held_back, priority, sequence_of};
pub use self::label::{LARGEST_FEATURE, LARGEST_NUMBER, LabelKind, in_scales, number_loss, scale};
pub use self::memory::{
    ClassRetained, MemoryBounded, RecentMoved, RecentSamples, RetainedSample, SamplesRetained,
};
pub use self::moments::Moments;
pub use self::record::{Blobs, Offsets, OwnedRecord, RawRecord, RecordMetadata, TopicPartition};
pub use self::sample::{Batch, Dictionary, MISSING, SITE, Texts};
pub use self::score::{Losses, Rise, Score, Standing, TaskDifference, TaskScores, View};
pub use self::shared::{SharedSamples, SharedStatistics, SharedTexts, TaskPseudonym};
pub use self::task::{ClusterPlan, Level, ModelId, TaskDefinition, TaskId, TaskLevels, TaskPath};
pub use self::trainer::{TrainRequest, TrainResponse, TreeParameters};
