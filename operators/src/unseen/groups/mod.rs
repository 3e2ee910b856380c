//! Groups of samples of unseen tasks: what an epoch changes in them.

mod promote;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::algorithms::recognize::{Calibration, Method, Reference};
use crate::algorithms::unseen::{
    Candidate, Entry, GroupOutcome, HeldSample, LEAST_GROUP_SAMPLES, LabelBudget, LabelsRequested,
    Outlier, Region, Regions, Table, Trial, TrialResult, UnseenGrown,
};
use crate::data::{TaskDefinition, TaskId, TaskPath};
use crate::error::{Failure, OperatorError};
use crate::flow::{KnowledgeChange, Labelled, LabelledEpoch, TaskUpdate};
use crate::unseen::defined_tasks::DefinedTasks;
use crate::unseen::hold::GroupEvent;

/// Rules by which unseen tasks become tasks.
#[derive(Clone, Copy, Debug)]
pub struct GroupRules {
    /// Labels at which an unseen task is tried; at least 1.
    pub known_after: u64,
    /// Most unseen tasks that are kept.
    pub groups: usize,
    /// Share of samples of known tasks that recognition may take for outliers.
    pub false_alarm: f32,
    /// Most tasks; beyond them no group becomes a task.
    pub most_tasks: usize,
}

/// Output of the grouping.
#[derive(Clone)]
pub(super) enum Grouped {
    Change(Box<KnowledgeChange>),
    TaskUpdate(TaskUpdate),
    Trial(Arc<Trial>),
    Regions(Arc<Vec<Region>>),
    Released(Rc<LabelledEpoch>),
}

/// Unseen tasks, and the tasks that they could be.
pub struct Groups {
    rules: GroupRules,
    table: Table,
    /// Defined tasks.
    defined: DefinedTasks,
    /// Groups that the knowledge base has.
    stored: FxHashSet<TaskId>,
    /// Groups that changed in this epoch, with the labelled samples that came in.
    touched: BTreeMap<TaskId, Vec<HeldSample>>,
    budget: Option<LabelBudget>,
    regions: Regions,
    /// Summary of the samples of known tasks.
    reference: Option<Arc<Reference>>,
    /// Distance from the nearest centre within which all samples of known tasks lie, but for the
    /// share of false alarms.
    radius: Option<f32>,
    out: Vec<Grouped>,
    released: Vec<Labelled>,
}

impl Groups {
    /// Groups as the knowledge base has them, among its defined `tasks`.
    pub fn restore(
        rules: GroupRules,
        entries: Vec<Entry>,
        tasks: impl IntoIterator<Item = TaskDefinition>,
        budget: Option<LabelBudget>,
        regions: Regions,
    ) -> Groups {
        let stored = entries.iter().map(|entry| entry.group.task().task);
        let mut groups = Groups {
            rules,
            stored: stored.collect(),
            table: Table::restore(rules.groups, entries),
            defined: DefinedTasks::default(),
            touched: BTreeMap::new(),
            budget,
            regions,
            reference: None,
            radius: None,
            out: Vec::new(),
            released: Vec::new(),
        };
        for task in tasks {
            groups.defined.insert(task);
        }
        groups
    }

    /// Compares outliers with these samples of known tasks from now on.
    pub fn compare_with(&mut self, reference: Arc<Reference>) {
        self.reference = Some(reference);
    }

    /// Takes the radius of known tasks from the calibrated novelty scores.
    pub fn calibrate(&mut self, calibration: &Calibration) {
        let density = Method::Density as usize;
        self.radius = calibration.quantile(density, self.rules.false_alarm);
    }

    /// The trials that have begun and have no result yet.
    ///
    /// # Errors
    ///
    /// Fails if the held samples of a group cannot be read.
    pub fn trials(&self) -> Result<Vec<Arc<Trial>>, Failure> {
        let trials = self.table.labelled().into_iter().filter_map(|task| {
            let entry = self.table.get(task)?;
            entry.group.trying.then(|| self.trial(entry))
        });
        Ok(trials.collect::<Result<_, _>>()?)
    }

    /// Takes in the events of an epoch.
    pub(super) fn receive(&mut self, events: Vec<GroupEvent>) -> Result<(), OperatorError> {
        let mut samples: FxHashMap<TaskId, (TaskPath, u64, u64)> = FxHashMap::default();
        let (mut labelled, mut results, mut ended) = (Vec::new(), Vec::new(), false);
        let (mut candidates, mut clock) = (Vec::new(), None);
        let (mut outliers, mut new_reference) = (Vec::new(), false);
        let mut defined = Vec::new();
        for event in events {
            match event {
                GroupEvent::Samples(path, count, first) => {
                    let task = path.leaf().task;
                    let (_, sum, least) = samples.entry(task).or_insert((path, 0, first));
                    *sum += count;
                    *least = first.min(*least);
                }
                GroupEvent::Labelled(path, sample) => labelled.push((path, sample)),
                GroupEvent::Defined(task) => {
                    defined.push(task.task);
                    self.defined.insert(task);
                }
                GroupEvent::Trial(result) => results.push(result),
                GroupEvent::Candidate(candidate) => candidates.push(*candidate),
                GroupEvent::Outlier(outlier) => outliers.push(outlier),
                GroupEvent::Reference(reference) => {
                    new_reference = true;
                    self.compare_with(reference);
                }
                GroupEvent::Calibration(calibration) => self.calibrate(&calibration),
                GroupEvent::Clock(now) => clock = clock.max(Some(now)),
                GroupEvent::Scales(deviations) => {
                    if let Some(budget) = &mut self.budget {
                        budget.scale(&deviations);
                    }
                }
                GroupEvent::Ended => ended = true,
            }
        }
        // Sorted, the result does not depend on the number of workers.
        let mut samples: Vec<_> = samples.into_values().collect();
        samples.sort_unstable_by_key(|(_, _, first)| *first);
        for (path, count, first) in samples {
            self.touched.entry(path.leaf().task).or_default();
            let evicted = self.table.add_samples(path, count, first);
            self.dissolve(evicted, GroupOutcome::Forgotten)?;
        }
        labelled.sort_unstable_by_key(|(_, sample)| sample.sequence);
        for (path, sample) in labelled {
            let arrived = self.touched.entry(path.leaf().task).or_default();
            arrived.push(sample.clone());
            let evicted = self.table.hold(path, sample);
            self.dissolve(evicted, GroupOutcome::Forgotten)?;
        }
        // A task that was defined elsewhere is no longer unseen.
        defined.sort_unstable();
        for task in defined {
            self.promote(task)?;
        }
        self.move_regions(outliers, new_reference)?;
        results.sort_unstable_by_key(|result: &TrialResult| result.task);
        for result in results {
            self.apply_verdict(result)?;
        }
        if let Some(clock) = clock {
            self.request_labels(candidates, clock);
        }
        if ended {
            self.release_all()
        } else {
            self.start_trials()
        }
    }

    /// Takes in outliers and opens a region if enough of them lie close together. After a change of
    /// the reference, dissolves the regions that look known by now.
    fn move_regions(
        &mut self,
        outliers: Vec<Outlier>,
        new_reference: bool,
    ) -> Result<(), OperatorError> {
        let (Some(reference), Some(radius)) = (self.reference.clone(), self.radius) else {
            return Ok(());
        };
        if new_reference {
            for task in self.regions.known(&reference, radius) {
                let entry = self.table.remove(task.task);
                self.dissolve(entry, GroupOutcome::Known)?;
            }
        }
        if outliers.is_empty() {
            return Ok(());
        }
        self.regions.add_outliers(outliers);
        if let Some((path, first, samples)) = self.regions.open(&reference, radius) {
            let task = path.leaf().task;
            self.update(TaskUpdate::RegionOpened(task));
            self.touched.entry(task).or_default();
            let evicted = self.table.add_samples(path, samples, first);
            self.dissolve(evicted, GroupOutcome::Forgotten)?;
            self.send_regions();
        }
        self.change(KnowledgeChange::RegionsMoved(self.regions.clone()));
        Ok(())
    }

    fn change(&mut self, change: KnowledgeChange) {
        self.out.push(Grouped::Change(Box::new(change)));
    }

    fn update(&mut self, update: TaskUpdate) {
        self.out.push(Grouped::TaskUpdate(update));
    }

    fn send_regions(&mut self) {
        let regions = self.regions.regions.clone();
        self.out.push(Grouped::Regions(regions));
    }

    /// Requests the labels that help most. A group requests none before it surely has
    /// [`LEAST_GROUP_SAMPLES`], since others like it may never come.
    fn request_labels(&mut self, candidates: Vec<Candidate>, clock: i64) {
        let Some(budget) = &mut self.budget else {
            return;
        };
        let table = &self.table;
        let chosen = budget.choose(candidates, clock, |candidate| {
            let entry = table.get(candidate.task);
            let group = entry.map(|entry| &entry.group);
            let certain = group.map_or(0, |group| group.samples - group.error);
            !candidate.is_new || certain >= LEAST_GROUP_SAMPLES
        });
        if chosen.is_empty() {
            return;
        }
        let asked = budget.asked().clone();
        for request in &chosen {
            self.update(TaskUpdate::LabelRequested(request.sequence));
        }
        self.change(KnowledgeChange::LabelsRequested(LabelsRequested {
            requests: chosen,
            asked,
        }));
    }

    /// Releases all held labels, to the tasks above their groups.
    fn release_all(&mut self) -> Result<(), OperatorError> {
        for task in self.table.labelled() {
            self.touched.insert(task, Vec::new());
        }
        for (above, sample) in self.table.take_held() {
            self.released.push(sample.release(Some(above))?);
        }
        Ok(())
    }

    /// Takes the output of an epoch.
    pub(super) fn take_output(&mut self) -> Vec<Grouped> {
        for (task, labelled) in std::mem::take(&mut self.touched) {
            let Some(entry) = self.table.get(task) else {
                continue;
            };
            self.stored.insert(task);
            let group = entry.group.clone();
            self.change(KnowledgeChange::UnseenGrown(UnseenGrown {
                group,
                labelled,
            }));
        }
        if !self.released.is_empty() {
            let batches = std::mem::take(&mut self.released);
            let released = Rc::new(LabelledEpoch { batches });
            self.out.push(Grouped::Released(released));
        }
        std::mem::take(&mut self.out)
    }
}
