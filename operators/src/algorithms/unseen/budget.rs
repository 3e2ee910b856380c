//! Label requests: the samples whose labels would help most, within a budget.
//!
//! A label helps the more the less sure the prediction is (uncertainty sampling: Lewis & Gale 1994,
//! "A sequential algorithm for training text classifiers"), the less the sample resembles those of
//! its task requested before (Sener & Savarese 2018, "Active learning for convolutional neural
//! networks: a core-set approach", §4), and the fewer labels of its task were requested. The budget
//! is a token bucket: it fills by a number of labels a day of the stream's clock, and holds at most
//! those of one day. Unseen tasks and unsure samples of known tasks share it.

use serde::{Deserialize, Serialize};

use crate::algorithms::distance::scales;
use crate::data::{Erasure, TaskDefinition, TaskId};

/// Most candidates of an epoch that are considered: the least sure.
pub(crate) const MOST_CANDIDATES: usize = 256;
/// Share of the available labels that may be requested at a time: the rest is for later in the day.
const SHARE: f64 = 0.25;
/// Number of requests of a task after which the next one is worth half.
const HALF: f64 = 16.0;
/// Worth of a sample of a known task, by that of a task that is or was unseen.
const KNOWN: f64 = 0.25;
/// Most tasks in the history of requests: the latest.
const MOST_TASKS: usize = 64;
/// Most samples of each task in the history: the latest.
const MOST_SAMPLES: usize = 8;
/// Least number of samples of an unseen group whose labels are requested, as stray samples are
/// wasted requests.
pub(crate) const LEAST_GROUP_SAMPLES: u64 = 3;
/// One day, microseconds.
const DAY: f64 = 86_400e6;

/// Request for the label of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRequest {
    /// Sequence number of the sample.
    pub sequence: u64,
    /// Id of the sample.
    pub id: String,
    /// Key of its message, if it had one: with it, its label goes to the same partition.
    pub key: Option<Vec<u8>>,
    /// Event time, microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Site of the sample.
    pub site: String,
    /// Name of its finest task.
    pub task: String,
    /// Whether the sample is unseen.
    pub unseen: bool,
    /// Uncertainty of the prediction, 0 to 1.
    pub uncertainty: f32,
    /// Prediction: one probability a class, or the number.
    pub answer: Vec<f32>,
    /// Feature values; NaN = missing.
    pub features: Vec<f32>,
}

impl LabelRequest {
    /// Whether the request is for a forgotten sample.
    pub fn is_forgotten(&self, erasure: &Erasure) -> bool {
        let task = TaskDefinition {
            task: TaskId::BASE,
            parent: None,
            name: self.task.as_str().into(),
        };
        erasure.covers_site(&self.site) || erasure.covers(&task)
    }
}

/// A sample whose label may be requested.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Task that would learn from the label.
    pub task: TaskId,
    /// Whether that task is not defined yet.
    pub is_new: bool,
    /// The request.
    pub request: LabelRequest,
}

/// History of label requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestHistory {
    /// Labels left in the budget at `clock`.
    left: f64,
    /// Stream's clock at the last request, microseconds; none before the first.
    clock: Option<i64>,
    /// Requests by task, the latest task first.
    tasks: Vec<TaskRequests>,
}

impl RequestHistory {
    /// Forgets the requests of some tasks.
    pub fn forget(&mut self, erasure: &Erasure) {
        self.tasks
            .retain(|requests| !erasure.tasks.contains(&requests.task));
    }
}

/// Requests of a task's samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TaskRequests {
    task: TaskId,
    /// Whether the task was not defined at its first request.
    was_new: bool,
    /// Number of requests.
    count: u64,
    /// Feature values of the latest samples, the latest first.
    samples: Vec<Vec<f32>>,
}

/// Budget of label requests, and the choice of samples to request.
///
/// ```
/// use perennial_operators::TaskId;
/// use perennial_operators::algorithms::unseen::{
///     Candidate, LabelBudget, LabelRequest, RequestHistory,
/// };
///
/// let candidate = |sequence: u64, uncertainty: f32| Candidate {
///     task: TaskId(1),
///     is_new: true,
///     request: LabelRequest {
///         sequence,
///         id: format!("r{sequence}"),
///         key: None,
///         time: 0,
///         site: "athens".into(),
///         task: "city=athens".into(),
///         unseen: true,
///         uncertainty,
///         answer: vec![0.5, 0.5],
///         features: vec![20.0],
///     },
/// };
///
/// // Of four labels a day, a quarter may be requested at a time: the least sure sample's.
/// let mut budget = LabelBudget::restore(4.0, &[1.0], RequestHistory::default());
/// let candidates = vec![candidate(0, 0.2), candidate(1, 0.9)];
/// let requests = budget.choose(candidates, 0, |_| true);
/// assert_eq!((requests.len(), &*requests[0].id), (1, "r1"));
/// ```
pub struct LabelBudget {
    /// Labels a day.
    per_day: f64,
    /// Inverse of each feature's standard deviation.
    scales: Vec<f32>,
    history: RequestHistory,
}

impl LabelBudget {
    /// Restores the budget of `per_day` labels a day after earlier requests. `deviations` are the
    /// features' standard deviations, empty if they are not known yet.
    pub fn restore(per_day: f64, deviations: &[f32], history: RequestHistory) -> Self {
        LabelBudget {
            per_day,
            scales: scales(deviations),
            history,
        }
    }

    /// Sets each feature's standard deviation.
    pub fn scale(&mut self, deviations: &[f32]) {
        self.scales = scales(deviations);
    }

    /// History of requests.
    pub fn asked(&self) -> &RequestHistory {
        &self.history
    }

    /// Labels left in the budget.
    fn left(&self, clock: i64) -> f64 {
        match self.history.clock {
            None => self.per_day,
            Some(last) => {
                let days = (clock - last).max(0) as f64 / DAY;
                (self.history.left + days * self.per_day).min(self.per_day)
            }
        }
    }

    /// Requests the labels that help most, among the candidates that pass `may`.
    ///
    /// `clock` is the stream's, microseconds. Returns the requests by sequence number.
    pub fn choose(
        &mut self,
        mut candidates: Vec<Candidate>,
        clock: i64,
        may: impl Fn(&Candidate) -> bool,
    ) -> Vec<LabelRequest> {
        let mut left = self.left(clock);
        let most = (left * SHARE).ceil().min(left.floor()) as usize;
        candidates.sort_unstable_by(|one, other| {
            let least_sure = other
                .request
                .uncertainty
                .total_cmp(&one.request.uncertainty);
            least_sure.then(one.request.sequence.cmp(&other.request.sequence))
        });
        // Each worker sends at most this many too, before `may` is known.
        candidates.truncate(MOST_CANDIDATES);
        candidates.retain(may);
        let mut novelty: Vec<f64> = candidates.iter().map(|one| self.novelty(one)).collect();
        let mut chosen = Vec::new();
        while chosen.len() < most {
            let worth = |(at, candidate): (usize, &Candidate)| self.worth(candidate) * novelty[at];
            let all = candidates.iter().enumerate();
            let best = all
                .map(|one| (worth(one), one.0))
                .filter(|(worth, _)| *worth > 0.0)
                .max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
            let Some((_, at)) = best else { break };
            let taken = candidates[at].clone();
            for (novelty, other) in novelty.iter_mut().zip(&candidates) {
                if other.task == taken.task {
                    let distance = self.distance(&taken.request.features, &other.request.features);
                    *novelty = novelty.min(distance);
                }
            }
            novelty[at] = 0.0;
            self.record(&taken);
            chosen.push(taken.request);
        }
        if !chosen.is_empty() {
            left -= chosen.len() as f64;
            (self.history.left, self.history.clock) = (left, Some(clock));
        }
        chosen.sort_by_key(|request| request.sequence);
        chosen
    }

    /// Requests of a task, if there are any in the history.
    fn requests_of(&self, task: TaskId) -> Option<&TaskRequests> {
        self.history.tasks.iter().find(|of| of.task == task)
    }

    /// Worth of a candidate's label, its novelty aside.
    fn worth(&self, candidate: &Candidate) -> f64 {
        let requests = self.requests_of(candidate.task);
        let count = requests.map_or(0, |requests| requests.count);
        let was_new = requests.is_some_and(|requests| requests.was_new);
        let by_task = if candidate.request.unseen || candidate.is_new || was_new {
            1.0
        } else {
            KNOWN
        };
        // From 0.5 to 1, so that novelty decides too: models are not to be fitted on unsure samples
        // alone.
        let by_uncertainty = (1.0 + f64::from(candidate.request.uncertainty)) / 2.0;
        by_task * by_uncertainty / (1.0 + count as f64 / HALF)
    }

    /// Novelty of a candidate, 0 to 1: its distance from the nearest sample of its task requested
    /// before.
    fn novelty(&self, candidate: &Candidate) -> f64 {
        let earlier = self
            .requests_of(candidate.task)
            .map(|requests| &requests.samples);
        earlier
            .into_iter()
            .flatten()
            .map(|other| self.distance(other, &candidate.request.features))
            .fold(1.0, f64::min)
    }

    /// Distance of two samples, 0.1 to 1, over the features that both have.
    fn distance(&self, one: &[f32], other: &[f32]) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (feature, (one, other)) in one.iter().zip(other).enumerate() {
            let difference = f64::from((one - other) * self.scales.get(feature).unwrap_or(&1.0));
            if !difference.is_nan() {
                sum += difference * difference;
                count += 1.0;
            }
        }
        // Even a sample that is just alike still has some novelty.
        0.1 + 0.9 * (1.0 - (-sum / f64::max(count, 1.0)).exp())
    }

    /// Adds a request to the history.
    fn record(&mut self, candidate: &Candidate) {
        let tasks = &mut self.history.tasks;
        let at = tasks.iter().position(|of| of.task == candidate.task);
        let mut requests = at.map_or_else(
            || TaskRequests {
                task: candidate.task,
                was_new: candidate.is_new,
                count: 0,
                samples: Vec::new(),
            },
            |at| tasks.remove(at),
        );
        requests.count += 1;
        requests
            .samples
            .insert(0, candidate.request.features.clone());
        requests.samples.truncate(MOST_SAMPLES);
        tasks.insert(0, requests);
        tasks.truncate(MOST_TASKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(sequence: u64, task: u64, is_new: bool, uncertainty: f32, at: f32) -> Candidate {
        Candidate {
            task: TaskId(task),
            is_new,
            request: LabelRequest {
                sequence,
                id: format!("r{sequence}"),
                key: None,
                time: 0,
                site: String::new(),
                task: String::new(),
                unseen: is_new,
                uncertainty,
                answer: Vec::new(),
                features: vec![at],
            },
        }
    }

    fn any(_: &Candidate) -> bool {
        true
    }

    fn numbers(chosen: &[LabelRequest]) -> Vec<u64> {
        chosen.iter().map(|request| request.sequence).collect()
    }

    #[test]
    fn requests_stay_within_the_budget() {
        let mut budget = LabelBudget::restore(8.0, &[1.0], RequestHistory::default());
        let all = |from: u64| {
            (from..from + 50)
                .map(|at| candidate(at, at, true, 0.5, 0.0))
                .collect()
        };
        // A quarter of what is left each time, until nothing is left.
        let many: Vec<usize> = (0..12)
            .map(|at| budget.choose(all(100 * at), 0, any).len())
            .collect();
        assert_eq!(many.iter().sum::<usize>(), 8, "{many:?}");
        assert_eq!(many[0], 2);
        assert_eq!(many[11], 0);
        // Half a day later four are left again, and never more than those of a day.
        let later = |days: f64| (days * DAY) as i64;
        let mut some = 0;
        for at in 20..40 {
            some += budget.choose(all(100 * at), later(0.5), any).len();
        }
        assert_eq!(some, 4);
        assert_eq!(budget.left(later(99.0)), 8.0);
    }

    #[test]
    fn unsure_new_and_different_samples_come_first() {
        let mut budget = LabelBudget::restore(12.0, &[1.0], RequestHistory::default());
        let chosen = budget.choose(
            vec![
                candidate(1, 1, true, 0.9, 0.0),
                // As unsure as the first, and much the same.
                candidate(2, 1, true, 0.9, 0.01),
                candidate(3, 1, true, 0.7, 3.0),
                candidate(4, 2, false, 0.95, 0.0),
                candidate(5, 3, true, 0.4, 0.0),
            ],
            0,
            any,
        );
        assert_eq!(numbers(&chosen), [1, 3, 5]);
        // Earlier requests count.
        let again = vec![
            candidate(6, 1, true, 0.9, 0.0),
            candidate(7, 4, true, 0.3, 0.0),
        ];
        let asked = RequestHistory {
            left: 1.0,
            ..budget.asked().clone()
        };
        let mut budget = LabelBudget::restore(1.0, &[1.0], asked);
        assert_eq!(numbers(&budget.choose(again, 0, any)), [7]);
        let requests = budget.requests_of(TaskId(1));
        assert_eq!(requests.map(|requests| requests.count), Some(2));
    }

    #[test]
    fn a_task_that_was_new_is_requested_more_until_it_has_labels() {
        let mut budget = LabelBudget::restore(400.0, &[1.0], RequestHistory::default());
        budget.choose(vec![candidate(1, 1, true, 0.5, 0.0)], 0, any);
        // The task is defined by now.
        let all = (0..200).map(|at| {
            let feature = 10.0 * at as f32;
            candidate(10 + at, 1 + at % 2, false, 0.5, feature)
        });
        let chosen = budget.choose(all.collect(), 0, any);
        let of_new = chosen.iter().filter(|one| one.sequence % 2 == 0).count();
        assert_eq!(chosen.len(), 100);
        assert!((60..90).contains(&of_new), "{of_new}");
    }
}
