//! Effects: what an epoch does and what is committed with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::KnowledgeChange;
use super::intake::Intake;
use super::stage::{StageKind, StageMoved, StageState};
use super::training::{Deployment, TrainOrder, TrainOutcome};
use crate::data::{Epoch, SharedSamples};

/// Something that an epoch does, committed with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Input that was read.
    Intake(Intake),
    /// A fact that was learned.
    Change(KnowledgeChange),
    /// A model: the BLAKE3 hash of its ONNX bytes in hexadecimal, and the bytes, stored under it.
    Model(String, Arc<Vec<u8>>),
    /// Predictions of a slice, ready to be written.
    Predictions {
        /// Sequence number of the first.
        first: u64,
        /// Number of predictions.
        rows: u64,
        /// The predictions, in the output's format.
        bytes: Vec<u8>,
    },
    /// Samples of this epoch that wait for their labels at its end.
    Pending {
        /// Sequence number of the last.
        last: u64,
        /// The samples, serialized by the join.
        bytes: Vec<u8>,
    },
    /// Samples of earlier epochs that wait no longer, because their labels came in this one.
    Released {
        /// Once no sample up to this sequence number waits, the list can be dropped.
        last: u64,
        /// Sequence numbers of the samples, serialized by the join.
        bytes: Vec<u8>,
    },
    /// Sequence number before which no sample waits on the sending worker.
    PendingFloor(u64),
    /// Labelled samples to share.
    Shared(SharedSamples),
    /// Number of predictions whose labels will never be known.
    Unlabelled(u64),
    /// Number of samples recognized as unseen.
    Unseen(u64),
    /// Number of samples whose own task is not defined, since there are as many tasks as may be.
    Undefined(u64),
}

/// All effects of an epoch, in an order that does not depend on the number of workers.
#[derive(Clone, Debug)]
pub struct EpochEffects {
    /// The epoch.
    pub epoch: Epoch,
    /// Input that was read, if any.
    pub intake: Option<Intake>,
    /// Facts that were learned, by [`KnowledgeChange::order`].
    pub changes: Vec<KnowledgeChange>,
    /// New models: the hash of each and its ONNX bytes.
    pub models: Vec<(String, Arc<Vec<u8>>)>,
    /// Predictions, slice by slice in input order, each with its first sequence number.
    pub predictions: Vec<(u64, Vec<u8>)>,
    /// Samples that wait for labels, slice by slice, each with its last sequence number.
    pub pending: Vec<(u64, Vec<u8>)>,
    /// Samples that wait no longer, list by list, each with its `last`, as in [`Effect::Released`].
    pub released: Vec<(u64, Vec<u8>)>,
    /// Labelled samples to share.
    pub shared: Vec<SharedSamples>,
    /// Sequence number before which no sample waits; none if nothing was read in the epoch.
    pub pending_floor: Option<u64>,
    /// Number of predictions whose labels will never be known.
    pub unlabelled: u64,
    /// Number of samples recognized as unseen.
    pub unseen: u64,
    /// Number of samples whose own task is not defined.
    pub undefined: u64,
}

impl From<KnowledgeChange> for Effect {
    fn from(change: KnowledgeChange) -> Self {
        Effect::Change(change)
    }
}

impl TrainOrder {
    /// Turns the order into its training stage, which waits from this epoch on.
    pub fn into_effect(self) -> Effect {
        KnowledgeChange::StageMoved(StageMoved {
            model: self.model,
            stage: StageKind::Train,
            state: StageState::Waiting,
            labelled: self.labelled,
            clock: self.clock,
            initial: self.initial,
            recent: self.recent,
            detail: self.reason,
        })
        .into()
    }
}

impl TrainOutcome {
    /// Turns the outcome into what is committed of it: its changes and the bytes of its models.
    pub fn into_effects(self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.changes.into_iter().map(Effect::from).collect();
        if let Some(Deployment::Deploy(model)) = self.deployment {
            effects.push(Effect::Model(model.hash, model.onnx));
        }
        let models = self.models.into_iter();
        effects.extend(models.map(|(hash, onnx)| Effect::Model(hash, onnx)));
        effects
    }
}
