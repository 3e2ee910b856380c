//! Triggers: conditions that start a training stage.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Exchange};

use crate::algorithms::drift::DriftDetected;
use crate::data::{ModelId, Standing, TaskId, View};
use crate::epochs::Epochs;
use crate::flow::{EpochHeader, Flow, Phase, Predicted, TrainOrder};

/// Number of labels since drift began after which drift orders no more trainings.
const MOST_RECENT: i64 = 2_000;

/// Metric of a task that a trigger watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Labelled samples since the task's last training was ordered.
    NewSamples,
    /// Share of right predictions in the window.
    Accuracy,
    /// Accuracy over all time minus accuracy in the window.
    AccuracyDrop,
    /// Mean log loss in the window, nats.
    LogLoss,
    /// Mean absolute error in the window, in the label's unit.
    Mae,
    /// Root of the mean squared error in the window, in the label's unit.
    Rmse,
    /// Rise of the RMSE in the window over that of all time, as a share of the latter.
    RmseRise,
    /// Seconds of the stream's clock since the task's last training was ordered.
    ModelAge,
    /// Whether [drift](super::drift) calls for a training: 1 if so, else 0.
    Drift,
}

/// Comparison of a metric with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl Comparison {
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Comparison::Greater => value > threshold,
            Comparison::GreaterOrEqual => value >= threshold,
            Comparison::Less => value < threshold,
            Comparison::LessOrEqual => value <= threshold,
        }
    }
}

/// A condition. A task's training is ordered when any of its triggers holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The condition as the user wrote it.
    pub text: String,
    /// Left side of the condition.
    pub metric: Metric,
    /// The comparison.
    pub comparison: Comparison,
    /// Right side, in the metric's unit: a count, a share, nats, seconds or the label's unit.
    pub threshold: f64,
}

/// Times at which triggers are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Microseconds of the stream's clock between two evaluations; 0 evaluates in every epoch.
    pub period: i64,
    /// Daily time window in seconds after midnight UTC: from the first up to, but without, the
    /// second. It may pass midnight.
    pub between: Option<(i64, i64)>,
}

impl Schedule {
    /// Whether triggers are due when the clock moves from `before` to `now`.
    fn is_due(&self, before: i64, now: i64) -> bool {
        // Periods are counted from the opening of the daily window, so that a period of a day ends
        // when the window opens, and not while it is closed.
        let opening = self.between.map_or(0, |(from, _)| from * 1_000_000);
        let number = |clock: i64| clock.saturating_sub(opening).div_euclid(self.period);
        let period_over = self.period == 0 || number(now) != number(before);
        let in_window = self.between.is_none_or(|(from, to)| {
            let second = now.div_euclid(1_000_000).rem_euclid(86_400);
            if from <= to {
                (from..to).contains(&second)
            } else {
                second >= from || second < to
            }
        });
        period_over && in_window
    }
}

/// Rules by which trainings are ordered.
#[derive(Clone, Debug)]
pub struct TriggerRules {
    /// The conditions.
    pub triggers: Vec<Trigger>,
    /// When the conditions are evaluated.
    pub schedule: Schedule,
    /// Fewest labelled samples of a task for its first training.
    pub min_samples: i64,
    /// Fewest labelled samples since a task's last training for another one.
    pub min_new_samples: i64,
    /// Fewest scored labels in the window for metrics over the window.
    pub min_window: i64,
}

/// State of a task's training, as triggers see it.
#[derive(Clone, Debug, Default)]
pub struct TaskTraining {
    /// Version of the model that was last ordered; 0 before the first order.
    pub version: u32,
    /// Labelled samples of the task at that order.
    pub labelled: i64,
    /// The stream's clock at that order, microseconds since 1970.
    pub clock: i64,
    /// Whether that order is still under way.
    pub running: bool,
    /// The last drift, if there was any.
    pub drift: Option<DriftDetected>,
    standing: Standing,
}

impl TaskTraining {
    /// State of a task whose last training was ordered for `version`.
    pub fn ordered(version: u32, labelled: i64, clock: i64, running: bool) -> Self {
        TaskTraining {
            version,
            labelled,
            clock,
            running,
            ..TaskTraining::default()
        }
    }

    /// Value of a metric; none if there are too few labels for it.
    fn value(&self, metric: Metric, rules: &TriggerRules, clock: i64) -> Option<f64> {
        let Standing { total, window } = &self.standing;
        let window = &window.score;
        let in_window = |value: Option<f64>| value.filter(|_| window.count >= rules.min_window);
        match metric {
            Metric::NewSamples => Some((total.labelled - self.labelled) as f64),
            Metric::Accuracy => in_window(window.accuracy()),
            Metric::AccuracyDrop => {
                let recent = in_window(window.accuracy())?;
                Some(total.score.accuracy()? - recent)
            }
            Metric::LogLoss => in_window(window.log_loss()),
            Metric::Mae => in_window(window.mae()),
            Metric::Rmse => in_window(window.rmse()),
            Metric::RmseRise => {
                let recent = in_window(window.rmse())?;
                let overall = total.score.rmse().filter(|overall| *overall > 0.0)?;
                Some(recent / overall - 1.0)
            }
            Metric::ModelAge => {
                (self.version > 0).then(|| (clock - self.clock) as f64 / 1_000_000.0)
            }
            Metric::Drift => Some(f64::from(u8::from(
                self.labels_since_drift(rules).is_some(),
            ))),
        }
    }

    /// Number of labels since the last drift began, if it calls for a training. It does so first at
    /// `min_new_samples`, and then each time that the number has doubled, up to [`MOST_RECENT`].
    fn labels_since_drift(&self, rules: &TriggerRules) -> Option<i64> {
        let drift = self.drift?;
        let before = drift.labelled - drift.rise.samples;
        let recent = self.standing.total.labelled - before;
        let ordered_since = self.labelled >= drift.labelled;
        let least = if ordered_since {
            2 * (self.labelled - before)
        } else {
            rules.min_new_samples
        };
        (least..=MOST_RECENT).contains(&recent).then_some(recent)
    }

    /// The first trigger that holds, if the task has the samples for a training.
    fn firing<'a>(&self, rules: &'a TriggerRules, clock: i64) -> Option<&'a Trigger> {
        let labelled = self.standing.total.labelled;
        let gained = labelled - self.labelled;
        if labelled < rules.min_samples || gained < rules.min_new_samples {
            return None;
        }
        rules.triggers.iter().find(|trigger| {
            self.value(trigger.metric, rules, clock)
                .is_some_and(|value| trigger.comparison.holds(value, trigger.threshold))
        })
    }

    /// Orders a training, of a version above `after`.
    fn order(
        &mut self,
        task: TaskId,
        after: u32,
        clock: i64,
        reason: &str,
        initial: bool,
    ) -> TrainOrder {
        self.version = self.version.max(after) + 1;
        self.labelled = self.standing.total.labelled;
        self.clock = clock;
        self.running = true;
        TrainOrder {
            model: ModelId {
                task,
                version: self.version,
            },
            labelled: self.labelled,
            clock,
            reason: reason.to_string(),
            initial,
            recent: None,
        }
    }
}

/// Triggers of the tasks of one worker.
pub struct Watch {
    rules: TriggerRules,
    tasks: FxHashMap<TaskId, TaskTraining>,
    /// Tasks to evaluate: those with events since they were last evaluated.
    moved: FxHashSet<TaskId>,
    clock: i64,
    /// Version above which models are numbered here.
    after: u32,
}

impl Watch {
    /// Watch over tasks as they were at the last commit, when the stream's clock was `clock`.
    pub fn restore(
        rules: TriggerRules,
        tasks: impl IntoIterator<Item = (TaskId, TaskTraining)>,
        clock: i64,
    ) -> Self {
        Watch {
            rules,
            tasks: tasks.into_iter().collect(),
            moved: FxHashSet::default(),
            clock,
            after: 0,
        }
    }

    /// Gives models that are ordered here versions above `after`, where lower ones come from
    /// elsewhere.
    #[must_use]
    pub fn number_after(self, after: u32) -> Self {
        Watch { after, ..self }
    }

    /// Takes in an event.
    pub fn notice(&mut self, event: TriggerEvent) {
        match event {
            TriggerEvent::Moved((task, standing)) => {
                self.tasks.entry(task).or_default().standing = standing;
                self.moved.insert(task);
            }
            TriggerEvent::Drifted(drift) => {
                let state = self.tasks.entry(drift.task).or_default();
                state.drift = Some(drift);
                self.moved.insert(drift.task);
            }
            TriggerEvent::Ended(model) => {
                let state = self.tasks.entry(model.task).or_default();
                if state.version == model.version {
                    state.running = false;
                }
            }
        }
    }

    /// Evaluates the triggers at the end of an epoch, and returns the orders, by task.
    pub fn look(&mut self, header: &EpochHeader) -> Vec<TrainOrder> {
        let before = std::mem::replace(&mut self.clock, header.clock);
        let mut orders = match header.phase {
            Phase::Bootstrap | Phase::Ended => Vec::new(),
            Phase::BootstrapEnds => self.initial(header.clock),
            Phase::Live if self.rules.schedule.is_due(before, header.clock) => {
                self.due(header.clock)
            }
            Phase::Live => Vec::new(),
        };
        orders.sort_by_key(|order| order.model);
        orders
    }

    /// Orders the initial training: of each task that has the samples for it, and of the base task
    /// in any case.
    fn initial(&mut self, clock: i64) -> Vec<TrainOrder> {
        self.moved.clear();
        let (least, after) = (self.rules.min_samples, self.after);
        self.tasks
            .iter_mut()
            .filter(|(task, state)| {
                **task == TaskId::BASE || state.standing.total.labelled >= least
            })
            .map(|(task, state)| state.order(*task, after, clock, "bootstrap", true))
            .collect()
    }

    /// Orders the trainings of the tasks whose triggers hold.
    fn due(&mut self, clock: i64) -> Vec<TrainOrder> {
        let (rules, after) = (&self.rules, self.after);
        // A model's age moves without events, all other metrics only with them.
        let by_age = rules
            .triggers
            .iter()
            .any(|trigger| trigger.metric == Metric::ModelAge);
        if by_age {
            self.moved.extend(self.tasks.keys());
        }
        let mut orders = Vec::new();
        let tasks = &mut self.tasks;
        // A task in training is kept, to be evaluated again once the training has ended.
        self.moved.retain(|task| {
            let Some(state) = tasks.get_mut(task) else {
                return false;
            };
            if state.running {
                return true;
            }
            if let Some(trigger) = state.firing(rules, clock) {
                let recent = match trigger.metric {
                    Metric::Drift => state.labels_since_drift(rules).map(i64::unsigned_abs),
                    _ => None,
                };
                let order = state.order(*task, after, clock, &trigger.text, false);
                orders.push(TrainOrder { recent, ..order });
            }
            false
        });
        orders
    }
}

/// Event that can make a trigger hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TriggerEvent {
    /// The standing of a task moved.
    Moved(View),
    /// Drift of a task was detected.
    Drifted(DriftDetected),
    /// The training of a model ended, well or not.
    Ended(ModelId),
}

impl TriggerEvent {
    fn task(&self) -> TaskId {
        match self {
            TriggerEvent::Moved((task, _)) => *task,
            TriggerEvent::Drifted(drift) => drift.task,
            TriggerEvent::Ended(model) => model.task,
        }
    }
}

/// Emits the orders to train. `ended` is a feedback edge.
pub fn trigger<'scope>(
    views: Flow<'scope, View>,
    drifted: Flow<'scope, DriftDetected>,
    ended: Flow<'scope, ModelId>,
    clock: Flow<'scope, Rc<Predicted>>,
    watch: Watch,
) -> Flow<'scope, TrainOrder> {
    let events = views
        .map(TriggerEvent::Moved)
        .concat(drifted.map(TriggerEvent::Drifted))
        .concat(ended.map(TriggerEvent::Ended))
        .exchange(|event| event.task().0);
    // Every worker gets the header of every epoch, so the headers pace the evaluation. Events of an
    // epoch without a header, as those at the start, are taken in with the next header, and events
    // after the last header hold no epoch open.
    let headers = clock.map(|predicted| predicted.allocated.header);
    headers.each_after(
        events,
        "Trigger",
        // Nothing here can fail.
        Rc::new(drop),
        watch,
        |watch, events| {
            events.into_iter().for_each(|event| watch.notice(event));
            Ok(())
        },
        |watch, header, out| {
            out.give_iterator(watch.look(&header).into_iter());
            Ok(())
        },
    )
}
