//! Batches of samples: allocated to tasks, predicted, labelled.

use std::rc::Rc;
use std::sync::Arc;

use ndarray::Array2;

use super::intake::EpochHeader;
use super::training::ModelFailure;
use crate::algorithms::pool::Pool;
use crate::algorithms::recognize::Recognized;
use crate::algorithms::unseen::TrialResult;
use crate::data::{Batch, TaskPath};

/// Sorts the row numbers by group, ascending within each (a counting sort).
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

/// Rows of a batch that belong to one finest task.
#[derive(Clone, Debug)]
pub struct Group {
    /// Path from the base task to the finest.
    pub path: Rc<TaskPath>,
    /// Start of the group's rows in [`Allocated::order`].
    pub start: usize,
    /// End of the group's rows there, exclusive.
    pub end: usize,
}

/// Batch whose rows are allocated to tasks.
#[derive(Clone, Debug)]
pub struct Allocated {
    /// Header of the epoch.
    pub header: EpochHeader,
    /// The samples.
    pub batch: Batch,
    /// Groups of rows, in order of first appearance.
    pub groups: Vec<Group>,
    /// Row numbers, group by group, ascending within each.
    pub order: Vec<u32>,
    /// For each row, the index of its group.
    pub group_of: Vec<u32>,
    /// Labels that arrived in the epoch, as in [`Slice::labels`](super::intake::Slice::labels).
    pub labels: Arc<Vec<(u64, f32)>>,
    /// Number of samples whose own task is not defined, since there are as many tasks as may be.
    pub undefined: u64,
}

impl Allocated {
    /// Moves each row to its path in `new_paths`, if it has one there.
    pub(crate) fn moved(self, new_paths: &[Option<&TaskPath>]) -> Allocated {
        let mut paths: Vec<Rc<TaskPath>> =
            self.groups.into_iter().map(|group| group.path).collect();
        let mut group_of = self.group_of;
        for (group, path) in group_of.iter_mut().zip(new_paths) {
            let Some(path) = path else { continue };
            let known = paths.iter().position(|known| **known == **path);
            *group = known.unwrap_or(paths.len()) as u32;
            if known.is_none() {
                paths.push(Rc::new((*path).clone()));
            }
        }
        // Groups may be left without rows; the others are numbered by first appearance.
        let mut new_index = vec![u32::MAX; paths.len()];
        let mut groups: Vec<Group> = Vec::new();
        for group in &mut group_of {
            let index = &mut new_index[*group as usize];
            if *index == u32::MAX {
                *index = groups.len() as u32;
                let path = paths[*group as usize].clone();
                groups.push(Group {
                    path,
                    start: 0,
                    end: 0,
                });
            }
            *group = *index;
            groups[*index as usize].end += 1;
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

/// Batch with its predictions. The bootstrap is not predicted: its arrays are empty.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// The samples and their tasks.
    pub allocated: Rc<Allocated>,
    /// Predictions: one row a sample, and one column a class with its probability, or a single
    /// column where the label is a number.
    pub probabilities: Array2<f32>,
    /// For each group, the pool that makes one prediction of the outputs of the models on its path.
    pub pools: Vec<Rc<Pool>>,
    /// Outputs of these models and of the neighbours: one row a sample, and for each member of its
    /// group's pool one column a class, or a single column where the label is a number.
    pub outputs: Array2<f32>,
    /// Predictions of the baselines for the same samples, in the order of the config.
    pub baselines: Vec<Array2<f32>>,
    /// Which samples look like samples of unseen tasks, if recognition is on.
    pub recognized: Option<Recognized>,
    /// Results of the trials of unseen tasks in this epoch.
    pub trials: Vec<TrialResult>,
    /// Models that failed in this epoch.
    pub failures: Vec<ModelFailure>,
}

impl Predicted {
    /// Whether the batch was predicted; empty batches and those of the bootstrap are not.
    pub fn is_predicted(&self) -> bool {
        self.probabilities.nrows() == self.allocated.batch.len() && !self.pools.is_empty()
    }

    /// Number of samples recognized as unseen; none if it is zero or recognition is off.
    pub fn count_unseen(&self) -> Option<u64> {
        let unseen = self.recognized.as_ref()?.unseen.iter();
        let count = unseen.filter(|unseen| **unseen).count() as u64;
        (count > 0).then_some(count)
    }

    /// Cuts the paths of the samples, and the pools, to their first `nodes` tasks.
    pub(crate) fn cut(&mut self, nodes: usize) {
        for group in &mut Rc::make_mut(&mut self.allocated).groups {
            Rc::make_mut(&mut group.path).nodes.truncate(nodes);
        }
        for pool in &mut self.pools {
            Rc::make_mut(pool).cut(nodes);
        }
    }
}

/// Predicted class: the one with the highest probability, and the first of equals. NaN is below all
/// others.
///
/// ```
/// use perennial_operators::flow::predicted_class;
///
/// assert_eq!(predicted_class(ndarray::aview1(&[0.2, 0.4, 0.4])), 1);
/// assert_eq!(predicted_class(ndarray::aview1(&[f32::NAN, 0.4, 0.6])), 2);
/// ```
pub fn predicted_class(probabilities: ndarray::ArrayView1<'_, f32>) -> usize {
    let (mut best, mut highest) = (0, f32::NEG_INFINITY);
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > highest {
            (best, highest) = (class, *probability);
        }
    }
    best
}

/// Rows of one batch whose labels became known in an epoch.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The batch and its predictions.
    pub predicted: Rc<Predicted>,
    /// Numbers of the rows.
    pub rows: Vec<u32>,
    /// Their labels (class numbers, or numbers), one for each of `rows`.
    pub labels: Vec<f32>,
}

/// All labels that became known on one worker in an epoch.
#[derive(Clone, Debug)]
pub struct LabelledEpoch {
    /// Labels by batch, oldest batch first.
    pub batches: Vec<Labelled>,
}
