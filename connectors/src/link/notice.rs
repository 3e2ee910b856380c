//! Notices of the cloud to an edge about what the edge shares.

use perennial_operators::flow::EdgeHistory;
use serde::{Deserialize, Serialize};

use super::envelope::{LinkMessage, decode_whole};
use super::now;

/// Beginning of the keys of notices. No task's key begins so.
const KEY: &str = "edge/";

/// A notice: what was wrong, so far, with what an edge shared. A later one replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeNotice {
    /// Name of the edge.
    pub edge: String,
    /// When it was sent, microseconds since 1970 by the cloud's clock.
    pub sent: i64,
    /// Number of times that a restored or second copy of its state shared changes.
    pub forks: u64,
    /// Number of times that it came with a new state.
    pub renewals: u64,
    /// Number of changes, at most, that never came.
    pub lost: u64,
    /// Number of samples that may have been taken in twice.
    pub repeated: u64,
}

impl LinkMessage for EdgeNotice {
    const VERSION: u16 = 1;

    fn decode(_: u16, bytes: &[u8]) -> Option<EdgeNotice> {
        decode_whole(bytes)
    }
}

impl EdgeNotice {
    /// A notice about an edge, if anything is wrong.
    pub fn about(edge: &str, history: &EdgeHistory) -> Option<EdgeNotice> {
        let is_wrong = history.forks + history.renewals + history.lost > 0;
        is_wrong.then(|| EdgeNotice {
            edge: edge.to_string(),
            sent: now(),
            forks: history.forks,
            renewals: history.renewals,
            lost: history.lost,
            repeated: history.repeated,
        })
    }

    /// The key of its message.
    pub fn key(&self) -> String {
        format!("{KEY}{}", self.edge)
    }

    /// Whether a message has a notice's key.
    pub(super) fn has_key(key: &[u8]) -> bool {
        key.starts_with(KEY.as_bytes())
    }

    /// Logs it, at its edge.
    pub(super) fn log(&self) {
        let EdgeNotice {
            forks,
            renewals,
            lost,
            repeated,
            ..
        } = self;
        tracing::warn!(
            forks,
            renewals,
            lost,
            repeated,
            "the cloud has found that this edge's state was restored from a copy, is in use twice, \
             or was made anew, or that changes never arrived: run one process on one state, and see \
             \"perennial status\" in the cloud"
        );
    }
}
