//! First state of the stage unseen.

use perennial_operators::TaskId;
use perennial_operators::algorithms::unseen::{LabelBudget, Regions};
use perennial_operators::flow::TaskUpdate;
use perennial_operators::unseen::{GroupRules, Groups, HoldRules};

use super::{Restored, Shard};
use crate::config::Settings;

/// First state of the stage unseen.
pub struct UnseenStart {
    /// Groups of unseen samples; worker 0 keeps them all.
    pub groups: Groups,
    /// Rules by which labels are held back.
    pub rules: HoldRules,
    /// Updates about tasks so far, as the stage would have received them.
    pub updates: Vec<TaskUpdate>,
}

impl Restored {
    pub(super) fn start_unseen(&self, settings: &Settings, shard: Shard) -> Option<UnseenStart> {
        let rules = settings.unseen.as_ref()?;
        let requests = settings.config().label_requests.as_ref();
        let per_day = requests.map(|requests| requests.per_day);
        let group_rules = GroupRules {
            // A group without labels cannot be tried.
            known_after: rules.known_after.unsigned_abs().max(1),
            groups: rules.groups,
            false_alarm: rules.false_alarm,
            most_tasks: settings.config().tasks.most,
        };
        Some(UnseenStart {
            groups: self.groups(group_rules, per_day, shard.worker),
            rules: HoldRules {
                kind: settings.label_kind(),
                by_attributes: rules.attributes,
                requests_labels: per_day.is_some(),
            },
            updates: self.task_updates(),
        })
    }

    /// The updates about tasks that the knowledge base amounts to.
    fn task_updates(&self) -> Vec<TaskUpdate> {
        let (tasks, aliases, regions) = (&self.tasks, &self.aliases, &self.regions);
        let defined = tasks.iter().map(|task| TaskUpdate::Defined(task.task));
        let aliased = aliases
            .iter()
            .map(|(task, old)| TaskUpdate::Aliased(*task, old.clone()));
        let latest: Vec<(TaskId, bool)> = regions.latest().collect();
        let is_latest = |task: &TaskId| latest.iter().any(|(latest, _)| latest == task);
        let earlier = regions.present().filter(|task| !is_latest(task));
        let opened = earlier.chain(latest.iter().map(|(task, _)| *task));
        let closed = latest.iter().filter(|(_, is_closed)| *is_closed);
        defined
            .chain(aliased)
            .chain(opened.map(TaskUpdate::RegionOpened))
            .chain(closed.map(|(task, _)| TaskUpdate::RegionClosed(*task)))
            .collect()
    }

    /// Groups of unseen samples, all on worker 0, with a budget of `per_day` label requests a day.
    fn groups(&self, rules: GroupRules, per_day: Option<f64>, worker: usize) -> Groups {
        if worker > 0 {
            return Groups::restore(rules, Vec::new(), [], None, Regions::default());
        }
        let deviations = self.deviations.as_deref().unwrap_or_default();
        let budget =
            per_day.map(|per_day| LabelBudget::restore(per_day, deviations, self.asked.clone()));
        let tasks = self.tasks.iter().cloned();
        let regions = self.regions.clone();
        let mut groups = Groups::restore(rules, self.unseen.clone(), tasks, budget, regions);
        if let Some(reference) = &self.reference {
            groups.compare_with(reference.clone());
        }
        if let Some(calibration) = self.calibrator().calibration() {
            groups.calibrate(&calibration);
        }
        groups
    }
}
