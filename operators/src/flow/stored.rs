//! Samples that wait for their labels, as they are stored.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use ndarray::{Array2, Axis, s};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::batch::{Allocated, Group, Predicted, order_by_group};
use super::intake::EpochHeader;
use crate::Failure;
use crate::algorithms::pool::Pool;
use crate::data::{Batch, SharedTexts, TaskPath, Texts, id_number};

/// Waiting samples as they are stored: the rows from the first that waits to the end of its batch,
/// with only the columns that are needed once the label is known.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    header: EpochHeader,
    first: u64,
    waiting: Vec<u32>,
    /// The numbers of the samples' ids, where labels have to find them.
    ids: Vec<u64>,
    /// Ids and attributes, where the samples are shared once their labels are known.
    names: Option<Names>,
    times: Vec<i64>,
    features: Array2<f32>,
    labels: Vec<f32>,
    paths: Vec<TaskPath>,
    pools: Vec<Rc<Pool>>,
    group_of: Vec<u32>,
    probabilities: Array2<f32>,
    answers: Array2<f32>,
    baselines: Vec<Array2<f32>>,
}

/// What samples are called.
#[derive(Serialize, Deserialize)]
struct Names {
    ids: Texts,
    /// The site first.
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
}

impl Stored {
    /// The rows of a batch that wait; `by_id` if labels come on their own, `named` if they are shared with their names.
    pub(crate) fn new(scored: &Predicted, rows: &[u32], by_id: bool, named: bool) -> Self {
        let first = rows.first().map_or(0, |row| *row as usize);
        let of = first..scored.allocated.batch.len();
        let names = named.then(|| Names::of(&scored.allocated.batch, of.clone()));
        Stored {
            names,
            ..Stored::slice(scored, rows, of, by_id)
        }
    }

    /// One row of a batch.
    pub(crate) fn of_row(scored: &Predicted, row: u32) -> Self {
        let at = row as usize;
        Stored::slice(scored, &[row], at..at + 1, false)
    }

    /// Some of these rows of a batch.
    fn slice(scored: &Predicted, rows: &[u32], of: Range<usize>, by_id: bool) -> Self {
        let allocated = &scored.allocated;
        let batch = &allocated.batch;
        let first = of.start;
        let ids = if by_id { of.clone() } else { 0..0 };
        let (groups, group_of) = groups_from(&allocated.group_of[of.clone()]);
        // What was not predicted has no pools.
        let pools = groups.iter().filter_map(|group| scored.pools.get(*group));
        Stored {
            header: allocated.header,
            first: batch.sequence(first),
            waiting: rows.iter().map(|row| row - first as u32).collect(),
            ids: ids.map(|row| id_number(batch.ids.get(row))).collect(),
            names: None,
            times: batch.times[of.clone()].to_vec(),
            features: batch.features.slice(s![of.clone(), ..]).to_owned(),
            labels: batch.labels.get(of.clone()).unwrap_or_default().to_vec(),
            pools: pools.cloned().collect(),
            paths: groups
                .iter()
                .map(|group| (*allocated.groups[*group].path).clone())
                .collect(),
            group_of,
            probabilities: slice(&scored.probabilities, &of),
            answers: slice(&scored.outputs, &of),
            baselines: scored
                .baselines
                .iter()
                .map(|answers| slice(answers, &of))
                .collect(),
        }
    }

    /// The samples, and which rows of them wait.
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
        let scored = Predicted {
            allocated: Rc::new(allocated),
            probabilities: self.probabilities,
            pools: self.pools,
            outputs: self.answers,
            baselines: self.baselines,
            recognized: None,
            trials: Vec::new(),
        };
        (scored, self.waiting)
    }
}

/// The groups that some rows are of, in order of appearance, and for each row the number of its own among
/// them: of many tasks, few have samples that wait.
fn groups_from(group_of: &[u32]) -> (Vec<usize>, Vec<u32>) {
    let mut groups = Vec::new();
    let mut places: FxHashMap<u32, u32> = FxHashMap::default();
    let place_of = group_of.iter().map(|group| {
        *places.entry(*group).or_insert_with(|| {
            groups.push(*group as usize);
            groups.len() as u32 - 1
        })
    });
    let place_of = place_of.collect();
    (groups, place_of)
}

/// These rows; what was not predicted has none.
fn slice(answers: &Array2<f32>, of: &Range<usize>) -> Array2<f32> {
    let rows = answers.nrows();
    let of = of.start.min(rows)..of.end.min(rows);
    answers.slice(s![of, ..]).to_owned()
}

/// A sample that waits for a label of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingSample {
    /// The number of its id; see [`id_number`].
    pub id: u64,
    /// Its sequence number.
    pub sequence: u64,
    /// The stream's clock when it was read, microseconds since 1970.
    pub clock: i64,
}

/// The samples of what was given out as pending and released that wait for labels of their own, oldest
/// first.
pub fn waiting_samples(
    pending: &[Vec<u8>],
    released: &[Vec<u8>],
) -> Result<Vec<WaitingSample>, Failure> {
    let released = released_sequences(released)?;
    let mut waiting = Vec::new();
    for bytes in pending {
        let stored: Stored = postcard::from_bytes(bytes)?;
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

/// The sequence numbers of what was given out as released.
pub(crate) fn released_sequences(released: &[Vec<u8>]) -> Result<FxHashSet<u64>, Failure> {
    let mut sequences = FxHashSet::default();
    for bytes in released {
        sequences.extend(postcard::from_bytes::<Vec<u64>>(bytes)?);
    }
    Ok(sequences)
}
