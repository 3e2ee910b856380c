//! Defined tasks, as unseen ones are compared with them: those beside an unseen task.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::algorithms::recognize::Reference;
use crate::algorithms::unseen::TrialSample;
use crate::data::{TaskDefinition, TaskId, TaskPath};

/// Most tasks that an unseen task is tried on. Each may need a session of its own, and inference
/// waits for the trial.
const MOST_BESIDE: usize = 32;

/// The defined tasks below the base task, by the task above.
#[derive(Default)]
pub(super) struct DefinedTasks {
    below: FxHashMap<TaskId, BTreeMap<TaskId, TaskDefinition>>,
    count: usize,
}

impl DefinedTasks {
    /// Adds a task.
    pub fn insert(&mut self, task: TaskDefinition) {
        if let Some(parent) = task.parent {
            let below = self.below.entry(parent).or_default();
            if below.insert(task.task, task).is_none() {
                self.count += 1;
            }
        }
    }

    /// Number of tasks, the base task included.
    pub fn len(&self) -> usize {
        self.count + 1
    }

    /// Whether a task is defined.
    pub fn contains(&self, task: &TaskDefinition) -> bool {
        let below = task.parent.and_then(|parent| self.below.get(&parent));
        below.is_some_and(|below| below.contains_key(&task.task))
    }

    /// Whether a task has the same parent as the leaf of a path.
    pub fn has_siblings(&self, path: &TaskPath) -> bool {
        self.siblings(path).is_some()
    }

    fn siblings(&self, path: &TaskPath) -> Option<&BTreeMap<TaskId, TaskDefinition>> {
        self.below.get(&path.leaf().parent?)
    }

    /// Paths to the tasks that share the parent of a path's leaf; of more than [`MOST_BESIDE`],
    /// those whose known samples are nearest to the leaf's.
    pub fn nearest_siblings(
        &self,
        path: &TaskPath,
        samples: &[TrialSample],
        reference: Option<&Reference>,
    ) -> Vec<TaskPath> {
        let Some(siblings) = self.siblings(path) else {
            return Vec::new();
        };
        let mut nearest: Vec<&TaskDefinition> = siblings.values().collect();
        if nearest.len() > MOST_BESIDE {
            let features = samples.iter().map(|sample| sample.features.as_slice());
            let distances = reference.map(|reference| reference.distances(features));
            let distance = |task: &TaskDefinition| {
                let known = distances.as_ref().and_then(|of| of.get(&task.task));
                known.copied().unwrap_or(f32::INFINITY)
            };
            // A stable sort: tasks that are as far keep the order of their numbers.
            nearest.sort_by(|one, other| distance(one).total_cmp(&distance(other)));
            nearest.truncate(MOST_BESIDE);
            nearest.sort_unstable();
        }
        let above = &path.nodes[..path.nodes.len() - 1];
        let path_to = |task| TaskPath {
            nodes: above.iter().chain([task]).cloned().collect(),
        };
        nearest.into_iter().map(path_to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::recognize::ReferenceSample;

    fn site(number: usize) -> TaskDefinition {
        TaskDefinition::base().child(&[("site".to_string(), number.to_string())])
    }

    #[test]
    fn an_unseen_task_is_tried_on_the_nearest_tasks_alone() {
        let mut defined = DefinedTasks::default();
        let unseen = TaskPath {
            nodes: vec![TaskDefinition::base(), site(1000)],
        };
        assert!(!defined.has_siblings(&unseen));
        (0..60).for_each(|number| defined.insert(site(number)));
        // The samples of a task lie around its number.
        let features: Vec<(TaskId, [f32; 1])> = (0..60 * 20)
            .map(|at| (site(at % 60).task, [(at % 60) as f32]))
            .collect();
        let samples: Vec<ReferenceSample<'_>> = features
            .iter()
            .map(|(task, features)| ReferenceSample {
                task: *task,
                features,
            })
            .collect();
        let reference = Reference::of(&samples, |_| None).expect("samples");
        let held = [TrialSample {
            features: vec![59.0],
            label: 0.0,
            loss: 1.0,
        }];
        let beside = defined.nearest_siblings(&unseen, &held, Some(&reference));
        let mut names: Vec<String> = beside
            .iter()
            .map(|path| path.leaf().name.to_string())
            .collect();
        names.sort_unstable();
        let mut expected: Vec<String> = (28..60).map(|number| format!("site={number}")).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!((defined.len(), defined.contains(&site(3))), (61, true));
        assert!(!defined.contains(unseen.leaf()));
        // Without a reference there are as many.
        assert_eq!(
            defined.nearest_siblings(&unseen, &held, None).len(),
            MOST_BESIDE
        );
    }
}
