//! Batches of samples on their way: allocated to tasks, predicted, labelled.

use std::rc::Rc;
use std::sync::Arc;

use ndarray::Array2;

use super::intake::EpochHeader;
use crate::algorithms::pool::Pool;
use crate::algorithms::recognize::Recognized;
use crate::algorithms::unseen::TrialResult;
use crate::data::{Batch, TaskPath};

/// Counting sort of the row numbers by group.
pub(crate) fn order_by_group(group_of: &[u32], groups: &[Group]) -> Vec<u32> {
    let mut next: Vec<usize> = groups.iter().map(|group| group.start).collect();
    let mut order = vec![0; group_of.len()];
    for (row, group) in group_of.iter().enumerate() {
        let place = &mut next[*group as usize];
        order[*place] = row as u32;
        *place += 1;
    }
    order
}

/// The rows of a batch that belong to one finest task.
#[derive(Clone, Debug)]
pub struct Group {
    /// The way from the base task to the finest.
    pub path: Rc<TaskPath>,
    /// Where the group's rows begin in [`Allocated::order`].
    pub start: usize,
    /// Where they end.
    pub end: usize,
}

/// A batch whose rows are allocated to tasks.
#[derive(Clone, Debug)]
pub struct Allocated {
    /// The epoch.
    pub header: EpochHeader,
    /// The samples.
    pub batch: Batch,
    /// The groups, by first appearance.
    pub groups: Vec<Group>,
    /// Row numbers, group by group, ascending within each.
    pub order: Vec<u32>,
    /// For each row the number of its group.
    pub group_of: Vec<u32>,
    /// See [`Slice::labels`](super::intake::Slice::labels).
    pub labels: Arc<Vec<(u64, f32)>>,
}

impl Allocated {
    /// The same rows, some of them on other paths.
    pub(crate) fn moved(self, to: &[Option<&TaskPath>]) -> Allocated {
        let mut paths: Vec<Rc<TaskPath>> =
            self.groups.into_iter().map(|group| group.path).collect();
        let mut group_of = self.group_of;
        for (group, path) in group_of.iter_mut().zip(to) {
            let Some(path) = path else { continue };
            let known = paths.iter().position(|known| **known == **path);
            *group = known.unwrap_or(paths.len()) as u32;
            if known.is_none() {
                paths.push(Rc::new((*path).clone()));
            }
        }
        // Some may be left without rows, and groups are numbered by first appearance.
        let mut places = vec![u32::MAX; paths.len()];
        let mut groups: Vec<Group> = Vec::new();
        for group in &mut group_of {
            let place = &mut places[*group as usize];
            if *place == u32::MAX {
                *place = groups.len() as u32;
                let path = paths[*group as usize].clone();
                groups.push(Group {
                    path,
                    start: 0,
                    end: 0,
                });
            }
            *group = *place;
            groups[*place as usize].end += 1;
        }
        let mut start = 0;
        for group in &mut groups {
            (group.start, group.end) = (start, start + group.end);
            start = group.end;
        }
        Allocated {
            order: order_by_group(&group_of, &groups),
            groups,
            group_of,
            ..self
        }
    }
}

/// A batch with its predictions. In the bootstrap nothing is predicted and the arrays are empty.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// The samples and their tasks.
    pub allocated: Rc<Allocated>,
    /// Class probabilities: one row a sample, one column a class. Where the label is a number, one column with it.
    pub probabilities: Array2<f32>,
    /// For each group, how the outputs of the models along its path are pooled into one prediction.
    pub pools: Vec<Rc<Pool>>,
    /// Outputs of these models and of the neighbours: one row a sample; for each member of its
    /// group's pool, one column a class, or a single one for a number.
    pub outputs: Array2<f32>,
    /// The baselines' predictions for the same samples, in the order of the config.
    pub baselines: Vec<Array2<f32>>,
    /// Verdicts on which samples are of unseen tasks, if they are recognized.
    pub recognized: Option<Recognized>,
    /// Results of the trials of unseen tasks in this epoch.
    pub trials: Vec<TrialResult>,
}

impl Predicted {
    /// Whether the batch was predicted, not only read.
    pub fn is_predicted(&self) -> bool {
        self.probabilities.nrows() == self.allocated.batch.len() && !self.pools.is_empty()
    }

    /// Number of samples that are taken for those of unseen tasks; none if it is zero or not looked at.
    pub fn count_unseen(&self) -> Option<u64> {
        let unseen = self.recognized.as_ref()?.unseen.iter();
        let count = unseen.filter(|unseen| **unseen).count() as u64;
        (count > 0).then_some(count)
    }

    /// Leaves the samples to the first so many tasks of their paths.
    pub(crate) fn cut(&mut self, nodes: usize) {
        for group in &mut Rc::make_mut(&mut self.allocated).groups {
            Rc::make_mut(&mut group.path).nodes.truncate(nodes);
        }
        for pool in &mut self.pools {
            Rc::make_mut(pool).cut(nodes);
        }
    }
}

/// The class with the highest probability, the first of equals; what a prediction says.
pub fn predicted_class(probabilities: ndarray::ArrayView1<'_, f32>) -> usize {
    let mut best = 0;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = class;
        }
    }
    best
}

/// Rows of one batch whose labels became known.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The batch and its predictions.
    pub predicted: Rc<Predicted>,
    /// Which rows.
    pub rows: Vec<u32>,
    /// Their class numbers, or numbers, one a row of `rows`.
    pub labels: Vec<f32>,
}

/// All labels that became known to one worker in an epoch.
#[derive(Clone, Debug)]
pub struct LabelledEpoch {
    /// Their batches, oldest first.
    pub batches: Vec<Labelled>,
}
