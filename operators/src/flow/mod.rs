//! Records that flow between operators.
//!
//! Floor 3 of the crate: it uses the data, and the algorithms whose results it carries, but no
//! operator.

mod batch;
mod change;
mod dead_letter;
mod effect;
mod feedback;
mod intake;
mod model;
mod order;
mod stage;
mod stored;
mod training;

use crate::data::Epoch;

/// A stream of one kind of record between operators.
pub type Flow<'scope, D> = timely::dataflow::StreamVec<'scope, Epoch, D>;

pub(crate) use self::batch::order_by_group;
pub use self::batch::{Allocated, Group, Labelled, LabelledEpoch, Predicted, predicted_class};
pub use self::change::{
    AdapterMoved, CalibrationMoved, EdgeReport, KnowledgeChange, StatisticsMoved,
};
pub use self::dead_letter::DeadLetter;
pub use self::effect::{Effect, EpochEffects};
pub use self::feedback::{Feedback, TaskUpdate};
pub use self::intake::{
    EarlyLabel, EdgeHistory, EdgeIncarnation, EdgeProgress, EpochHeader, Intake, MessageOffset,
    Phase, RecordsSkipped, RefusedMessages, SeenIds, Slice,
};
pub use self::model::{
    ModelDonated, ModelEvaluated, ModelTrained, RelationScored, Remodeling, Revision,
};
pub use self::order::ChangeOrder;
pub use self::stage::{StageKind, StageMoved, StageState};
pub use self::stored::{
    LeftWaiting, WaitingSample, forget_waiting, is_held_forgotten, waiting_samples, waiting_times,
};
pub(crate) use self::stored::{Stored, encode_released, released_sequences};
pub use self::training::{
    DeployedModel, Deployment, ModelFailure, Substitute, TrainOrder, TrainOutcome,
};
