//! Stage 5, learn: learns statistics, drift, adapters and memory from labels, and orders trainings.

mod adapt;
mod drift;
mod receive;
mod recent;
mod retain;
mod statistics;
mod strangeness;
mod summarize;
mod train;
mod trigger;

pub use self::adapt::adapt;
pub use self::drift::drift;
pub use self::receive::{FirstModelGate, OutcomeQueue, receive};
pub use self::recent::{WindowEpochs, recent};
pub use self::retain::{MemoryRules, RestoredMemory, retain};
pub use self::statistics::{RestoredStatistics, Summary, Window, statistics};
pub use self::strangeness::strangeness;
pub use self::summarize::{summarize, summary};
pub use self::train::{Training, TrainingMode, train};
pub use self::trigger::{
    Comparison, Metric, Schedule, TaskTraining, Trigger, TriggerEvent, TriggerRules, Watch, trigger,
};
