//! Effects: what an epoch does and what is committed with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::KnowledgeChange;
use super::intake::Intake;
use super::stage::{StageKind, StageMoved, StageState};
use super::training::{Deployment, TrainOrder, TrainOutcome};
use crate::data::{Epoch, SharedSamples};

/// Something that an epoch does and that is committed with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Input was read.
    Intake(Intake),
    /// Something was learned.
    Change(KnowledgeChange),
    /// The bytes of a model, stored under their hash.
    Model(String, Arc<Vec<u8>>),
    /// Predictions of a slice, ready to be written.
    Predictions {
        /// Sequence number of the first of them.
        first: u64,
        /// How many.
        rows: u64,
        /// In the output's format.
        bytes: Vec<u8>,
    },
    /// Samples of this epoch that still wait for their labels at its end.
    Pending {
        /// Sequence number of the last of them.
        last: u64,
        /// The samples, serialized by the join.
        bytes: Vec<u8>,
    },
    /// Samples of earlier epochs whose labels came in this one.
    Released {
        /// Once no sample up to this sequence number waits, this is no longer needed.
        last: u64,
        /// Their sequence numbers, serialized by the join.
        bytes: Vec<u8>,
    },
    /// Samples before this sequence number no longer wait on the sending worker.
    PendingFloor(u64),
    /// Labelled samples that are shared.
    Shared(SharedSamples),
    /// Predictions whose label will never be known.
    Unlabelled(u64),
    /// Predictions of samples that are taken for those of unseen tasks.
    Unseen(u64),
}

/// All effects of an epoch, in an order that does not depend on the number of workers.
#[derive(Clone, Debug)]
pub struct EpochEffects {
    /// The epoch.
    pub epoch: Epoch,
    /// What was read, if anything was.
    pub intake: Option<Intake>,
    /// What was learned, in canonical order.
    pub changes: Vec<KnowledgeChange>,
    /// New models.
    pub models: Vec<(String, Arc<Vec<u8>>)>,
    /// Predictions, slice by slice in input order.
    pub predictions: Vec<(u64, Vec<u8>)>,
    /// Samples that wait: the last sequence number of each slice, and the slice.
    pub pending: Vec<(u64, Vec<u8>)>,
    /// Samples that wait no more, list by list, each with the sequence number up to which it is needed.
    pub released: Vec<(u64, Vec<u8>)>,
    /// Labelled samples that are shared.
    pub shared: Vec<SharedSamples>,
    /// Nothing before this sequence number waits; none if the epoch says nothing of that, as one in which
    /// nothing is read.
    pub pending_floor: Option<u64>,
    /// Predictions whose label will never be known.
    pub unlabelled: u64,
    /// Predictions of samples that are taken for those of unseen tasks.
    pub unseen: u64,
}

impl From<KnowledgeChange> for Effect {
    fn from(change: KnowledgeChange) -> Self {
        Effect::Change(change)
    }
}

impl TrainOrder {
    /// The training stage, which waits from the epoch of its order on.
    pub fn into_effect(self) -> Effect {
        Effect::Change(KnowledgeChange::StageMoved(StageMoved {
            model: self.model,
            stage: StageKind::Train,
            state: StageState::Waiting,
            labelled: self.labelled,
            clock: self.clock,
            initial: self.initial,
            recent: self.recent,
            detail: self.reason,
        }))
    }
}

impl TrainOutcome {
    /// What is committed of the outcome: its changes and the bytes of its models.
    pub fn into_effects(self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.changes.into_iter().map(Effect::Change).collect();
        if let Some(Deployment::Deploy(model)) = self.deployment {
            effects.push(Effect::Model(model.hash, model.onnx));
        }
        let models = self.models.into_iter();
        effects.extend(models.map(|(hash, onnx)| Effect::Model(hash, onnx)));
        effects
    }
}
