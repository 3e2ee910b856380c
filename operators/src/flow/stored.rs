//! Samples that wait for their labels, as they are stored.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{Array2, Axis, s};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::batch::{Allocated, Group, Predicted, order_by_group};
use super::intake::EpochHeader;
use crate::algorithms::pool::Pool;
use crate::algorithms::unseen::HeldSample;
use crate::data::{Batch, Erasure, SITE, SharedTexts, TaskId, TaskPath, Texts, id_number};
use crate::error::{Failure, OperatorError};

/// Rows of a batch that wait for labels, as they are stored: all rows from the first that waits to
/// the end of the batch, with the columns that are needed once a label is known.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    header: EpochHeader,
    /// Sequence number of the first stored row.
    first: u64,
    /// Stored rows that wait.
    waiting: Vec<u32>,
    /// Numbers of the samples' ids, where labels come on their own and have to find them.
    ids: Vec<u64>,
    /// Ids and attributes, where samples are shared once their labels are known.
    names: Option<Names>,
    times: Vec<i64>,
    features: Array2<f32>,
    labels: Vec<f32>,
    paths: Vec<TaskPath>,
    pools: Vec<Rc<Pool>>,
    group_of: Vec<u32>,
    probabilities: Array2<f32>,
    outputs: Array2<f32>,
    baselines: Vec<Array2<f32>>,
}

/// Ids and attributes of samples.
#[derive(Serialize, Deserialize)]
struct Names {
    ids: Texts,
    /// Attributes, the site first.
    attributes: Vec<SharedTexts>,
}

impl Names {
    fn of(batch: &Batch, rows: Range<usize>) -> Names {
        let numbers: Vec<u32> = rows.clone().map(|row| row as u32).collect();
        let mut ids = Texts::default();
        rows.for_each(|row| ids.push(batch.ids.get(row)));
        let columns = 0..batch.attributes.len();
        Names {
            ids,
            attributes: columns
                .map(|column| SharedTexts::of(batch, column, &numbers))
                .collect(),
        }
    }

    /// Removes the texts of some rows.
    fn blank(&mut self, rows: &[bool]) {
        let mut ids = Texts::default();
        for (row, blank) in rows.iter().enumerate() {
            ids.push(if *blank { "" } else { self.ids.get(row) });
        }
        self.ids = ids;
        for texts in &mut self.attributes {
            *texts = texts.without(rows);
        }
    }
}

impl Stored {
    /// Stores `waiting` rows of a batch, ascending: with the numbers of their ids if labels come on
    /// their own (`by_id`), and with their names if samples are shared (`named`).
    pub(crate) fn new(predicted: &Predicted, waiting: &[u32], by_id: bool, named: bool) -> Self {
        let batch = &predicted.allocated.batch;
        let first = waiting.first().map_or(0, |row| *row as usize);
        let rows = first..batch.len();
        let names = named.then(|| Names::of(batch, rows.clone()));
        Stored {
            names,
            ..Stored::slice(predicted, waiting, rows, by_id)
        }
    }

    /// Stores one row of a batch.
    pub(crate) fn of_row(predicted: &Predicted, row: u32) -> Self {
        let first = row as usize;
        Stored::slice(predicted, &[row], first..first + 1, false)
    }

    fn slice(predicted: &Predicted, waiting: &[u32], rows: Range<usize>, by_id: bool) -> Self {
        let allocated = &predicted.allocated;
        let batch = &allocated.batch;
        let first = rows.start;
        let with_id = if by_id { rows.clone() } else { 0..0 };
        let (groups, group_of) = compact_groups(&allocated.group_of[rows.clone()]);
        // A batch that was not predicted has no pools.
        let pools = groups
            .iter()
            .filter_map(|group| predicted.pools.get(*group));
        Stored {
            header: allocated.header,
            first: batch.sequence(first),
            waiting: waiting.iter().map(|row| row - first as u32).collect(),
            ids: with_id.map(|row| id_number(batch.ids.get(row))).collect(),
            names: None,
            times: batch.times[rows.clone()].to_vec(),
            features: batch.features.slice(s![rows.clone(), ..]).to_owned(),
            labels: batch.labels.get(rows.clone()).unwrap_or_default().to_vec(),
            pools: pools.cloned().collect(),
            paths: groups
                .iter()
                .map(|group| (*allocated.groups[*group].path).clone())
                .collect(),
            group_of,
            probabilities: slice_rows(&predicted.probabilities, &rows),
            outputs: slice_rows(&predicted.outputs, &rows),
            baselines: predicted
                .baselines
                .iter()
                .map(|outputs| slice_rows(outputs, &rows))
                .collect(),
        }
    }

    /// Blanks the rows of forgotten samples, which wait no longer, and cuts their paths. Rows keep
    /// their numbers. Returns how many rows waited of those that are blank now; none if no row is
    /// forgotten.
    fn forget(&mut self, erasure: &Erasure) -> Option<u64> {
        let is_covered = |path: &TaskPath| erasure.covers_path(&path.nodes);
        let covered: Vec<bool> = self.paths.iter().map(is_covered).collect();
        let is_of_site = |row: usize| {
            let names = self.names.as_ref();
            let site = names.and_then(|names| names.attributes.get(SITE));
            site.is_some_and(|site| erasure.covers_site(site.get(row)))
        };
        let groups = self.group_of.iter().enumerate();
        let blank: Vec<bool> = groups
            .map(|(row, group)| covered[*group as usize] || is_of_site(row))
            .collect();
        if !blank.contains(&true) {
            return None;
        }
        for path in &mut self.paths {
            let kept = path.nodes.iter().take_while(|task| !erasure.covers(task));
            let kept = kept.count();
            path.nodes.truncate(kept);
        }
        let waited = self.waiting.len();
        self.waiting.retain(|row| !blank[*row as usize]);
        for row in (0..blank.len()).filter(|row| blank[*row]) {
            self.times[row] = 0;
            self.features.row_mut(row).fill(f32::NAN);
            self.ids.get_mut(row).into_iter().for_each(|id| *id = 0);
            let label = self.labels.get_mut(row);
            label.into_iter().for_each(|label| *label = f32::NAN);
            let outputs = self.baselines.iter_mut();
            for values in outputs.chain([&mut self.probabilities, &mut self.outputs]) {
                if row < values.nrows() {
                    values.row_mut(row).fill(0.0);
                }
            }
        }
        if let Some(names) = &mut self.names {
            names.blank(&blank);
        }
        Some((waited - self.waiting.len()) as u64)
    }

    /// Encodes the rows, for [`Stored::decode`] to read.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, OperatorError> {
        postcard::to_stdvec(self).map_err(|error| OperatorError::Encode("waiting", error))
    }

    /// Decodes what [`Stored::encode`] has encoded.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, OperatorError> {
        postcard::from_bytes(bytes).map_err(|error| OperatorError::Decode("waiting", error))
    }

    /// Restores the rows as a batch, with the numbers of those that wait.
    pub(crate) fn restore(self) -> (Predicted, Vec<u32>) {
        let mut sizes = vec![0; self.paths.len()];
        for group in &self.group_of {
            sizes[*group as usize] += 1;
        }
        let mut start = 0;
        let mut groups = Vec::with_capacity(sizes.len());
        for (path, size) in self.paths.into_iter().zip(sizes) {
            groups.push(Group {
                path: Rc::new(path),
                start,
                end: start + size,
            });
            start += size;
        }
        debug_assert_eq!(self.features.len_of(Axis(0)), self.times.len());
        let (ids, texts) = match self.names {
            Some(names) => (names.ids, names.attributes),
            None => Default::default(),
        };
        let allocated = Allocated {
            header: self.header,
            order: order_by_group(&self.group_of, &groups),
            group_of: self.group_of,
            groups,
            labels: Arc::default(),
            undefined: 0,
            batch: Batch {
                first: self.first,
                ids,
                dictionaries: Arc::new(texts.iter().map(SharedTexts::dictionary).collect()),
                attributes: texts.into_iter().map(|texts| texts.codes).collect(),
                times: self.times,
                features: self.features,
                labels: self.labels,
                ..Batch::default()
            },
        };
        let predicted = Predicted {
            allocated: Rc::new(allocated),
            probabilities: self.probabilities,
            pools: self.pools,
            outputs: self.outputs,
            baselines: self.baselines,
            recognized: None,
            trials: Vec::new(),
            failures: Vec::new(),
        };
        (predicted, self.waiting)
    }
}

/// Groups of some rows, in order of first appearance, and for each row the index of its group among
/// them. Of many groups in a batch, few have rows that wait.
fn compact_groups(group_of: &[u32]) -> (Vec<usize>, Vec<u32>) {
    let mut groups = Vec::new();
    let mut indices: FxHashMap<u32, u32> = FxHashMap::default();
    let group_of = group_of
        .iter()
        .map(|group| {
            *indices.entry(*group).or_insert_with(|| {
                groups.push(*group as usize);
                groups.len() as u32 - 1
            })
        })
        .collect();
    (groups, group_of)
}

/// Rows of an array; none of an empty one, as that of a batch that was not predicted.
fn slice_rows(array: &Array2<f32>, rows: &Range<usize>) -> Array2<f32> {
    let count = array.nrows();
    let rows = rows.start.min(count)..rows.end.min(count);
    array.slice(s![rows, ..]).to_owned()
}

/// Forgets samples in the bytes of [`Effect::Pending`](super::effect::Effect::Pending). Returns the
/// bytes without them, none if no sample waits any more, and the number of samples that wait no
/// longer; nothing if no sample is forgotten.
///
/// # Errors
///
/// Fails if the bytes are not those of the join.
pub fn forget_waiting(
    bytes: &[u8],
    erasure: &Erasure,
) -> Result<Option<(Option<Vec<u8>>, u64)>, Failure> {
    let mut stored = Stored::decode(bytes)?;
    let Some(forgotten) = stored.forget(erasure) else {
        return Ok(None);
    };
    let left = if stored.waiting.is_empty() {
        None
    } else {
        Some(stored.encode()?)
    };
    Ok(Some((left, forgotten)))
}

/// Finest task and event time of each sample that waits in the bytes of
/// [`Effect::Pending`](super::effect::Effect::Pending).
///
/// # Errors
///
/// Fails if the bytes are not those of the join.
pub fn waiting_times(bytes: &[u8]) -> Result<Vec<(TaskId, i64)>, Failure> {
    let stored = Stored::decode(bytes)?;
    let waiting = stored.waiting.iter().map(|row| {
        let row = *row as usize;
        let path = &stored.paths[stored.group_of[row] as usize];
        (path.leaf().task, stored.times[row])
    });
    Ok(waiting.collect())
}

/// Whether a held sample is forgotten.
///
/// # Errors
///
/// Fails if the sample cannot be read.
pub fn is_held_forgotten(held: &HeldSample, erasure: &Erasure) -> Result<bool, Failure> {
    let stored = Stored::decode(&held.stored)?;
    let mut paths = stored.paths.iter();
    Ok(paths.any(|path| erasure.covers_path(&path.nodes)))
}

/// A sample that waits for a label that comes on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingSample {
    /// Number of the sample's id; see [`id_number`].
    pub id: u64,
    /// Its sequence number.
    pub sequence: u64,
    /// The stream's clock when it was read, microseconds since 1970.
    pub clock: i64,
}

/// Reads the samples that still wait for labels that come on their own, oldest first, from the
/// bytes of [`Effect::Pending`] and [`Effect::Released`].
///
/// # Errors
///
/// Fails if the bytes are not those of the join.
///
/// [`Effect::Pending`]: super::effect::Effect::Pending
/// [`Effect::Released`]: super::effect::Effect::Released
pub fn waiting_samples(
    pending: &[Vec<u8>],
    released: &[Vec<u8>],
) -> Result<Vec<WaitingSample>, Failure> {
    let released = released_sequences(released)?;
    let mut waiting = Vec::new();
    for bytes in pending {
        let stored = Stored::decode(bytes)?;
        let samples = stored.waiting.iter().filter_map(|row| {
            Some(WaitingSample {
                id: *stored.ids.get(*row as usize)?,
                sequence: stored.first + u64::from(*row),
                clock: stored.header.clock,
            })
        });
        waiting.extend(samples.filter(|sample| !released.contains(&sample.sequence)));
    }
    Ok(waiting)
}

/// Encodes the sequence numbers of released samples, for [`released_sequences`] to read.
pub(crate) fn encode_released(sequences: &[u64]) -> Result<Vec<u8>, OperatorError> {
    postcard::to_stdvec(sequences).map_err(|error| OperatorError::Encode("released", error))
}

/// Decodes the sequence numbers of released samples from the bytes of
/// [`Effect::Released`](super::effect::Effect::Released).
pub(crate) fn released_sequences(released: &[Vec<u8>]) -> Result<FxHashSet<u64>, OperatorError> {
    let mut sequences = FxHashSet::default();
    for bytes in released {
        let decoded: Vec<u64> = postcard::from_bytes(bytes)
            .map_err(|error| OperatorError::Decode("released", error))?;
        sequences.extend(decoded);
    }
    Ok(sequences)
}
