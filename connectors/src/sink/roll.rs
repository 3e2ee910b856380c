//! Rolling: when an output file is finished, so that another one begins.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a file of an output is finished, and how many finished ones are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roll {
    /// Size at which a text file is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Number of rows at which a Parquet file is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Age at which a file that is not empty is finished, in live mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Number of finished files that are kept; the oldest are removed. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
}

impl Roll {
    /// These settings, with those of `default` where they have none.
    pub fn or(&self, default: &Roll) -> Roll {
        Roll {
            bytes: self.bytes.or(default.bytes),
            rows: self.rows.or(default.rows),
            seconds: self.seconds.or(default.seconds),
            keep: self.keep.or(default.keep),
        }
    }

    /// Whether a file that was begun at this time, seconds since 1970, is old enough.
    pub(super) fn is_old(&self, begun: i64) -> bool {
        let limit = self.seconds.map(|seconds| seconds as i64);
        limit.is_some_and(|limit| now().saturating_sub(begun) >= limit)
    }

    /// Removes the finished files that are more than are kept. Their numbers are from `oldest` to
    /// below `next`; returns the new `oldest`.
    pub(super) fn prune(
        &self,
        oldest: u64,
        next: u64,
        path: impl Fn(u64) -> PathBuf,
    ) -> std::io::Result<u64> {
        let Some(keep) = self.keep else {
            return Ok(oldest);
        };
        let kept = next.saturating_sub(keep).max(oldest);
        for number in oldest..kept {
            remove(&path(number))?;
        }
        Ok(kept)
    }
}

/// Removes a file, which somebody else may have removed already.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() as i64)
}
