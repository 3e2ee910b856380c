//! Label requests: which samples' labels would help most, within a budget.
//!
//! A label helps the more the less sure the answer is (uncertainty sampling: Lewis & Gale 1994, "A sequential algorithm for
//! training text classifiers"), the less the sample is like those of its task that were asked about before (Sener &
//! Savarese 2018, "Active learning for convolutional neural networks: a core-set approach", §4), and the fewer of its task
//! there were. The budget is a token bucket: so many labels a day of the stream's clock, of which those not asked for are
//! saved up to a day's. Unseen tasks and unsure samples of known ones share it.

use serde::{Deserialize, Serialize};

use crate::algorithms::distance::scales;
use crate::data::TaskId;

/// Candidates of an epoch that are looked at, those that are least sure.
pub(crate) const MOST_CANDIDATES: usize = 256;
/// Of what can be asked for, this share is at a time: something is left for what comes later in the day.
const SHARE: f64 = 0.25;
/// LabelBudget of a task after which the next one is worth half.
const HALF: f64 = 16.0;
/// What a sample of a known task is worth, by one of a task that is or was unseen.
const KNOWN: f64 = 0.25;
/// Tasks of which it is known what was asked, the latest; and samples of each.
const MOST_TASKS: usize = 64;
const MOST_SAMPLES: usize = 8;
/// Samples that a group has before it asks for labels: nothing is made of what comes once.
pub(crate) const LEAST_GROUP_SAMPLES: u64 = 3;
/// Microseconds of a day.
const DAY: f64 = 86_400e6;

/// A sample whose label is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelRequest {
    /// Its sequence number.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// The key of its message, if it had one: its label's goes to the same partition with it.
    pub key: Option<Vec<u8>>,
    /// Its event time, microseconds since 1970.
    pub time: i64,
    /// Its site.
    pub site: String,
    /// The name of its finest task.
    pub task: String,
    /// Whether it is of no known task.
    pub unseen: bool,
    /// How unsure the answer to it is, 0 to 1.
    pub uncertainty: f32,
    /// The answer: probabilities by class, or the number.
    pub answer: Vec<f32>,
    /// Its features; NaN = missing.
    pub features: Vec<f32>,
}

/// A sample whose label could be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// The task that would learn from it.
    pub task: TaskId,
    /// Whether that is not defined.
    pub is_new: bool,
    /// The request that it would be.
    pub request: LabelRequest,
}

/// What has been asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// How many more labels could be asked for at `clock`.
    left: f64,
    /// The stream's clock when labels were last asked for; none before.
    clock: Option<i64>,
    /// Task by task, the one that was last asked about in front.
    tasks: Vec<AskedOfTask>,
}

/// What has been asked for of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AskedOfTask {
    task: TaskId,
    /// Whether it was unseen when it was first asked about.
    was_new: bool,
    count: u64,
    /// The latest samples' features.
    samples: Vec<Vec<f32>>,
}

/// Asks for labels.
pub struct LabelBudget {
    per_day: f64,
    /// For each feature what makes one standard deviation 1.
    scales: Vec<f32>,
    asked: Asked,
}

impl LabelBudget {
    /// So many a day, after these; `deviations` are how much each feature varies, as far as it is known.
    pub fn restore(per_day: f64, deviations: &[f32], asked: Asked) -> Self {
        LabelBudget {
            per_day,
            scales: scales(deviations),
            asked,
        }
    }

    /// Takes in how much each feature varies, as standard deviations.
    pub fn scale(&mut self, deviations: &[f32]) {
        self.scales = scales(deviations);
    }

    /// What was asked for until now.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// How many labels can be asked for.
    fn left(&self, clock: i64) -> f64 {
        match self.asked.clock {
            None => self.per_day,
            Some(before) => {
                let days = (clock - before).max(0) as f64 / DAY;
                (self.asked.left + days * self.per_day).min(self.per_day)
            }
        }
    }

    /// Asks for the labels that help most, of the candidates that may be asked about.
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
        // Workers have told of no more each, whatever may be asked about.
        candidates.truncate(MOST_CANDIDATES);
        candidates.retain(may);
        let mut near: Vec<f64> = candidates.iter().map(|one| self.novelty(one)).collect();
        let mut chosen = Vec::new();
        while chosen.len() < most {
            let worth = |(at, candidate): (usize, &Candidate)| self.worth(candidate) * near[at];
            let all = candidates.iter().enumerate();
            let best = all
                .map(|one| (worth(one), one.0))
                .filter(|(worth, _)| *worth > 0.0)
                .max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
            let Some((_, at)) = best else { break };
            let taken = candidates[at].clone();
            for (near, other) in near.iter_mut().zip(&candidates) {
                if other.task == taken.task {
                    let apart = self.apart(&taken.request.features, &other.request.features);
                    *near = near.min(apart);
                }
            }
            near[at] = 0.0;
            self.note(&taken);
            chosen.push(taken.request);
        }
        if !chosen.is_empty() {
            left -= chosen.len() as f64;
            (self.asked.left, self.asked.clock) = (left, Some(clock));
        }
        chosen.sort_by_key(|request| request.sequence);
        chosen
    }

    fn of(&self, task: TaskId) -> Option<&AskedOfTask> {
        self.asked.tasks.iter().find(|asked| asked.task == task)
    }

    /// What the label of a candidate is worth, whatever else was asked.
    fn worth(&self, candidate: &Candidate) -> f64 {
        let asked = self.of(candidate.task);
        let count = asked.map_or(0, |asked| asked.count);
        let was_new = asked.is_some_and(|asked| asked.was_new);
        let new = match candidate.request.unseen || candidate.is_new || was_new {
            true => 1.0,
            false => KNOWN,
        };
        // Where answers are all alike unsure, what differs most is worth most: models are not to be fitted on the unsure alone.
        let unsure = (1.0 + f64::from(candidate.request.uncertainty)) / 2.0;
        new * unsure / (1.0 + count as f64 / HALF)
    }

    /// How far a candidate is from what its task was asked about, 0 to 1.
    fn novelty(&self, candidate: &Candidate) -> f64 {
        let asked = self.of(candidate.task).map(|asked| &asked.samples);
        let apart = asked.into_iter().flatten();
        let apart = apart.map(|other| self.apart(other, &candidate.request.features));
        apart.fold(1.0, f64::min)
    }

    /// How far two samples are apart, 0 to 1.
    fn apart(&self, one: &[f32], other: &[f32]) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (feature, (one, other)) in one.iter().zip(other).enumerate() {
            let apart = f64::from((one - other) * self.scales.get(feature).unwrap_or(&1.0));
            if !apart.is_nan() {
                sum += apart * apart;
                count += 1.0;
            }
        }
        // However alike, two samples are two.
        0.1 + 0.9 * (1.0 - (-sum / f64::max(count, 1.0)).exp())
    }

    fn note(&mut self, candidate: &Candidate) {
        let tasks = &mut self.asked.tasks;
        let at = tasks.iter().position(|asked| asked.task == candidate.task);
        let mut asked = at.map_or_else(
            || AskedOfTask {
                task: candidate.task,
                was_new: candidate.is_new,
                count: 0,
                samples: Vec::new(),
            },
            |at| tasks.remove(at),
        );
        asked.count += 1;
        asked.samples.insert(0, candidate.request.features.clone());
        asked.samples.truncate(MOST_SAMPLES);
        tasks.insert(0, asked);
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
    fn what_is_asked_for_stays_within_the_budget() {
        let mut requests = LabelBudget::restore(8.0, &[1.0], Asked::default());
        let all = |from: u64| {
            (from..from + 50)
                .map(|at| candidate(at, at, true, 0.5, 0.0))
                .collect()
        };
        // A quarter of what is left, again and again; then nothing is left.
        let many: Vec<usize> = (0..12)
            .map(|at| requests.choose(all(100 * at), 0, any).len())
            .collect();
        assert_eq!(many.iter().sum::<usize>(), 8, "{many:?}");
        assert_eq!(many[0], 2);
        assert_eq!(many[11], 0);
        // Half a day later there are four again, and never more than a day's.
        let later = |days: f64| (days * DAY) as i64;
        let mut some = 0;
        for at in 20..40 {
            some += requests.choose(all(100 * at), later(0.5), any).len();
        }
        assert_eq!(some, 4);
        assert_eq!(requests.left(later(99.0)), 8.0);
    }

    #[test]
    fn the_unsure_the_new_and_the_different_come_first() {
        let mut requests = LabelBudget::restore(12.0, &[1.0], Asked::default());
        let chosen = requests.choose(
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
        // What was asked before counts on.
        let again = vec![
            candidate(6, 1, true, 0.9, 0.0),
            candidate(7, 4, true, 0.3, 0.0),
        ];
        let asked = Asked {
            left: 1.0,
            ..requests.asked().clone()
        };
        let mut requests = LabelBudget::restore(1.0, &[1.0], asked);
        assert_eq!(numbers(&requests.choose(again, 0, any)), [7]);
        assert_eq!(requests.of(TaskId(1)).map(|asked| asked.count), Some(2));
    }

    #[test]
    fn what_was_new_is_asked_about_more_until_it_has_labels() {
        let mut requests = LabelBudget::restore(400.0, &[1.0], Asked::default());
        requests.choose(vec![candidate(1, 1, true, 0.5, 0.0)], 0, any);
        // It is a task by now.
        let all = (0..200).map(|at| {
            let apart = 10.0 * at as f32;
            candidate(10 + at, 1 + at % 2, false, 0.5, apart)
        });
        let chosen = requests.choose(all.collect(), 0, any);
        let of_new = chosen.iter().filter(|one| one.sequence % 2 == 0).count();
        assert_eq!(chosen.len(), 100);
        assert!((60..90).contains(&of_new), "{of_new}");
    }
}
