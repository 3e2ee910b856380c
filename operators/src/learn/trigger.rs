//! Triggers: the conditions that start a training stage.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Exchange};

use crate::algorithms::drift::DriftDetected;
use crate::data::{ModelId, Standing, TaskId, View};
use crate::epochs::Epochs;
use crate::flow::{EpochHeader, Flow, Phase, Predicted, TrainOrder};

/// After more labels than that, drift is no longer news.
const MOST_RECENT: i64 = 2_000;

/// What a trigger looks at, for each task.
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
    /// Mean error without its sign in the window, in the label's unit.
    Mae,
    /// Root of the mean squared error in the window, in the label's unit.
    Rmse,
    /// By which share of the RMSE over all time that in the window is higher.
    RmseRise,
    /// Seconds of the stream's clock since the task's last training was ordered.
    ModelAge,
    /// Whether a training is to be ordered for [drift](super::drift): 1 if so, else 0.
    Drift,
}

/// How a metric is compared with the threshold.
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

/// One condition. A task's training is ordered when any of its triggers holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The condition as it was written, for people.
    pub text: String,
    /// What is looked at.
    pub metric: Metric,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what: a count, a share, nats, seconds or the label's unit, as the metric has it.
    pub threshold: f64,
}

/// When triggers are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Microseconds of the stream's clock between two looks; 0 looks at every epoch.
    pub period: i64,
    /// Daily time window in seconds after midnight UTC, `from` included and `to` not; it may pass midnight.
    pub between: Option<(i64, i64)>,
}

impl Schedule {
    /// Whether there is a look when the clock has gone from `before` to `now`.
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

/// The rules of training: when, and for which tasks.
#[derive(Clone, Debug)]
pub struct TriggerRules {
    /// The conditions.
    pub triggers: Vec<Trigger>,
    /// When they are looked at.
    pub schedule: Schedule,
    /// A task with fewer labelled samples does not train.
    pub min_samples: i64,
    /// A task that gained fewer labelled samples since its last training does not train again.
    pub min_new_samples: i64,
    /// Metrics over the window need at least this many scored labels in it.
    pub min_window: i64,
}

/// What the triggers know of a task.
#[derive(Clone, Debug, Default)]
pub struct TaskTraining {
    /// The version that its last order asked for; 0 before the first.
    pub version: u32,
    /// Its labelled samples then.
    pub labelled: i64,
    /// The stream's clock then, microseconds.
    pub clock: i64,
    /// Whether that order is still being worked on.
    pub running: bool,
    /// The last drift that there was, if there was any.
    pub drift: Option<DriftDetected>,
    standing: Standing,
}

impl TaskTraining {
    /// A task whose last training was ordered for `version`.
    pub fn ordered(version: u32, labelled: i64, clock: i64, running: bool) -> Self {
        TaskTraining {
            version,
            labelled,
            clock,
            running,
            ..TaskTraining::default()
        }
    }

    /// The metric's value; none where there is too little to tell.
    fn value(&self, metric: Metric, rules: &TriggerRules, clock: i64) -> Option<f64> {
        let Standing { total, window } = &self.standing;
        let window = &window.score;
        let in_window = |value: Option<f64>| value.filter(|_| window.count >= rules.min_window);
        match metric {
            Metric::NewSamples => Some((total.labelled - self.labelled) as f64),
            Metric::Accuracy => in_window(window.accuracy()),
            Metric::AccuracyDrop => {
                let now = in_window(window.accuracy())?;
                Some(total.score.accuracy()? - now)
            }
            Metric::LogLoss => in_window(window.log_loss()),
            Metric::Mae => in_window(window.mae()),
            Metric::Rmse => in_window(window.rmse()),
            Metric::RmseRise => {
                let now = in_window(window.rmse())?;
                let before = total.score.rmse().filter(|before| *before > 0.0)?;
                Some(now / before - 1.0)
            }
            Metric::ModelAge => {
                (self.version > 0).then(|| (clock - self.clock) as f64 / 1_000_000.0)
            }
            Metric::Drift => Some(f64::from(u8::from(self.drifted(rules).is_some()))),
        }
    }

    /// How many labels came since the last drift, if a training is to be ordered for it: the first when there are enough of
    /// them, and others each time that there are twice as many, as long as they are few.
    fn drifted(&self, rules: &TriggerRules) -> Option<i64> {
        let drift = self.drift?;
        let before = drift.labelled - drift.rise.samples;
        let recent = self.standing.total.labelled - before;
        let least = match self.labelled >= drift.labelled {
            true => 2 * (self.labelled - before),
            false => rules.min_new_samples,
        };
        (least..=MOST_RECENT).contains(&recent).then_some(recent)
    }

    /// The first trigger that holds.
    fn fires<'a>(&self, rules: &'a TriggerRules, clock: i64) -> Option<&'a Trigger> {
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

/// Watches the tasks of one worker.
pub struct Watch {
    rules: TriggerRules,
    tasks: FxHashMap<TaskId, TaskTraining>,
    moved: FxHashSet<TaskId>,
    clock: i64,
    /// Versions of models that are ordered here are greater.
    after: u32,
}

impl Watch {
    /// A watch over tasks as they were when the stream was last committed, at `clock`.
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

    /// Gives models that are ordered here versions after this one, where lower ones come from elsewhere.
    #[must_use]
    pub fn numbering_after(self, after: u32) -> Self {
        Watch { after, ..self }
    }

    /// Takes in one notice.
    pub fn notice(&mut self, notice: TriggerEvent) {
        match notice {
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

    /// What is to be trained at the end of an epoch, by task.
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

    /// The initial training: every task that has the samples for it, and the base task in any case.
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

    fn due(&mut self, clock: i64) -> Vec<TrainOrder> {
        let (rules, after) = (&self.rules, self.after);
        // Only time itself moves a model's age; all else moves with the task's statistics.
        let by_age = rules
            .triggers
            .iter()
            .any(|trigger| trigger.metric == Metric::ModelAge);
        if by_age {
            self.moved.extend(self.tasks.keys());
        }
        let mut orders = Vec::new();
        let tasks = &mut self.tasks;
        // A task in training is looked at again when that has ended.
        self.moved.retain(|task| {
            let Some(state) = tasks.get_mut(task) else {
                return false;
            };
            if state.running {
                return true;
            }
            if let Some(trigger) = state.fires(rules, clock) {
                let recent = match trigger.metric {
                    Metric::Drift => state.drifted(rules).map(i64::unsigned_abs),
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

/// What the watch is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TriggerEvent {
    /// A task stands differently.
    Moved(View),
    /// The predictions of a task lose more than they used to.
    Drifted(DriftDetected),
    /// The training of a model has ended, well or not.
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

/// Gives the orders to train. `ended` comes over the feedback edge.
pub fn trigger<'scope>(
    views: Flow<'scope, View>,
    drifted: Flow<'scope, DriftDetected>,
    ended: Flow<'scope, ModelId>,
    clock: Flow<'scope, Rc<Predicted>>,
    watch: Watch,
) -> Flow<'scope, TrainOrder> {
    let notices = views
        .map(TriggerEvent::Moved)
        .concat(drifted.map(TriggerEvent::Drifted))
        .concat(ended.map(TriggerEvent::Ended))
        .exchange(|notice| notice.task().0);
    // Every worker gets the header of every epoch, so the headers pace the look. Notices of an epoch
    // without a header, as those known at the start, are taken in with the next one; and a notice
    // after the last header keeps nothing open.
    let headers = clock.map(|scored| scored.allocated.header);
    headers.each_after(
        notices,
        "Trigger",
        Rc::new(drop),
        watch,
        |watch, notices| {
            notices.into_iter().for_each(|notice| watch.notice(notice));
            Ok(())
        },
        |watch, header, out| {
            out.give_iterator(watch.look(&header).into_iter());
            Ok(())
        },
    )
}
