//! Joining predictions with labels: a sample waits until its label is known.

use std::collections::VecDeque;
use std::rc::Rc;

use ndarray::{Array2, Axis, s};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::allocate::order_by_group;
use crate::flow::{Allocated, Effect, Flow, Group, Labelled, LabelledEpoch, Scored};
use crate::{Batch, EpochHeader, Failure, ModelId, Phase, TaskPath};

/// How long after its sample a label becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// Once this many later samples were read, over all workers.
    Records(u64),
    /// Once the stream's clock has moved on by this many microseconds.
    Time(i64),
}

/// Samples of one batch that wait.
struct Waiting {
    scored: Rc<Scored>,
    /// The rows that wait, ascending.
    rows: Vec<u32>,
    /// The earliest event time among them.
    earliest: i64,
}

impl Waiting {
    fn new(scored: Rc<Scored>, rows: Vec<u32>) -> Self {
        let times = &scored.allocated.batch.times;
        let earliest = rows.iter().map(|row| times[*row as usize]).min();
        Waiting {
            earliest: earliest.unwrap_or(i64::MAX),
            scored,
            rows,
        }
    }

    /// Takes the rows whose delay has passed.
    fn release(&mut self, delay: Delay, header: &EpochHeader) -> Vec<u32> {
        let batch = &self.scored.allocated.batch;
        match delay {
            Delay::Records(records) => {
                let known = (header.end.saturating_sub(records)).saturating_sub(batch.first);
                let split = self.rows.partition_point(|row| u64::from(*row) < known);
                let rest = self.rows.split_off(split);
                std::mem::replace(&mut self.rows, rest)
            }
            Delay::Time(delay) => {
                let known = header.clock.saturating_sub(delay);
                if self.earliest > known {
                    return Vec::new();
                }
                let times = &batch.times;
                let (released, rest) = std::mem::take(&mut self.rows)
                    .into_iter()
                    .partition(|row| times[*row as usize] <= known);
                *self = Waiting::new(self.scored.clone(), rest);
                released
            }
        }
    }
}

/// The samples of one worker that wait for their labels, oldest first.
pub struct Joiner {
    delay: Delay,
    waiting: VecDeque<Waiting>,
}

/// What an epoch's end means for the joiner's samples.
pub struct Joined {
    /// Labels that became known.
    pub labelled: Rc<LabelledEpoch>,
    /// The epoch's own samples that wait on, if any: last sequence number and serialized form.
    pub pending: Option<(u64, Vec<u8>)>,
    /// No sample before this sequence number waits.
    pub floor: u64,
    /// Predicted samples whose delay has passed and that have no label.
    pub unlabelled: u64,
}

impl Joiner {
    /// A joiner with what waited when the stream was last committed: `pending` as it was given out,
    /// oldest first, and the header of the last committed epoch.
    pub fn restore(
        delay: Delay,
        pending: &[Vec<u8>],
        committed: Option<&EpochHeader>,
    ) -> Result<Self, Failure> {
        let mut waiting = VecDeque::new();
        for bytes in pending {
            let stored: Stored = postcard::from_bytes(bytes)?;
            let (scored, rows) = stored.restore();
            let mut batch = Waiting::new(Rc::new(scored), rows);
            if let Some(header) = committed {
                // Labels that became known until then were counted then.
                batch.release(delay, header);
            }
            if !batch.rows.is_empty() {
                waiting.push_back(batch);
            }
        }
        Ok(Joiner { delay, waiting })
    }

    /// Takes in an epoch's predictions and gives out the labels known at its end.
    pub fn join(&mut self, scored: Rc<Scored>) -> Result<Joined, Failure> {
        let header = scored.allocated.header;
        let rows = scored.allocated.batch.len() as u32;
        if rows > 0 {
            self.waiting
                .push_back(Waiting::new(scored.clone(), (0..rows).collect()));
        }
        let delay = match header.phase {
            Phase::Scored => self.delay,
            // The labels of the bootstrap are known beforehand: that is what a bootstrap is. At the
            // end of the stream, no delay is left to wait for.
            Phase::Bootstrap | Phase::BootstrapEnds | Phase::Ended => Delay::Records(0),
        };
        let mut parts = Vec::new();
        let mut unlabelled = 0;
        for waiting in &mut self.waiting {
            let released = waiting.release(delay, &header);
            if released.is_empty() {
                continue;
            }
            let known = &waiting.scored.allocated.batch.labels;
            let (rows, labels): (Vec<u32>, Vec<f32>) = released
                .iter()
                .map(|row| (*row, known.get(*row as usize).copied().unwrap_or(f32::NAN)))
                .filter(|(_, label)| !label.is_nan())
                .unzip();
            if waiting.scored.is_predicted() {
                unlabelled += (released.len() - rows.len()) as u64;
            }
            parts.push(Labelled {
                scored: waiting.scored.clone(),
                rows,
                labels,
            });
        }
        self.waiting.retain(|waiting| !waiting.rows.is_empty());
        Ok(Joined {
            labelled: Rc::new(LabelledEpoch { header, parts }),
            pending: self.pending(header)?,
            floor: self.floor(&header),
            unlabelled,
        })
    }

    /// The samples of epoch `header` that wait, serialized. They are written once: what is released
    /// later follows from the clock.
    fn pending(&self, header: EpochHeader) -> Result<Option<(u64, Vec<u8>)>, Failure> {
        let Some(newest) = self
            .waiting
            .back()
            .filter(|waiting| waiting.scored.allocated.header.epoch == header.epoch)
        else {
            return Ok(None);
        };
        let stored = Stored::new(&newest.scored, &newest.rows);
        let batch = &newest.scored.allocated.batch;
        let last = batch.sequence(batch.len() - 1);
        Ok(Some((last, postcard::to_stdvec(&stored)?)))
    }

    fn floor(&self, header: &EpochHeader) -> u64 {
        self.waiting
            .iter()
            .filter_map(|waiting| {
                let row = *waiting.rows.first()?;
                Some(waiting.scored.allocated.batch.sequence(row as usize))
            })
            .min()
            .unwrap_or(header.end)
    }
}

/// Waiting samples as they are stored: the rows from the first that waits to the end of its batch,
/// with only the columns that are needed once the label is known.
#[derive(Serialize, Deserialize)]
struct Stored {
    header: EpochHeader,
    first: u64,
    waiting: Vec<u32>,
    times: Vec<i64>,
    features: Array2<f32>,
    labels: Vec<f32>,
    paths: Vec<TaskPath>,
    models: Vec<ModelId>,
    group_of: Vec<u32>,
    probabilities: Array2<f32>,
    baselines: Vec<Array2<f32>>,
}

impl Stored {
    fn new(scored: &Scored, rows: &[u32]) -> Self {
        let allocated = &scored.allocated;
        let batch = &allocated.batch;
        let first = rows.first().map_or(0, |row| *row as usize);
        Stored {
            header: allocated.header,
            first: batch.sequence(first),
            waiting: rows.iter().map(|row| row - first as u32).collect(),
            times: batch.times[first..].to_vec(),
            features: batch.features.slice(s![first.., ..]).to_owned(),
            labels: batch.labels[first..].to_vec(),
            paths: allocated
                .groups
                .iter()
                .map(|group| (*group.path).clone())
                .collect(),
            models: scored.models.clone(),
            group_of: allocated.group_of[first..].to_vec(),
            probabilities: scored.probabilities.slice(s![first.., ..]).to_owned(),
            baselines: scored
                .baselines
                .iter()
                .map(|answers| answers.slice(s![first.., ..]).to_owned())
                .collect(),
        }
    }

    fn restore(self) -> (Scored, Vec<u32>) {
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
        let allocated = Allocated {
            header: self.header,
            order: order_by_group(&self.group_of, &groups),
            group_of: self.group_of,
            groups,
            batch: Batch {
                first: self.first,
                times: self.times,
                features: self.features,
                labels: self.labels,
                ..Batch::default()
            },
        };
        let scored = Scored {
            allocated: Rc::new(allocated),
            probabilities: self.probabilities,
            models: self.models,
            baselines: self.baselines,
        };
        (scored, self.waiting)
    }
}

/// Joins predictions with the labels that samples carry. The first stream is what became known, the
/// second what must be committed so that a restart goes on with the same samples waiting.
pub fn join<'scope>(
    scored: Flow<'scope, Rc<Scored>>,
    mut joiner: Joiner,
    fail: impl Fn(Failure) + 'static,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, Effect>) {
    use timely::dataflow::operators::vec::Map;
    let joined = scored.unary::<timely::container::CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "Join",
        move |_capability, _info| {
            // Capabilities of what failed: the frontier stays where it is.
            let mut failed = Vec::new();
            move |input, output| {
                input.for_each(|capability, batches| {
                    if !failed.is_empty() {
                        failed.extend(capability.retain_least(0));
                        return;
                    }
                    for scored in batches.drain(..) {
                        match joiner.join(scored) {
                            Ok(joined) => output.session(&capability).give(Rc::new(joined)),
                            Err(failure) => {
                                failed.extend(capability.retain_least(0));
                                fail(failure);
                            }
                        }
                    }
                });
            }
        },
    );
    let labelled = joined.clone().map(|joined| joined.labelled.clone());
    let effects = joined.flat_map(|joined| {
        let mut effects = vec![Effect::PendingFloor(joined.floor)];
        if joined.unlabelled > 0 {
            effects.push(Effect::Unlabelled(joined.unlabelled));
        }
        if let Some((last, bytes)) = joined.pending.clone() {
            effects.push(Effect::Pending { last, bytes });
        }
        effects
    });
    (labelled, effects)
}
