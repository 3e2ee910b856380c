//! Quotas of donated models: how many tasks an edge may donate models of, and how many bytes these
//! have together. A later model of a task takes the place of the one before.

use std::collections::BTreeMap;

use perennial_operators::TaskId;

use super::rights::EdgeRights;

/// The models that an edge has donated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DonatedModels {
    /// Bytes of each model, by its task.
    models: BTreeMap<TaskId, u64>,
    /// Bytes of all models.
    bytes: u64,
}

impl DonatedModels {
    /// Adds a model of so many bytes.
    pub fn add(&mut self, task: TaskId, bytes: u64) {
        let before = self.models.insert(task, bytes).unwrap_or(0);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(bytes);
    }

    /// What the edge may not donate, if a model of so many bytes would be beyond its quota.
    pub(super) fn forbid(&self, task: TaskId, bytes: u64, rights: &EdgeRights) -> Option<String> {
        let before = self.models.get(&task).copied();
        let (most, most_bytes) = (rights.most_models, rights.most_model_bytes);
        if before.is_none() && self.models.len() >= most {
            return Some(format!("models of more than {most} tasks (most_models)"));
        }
        let left = self.bytes.saturating_sub(before.unwrap_or(0));
        (left.saturating_add(bytes) > most_bytes)
            .then(|| format!("models of more than {most_bytes} bytes together (most_model_bytes)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_one_task_count_once() {
        let rights = EdgeRights {
            most_models: 2,
            most_model_bytes: 100,
            ..EdgeRights::none()
        };
        let mut donated = DonatedModels::default();
        let mut donate = |task, bytes| {
            let forbidden = donated.forbid(TaskId(task), bytes, &rights);
            if forbidden.is_none() {
                donated.add(TaskId(task), bytes);
            }
            forbidden.is_none()
        };
        assert!(donate(1, 60) && donate(2, 40));
        assert!(!donate(3, 0) && !donate(2, 41));
        assert!(donate(1, 10) && donate(2, 90));
        assert!(!donate(1, u64::MAX) && donate(1, 10));
    }
}
