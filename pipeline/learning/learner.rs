//! The learner: a thread that carries out training orders, and its end in the dataflow.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::Trainer;
use perennial_operators::flow::{TrainOrder, TrainOutcome};
use perennial_operators::learn::Training;
use perennial_operators::{Epoch, Failure, LabelKind, TreeParameters};
use timely::scheduling::SyncActivator;

use super::round::Round;
use crate::committer::Committed;
use crate::config::CandidateConfig;

/// What the learner works with.
pub struct Workshop {
    /// Where samples and models are.
    pub knowledge: Arc<KnowledgeBase>,
    /// How far the commit is.
    pub committed: Arc<Committed>,
    /// What fits models.
    pub trainer: Trainer,
    /// Runs models to judge them.
    pub runtime: Runtime,
    /// Number of features.
    pub features: usize,
    /// What is predicted.
    pub kind: LabelKind,
    /// Share of the samples that no model is fitted on.
    pub holdout: f64,
    /// Settings of the trees.
    pub trees: TreeParameters,
    /// A training takes at most so many samples.
    pub max_samples: usize,
    /// How a task's model may be built.
    pub candidates: Vec<CandidateConfig>,
    /// By how many nats no related task may get worse.
    pub gate_margin: f64,
    /// Whether samples are compared with those of known tasks.
    pub recognizes: bool,
    /// Trainings at a time.
    pub threads: usize,
}

/// Orders that wait for the learner, and outcomes that wait for the dataflow.
#[derive(Default)]
struct Desk {
    /// By the epoch that must be committed before.
    orders: BTreeMap<Epoch, Vec<TrainOrder>>,
    outcomes: Vec<TrainOutcome>,
    failure: Option<Failure>,
    activator: Option<SyncActivator>,
    closed: bool,
}

/// The dataflow's end of the learner.
pub struct Learner {
    desk: Arc<(Mutex<Desk>, Condvar)>,
}

impl Learner {
    /// Starts the learner's thread, which ends when the learner is dropped.
    pub fn start(workshop: Arc<Workshop>) -> (Self, JoinHandle<()>) {
        let desk = Arc::new((Mutex::new(Desk::default()), Condvar::new()));
        let thread_desk = desk.clone();
        let thread = std::thread::spawn(move || work(&workshop, &thread_desk));
        (Learner { desk }, thread)
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        lock(&self.desk).closed = true;
        self.desk.1.notify_all();
    }
}

impl Training for Learner {
    fn start(&mut self, orders: Vec<TrainOrder>, after: Epoch, activator: &SyncActivator) {
        let mut desk = lock(&self.desk);
        // A task has at most one order under way, so the number of tasks bounds the desk.
        desk.orders.entry(after).or_default().extend(orders);
        desk.activator = Some(activator.clone());
        self.desk.1.notify_all();
    }

    fn ended(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let mut desk = lock(&self.desk);
        match desk.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut desk.outcomes)),
        }
    }
}

fn lock<'a>(desk: &'a Arc<(Mutex<Desk>, Condvar)>) -> std::sync::MutexGuard<'a, Desk> {
    desk.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works off orders until the learner is dropped, those of one epoch at a time: the next epoch may
/// only be committed once they are done.
fn work(workshop: &Workshop, desk: &Arc<(Mutex<Desk>, Condvar)>) {
    loop {
        let round = {
            let mut waiting = lock(desk);
            while waiting.orders.is_empty() && !waiting.closed {
                waiting = desk.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.closed {
                return;
            }
            waiting.orders.pop_first()
        };
        let Some((after, orders)) = round else {
            continue;
        };
        if !workshop.committed.wait_for(after) {
            return;
        }
        let stage = format!("training {} models", orders.len());
        workshop.committed.set_stage(Some(stage));
        let result = Round::new(workshop)
            .map_err(Failure::from)
            .and_then(|round| round.carry_out(orders));
        workshop.committed.set_stage(None);
        let mut desk = lock(desk);
        match result {
            Ok(outcomes) => desk.outcomes.extend(outcomes),
            Err(failure) => desk.failure = Some(failure),
        }
        if let Some(activator) = &desk.activator {
            // It only fails when the worker is gone, and then nobody waits.
            let _ = activator.activate();
        }
    }
}
