//! What unseen tasks there are, and what becomes of them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::hold::GroupEvent;
use crate::Failure;
use crate::algorithms::recognize::{Calibration, Method, Reference};
use crate::algorithms::unseen::{
    Candidate, Entry, GroupOutcome, HeldSample, LEAST_GROUP_SAMPLES, LabelBudget, LabelsRequested,
    Outlier, Region, Regions, Table, Trial, TrialResult, TrialSample, UnseenGrown, UnseenSettled,
    Verdict,
};
use crate::data::{TaskDefinition, TaskId, TaskPath};
use crate::flow::{KnowledgeChange, Labelled, LabelledEpoch, TaskUpdate};

/// Tasks that an unseen one is tried on, at most.
const MOST_BESIDE: usize = 1000;
/// An unseen task that may be another one is tried again when it has so many times the labels.
const LATER: u64 = 3;

/// When an unseen task becomes a task.
#[derive(Clone, Copy, Debug)]
pub struct GroupRules {
    /// Labels after which it is tried, and becomes a task or an alias; at least 1.
    pub known_after: u64,
    /// The most unseen tasks that are kept.
    pub groups: usize,
    /// The share of samples of known tasks that look like none.
    pub false_alarm: f32,
}

/// What the grouping of an epoch gives.
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
    /// The tasks that are defined, by the one above.
    below: FxHashMap<TaskId, BTreeMap<TaskId, TaskDefinition>>,
    /// Groups that the knowledge base has.
    stored: FxHashSet<TaskId>,
    /// Groups that changed in this epoch, with the labelled samples that came in.
    touched: BTreeMap<TaskId, Vec<HeldSample>>,
    requests: Option<LabelBudget>,
    regions: Regions,
    /// What known samples look like, and how far they are from their centres at most, as a rule.
    reference: Option<Arc<Reference>>,
    radius: Option<f32>,
    out: Vec<Grouped>,
    released: Vec<Labelled>,
}

impl Groups {
    /// The groups as the knowledge base has them, among its tasks.
    pub fn restore(
        rules: GroupRules,
        entries: Vec<Entry>,
        tasks: impl IntoIterator<Item = TaskDefinition>,
        requests: Option<LabelBudget>,
        regions: Regions,
    ) -> Groups {
        let stored = entries.iter().map(|entry| entry.group.task().task);
        let mut groups = Groups {
            rules,
            stored: stored.collect(),
            table: Table::restore(rules.groups, entries),
            below: FxHashMap::default(),
            touched: BTreeMap::new(),
            requests,
            regions,
            reference: None,
            radius: None,
            out: Vec::new(),
            released: Vec::new(),
        };
        for task in tasks {
            groups.define(task);
        }
        groups
    }

    fn define(&mut self, task: TaskDefinition) {
        if let Some(parent) = task.parent {
            let below = self.below.entry(parent).or_default();
            below.insert(task.task, task);
        }
    }

    /// Takes in what known samples look like.
    pub fn compare_with(&mut self, reference: Arc<Reference>) {
        self.reference = Some(reference);
    }

    /// Takes in how far they are from their centres.
    pub fn calibrate(&mut self, calibration: &Calibration) {
        let density = Method::Density as usize;
        self.radius = calibration.quantile(density, self.rules.false_alarm);
    }

    /// The trials that were asked for and whose outcome is not known.
    pub fn trials(&self) -> Result<Vec<Arc<Trial>>, Failure> {
        let asked = self.table.labelled().into_iter().filter_map(|task| {
            let entry = self.table.get(task)?;
            entry.group.trying.then(|| self.trial(entry))
        });
        asked.collect()
    }

    /// Takes in what was seen in an epoch.
    pub(super) fn take_in(&mut self, mut sightings: Vec<GroupEvent>) -> Result<(), Failure> {
        let mut samples: FxHashMap<TaskId, (TaskPath, u64, u64)> = FxHashMap::default();
        let (mut labelled, mut tried, mut ended) = (Vec::new(), Vec::new(), false);
        let (mut candidates, mut clock) = (Vec::new(), None);
        let (mut strange, mut redrawn) = (Vec::new(), false);
        let mut defined = Vec::new();
        for sighting in sightings.drain(..) {
            match sighting {
                GroupEvent::Samples(path, count, first) => {
                    let task = path.leaf().task;
                    let (_, sum, least) = samples.entry(task).or_insert((path, 0, first));
                    *sum += count;
                    *least = first.min(*least);
                }
                GroupEvent::Labelled(path, sample) => labelled.push((path, sample)),
                GroupEvent::Defined(task) => {
                    defined.push(task.task);
                    self.define(task);
                }
                GroupEvent::Trial(outcome) => tried.push(outcome),
                GroupEvent::Candidate(candidate) => candidates.push(*candidate),
                GroupEvent::Outlier(sample) => strange.push(sample),
                GroupEvent::Reference(reference) => {
                    redrawn = true;
                    self.compare_with(reference);
                }
                GroupEvent::Calibration(calibration) => self.calibrate(&calibration),
                GroupEvent::Clock(now) => clock = clock.max(Some(now)),
                GroupEvent::Scales(deviations) => {
                    if let Some(requests) = &mut self.requests {
                        requests.scale(&deviations);
                    }
                }
                GroupEvent::Ended => ended = true,
            }
        }
        // In an order that does not depend on workers.
        let mut samples: Vec<_> = samples.into_values().collect();
        samples.sort_unstable_by_key(|(_, _, first)| *first);
        for (path, count, first) in samples {
            self.touched.entry(path.leaf().task).or_default();
            let gone = self.table.sight(path, count, first);
            self.let_go(gone, GroupOutcome::Forgotten)?;
        }
        labelled.sort_unstable_by_key(|(_, sample)| sample.sequence);
        for (path, sample) in labelled {
            let came = self.touched.entry(path.leaf().task).or_default();
            came.push(sample.clone());
            let gone = self.table.hold(path, sample);
            self.let_go(gone, GroupOutcome::Forgotten)?;
        }
        // What is defined elsewhere is no longer unseen.
        defined.sort_unstable();
        for task in defined {
            self.promote(task)?;
        }
        self.divide(strange, redrawn)?;
        tried.sort_unstable_by_key(|tried: &TrialResult| tried.task);
        for tried in tried {
            self.conclude(tried)?;
        }
        if let Some(clock) = clock {
            self.ask(candidates, clock);
        }
        match ended {
            true => self.end(),
            false => self.look(),
        }
    }

    /// Finds regions of strange samples, and those that look known since known samples were looked at again.
    fn divide(&mut self, strange: Vec<Outlier>, redrawn: bool) -> Result<(), Failure> {
        let (Some(reference), Some(radius)) = (self.reference.clone(), self.radius) else {
            return Ok(());
        };
        if redrawn {
            for task in self.regions.known(&reference, radius) {
                let entry = self.table.remove(task.task);
                self.let_go(entry, GroupOutcome::Known)?;
            }
        }
        if strange.is_empty() {
            return Ok(());
        }
        self.regions.meet(strange);
        if let Some((path, first, samples)) = self.regions.find(&reference, radius) {
            let task = path.leaf().task;
            self.out
                .push(Grouped::TaskUpdate(TaskUpdate::RegionOpened(task)));
            self.touched.entry(task).or_default();
            let gone = self.table.sight(path, samples, first);
            self.let_go(gone, GroupOutcome::Forgotten)?;
            self.tell_regions();
        }
        let moved = KnowledgeChange::RegionsMoved(self.regions.clone());
        self.out.push(Grouped::Change(Box::new(moved)));
        Ok(())
    }

    fn tell_regions(&mut self) {
        let regions = self.regions.regions.clone();
        self.out.push(Grouped::Regions(regions));
    }

    /// Asks for the labels that help most. What may never come again asks for none.
    fn ask(&mut self, candidates: Vec<Candidate>, clock: i64) {
        let Some(requests) = &mut self.requests else {
            return;
        };
        let table = &self.table;
        let chosen = requests.choose(candidates, clock, |candidate| {
            let entry = table.get(candidate.task);
            let group = entry.map(|entry| &entry.group);
            let certain = group.map_or(0, |group| group.samples - group.error);
            !candidate.is_new || certain >= LEAST_GROUP_SAMPLES
        });
        if chosen.is_empty() {
            return;
        }
        for request in &chosen {
            let requested = TaskUpdate::LabelRequested(request.sequence);
            self.out.push(Grouped::TaskUpdate(requested));
        }
        let change = KnowledgeChange::LabelsRequested(LabelsRequested {
            requests: chosen,
            asked: requests.asked().clone(),
        });
        self.out.push(Grouped::Change(Box::new(change)));
    }

    /// Lets a group go, if there is one: its labels are those of the tasks above it.
    fn let_go(&mut self, gone: Option<Entry>, became: GroupOutcome) -> Result<(), Failure> {
        let Some(entry) = gone else { return Ok(()) };
        let above = entry.group.path.nodes.len() - 1;
        for sample in &entry.held {
            self.released.push(sample.release(Some(above))?);
        }
        self.settle(entry, became);
        Ok(())
    }

    /// Writes down what became of a group; of one that was forgotten, only if the knowledge base has it.
    fn settle(&mut self, entry: Entry, became: GroupOutcome) {
        let task = entry.group.task().clone();
        let its_task = match &became {
            GroupOutcome::Task => Some(&task),
            GroupOutcome::Alias(old) => Some(old),
            GroupOutcome::Known | GroupOutcome::Forgotten => None,
        };
        if self.regions.settle(&task, its_task) {
            let moved = KnowledgeChange::RegionsMoved(self.regions.clone());
            self.out.push(Grouped::Change(Box::new(moved)));
            self.tell_regions();
            if its_task.is_none() {
                let dissolved = TaskUpdate::RegionClosed(task.task);
                self.out.push(Grouped::TaskUpdate(dissolved));
            }
        }
        self.touched.remove(&task.task);
        let was_stored = self.stored.remove(&task.task);
        if was_stored || became != GroupOutcome::Forgotten {
            let settled = KnowledgeChange::UnseenSettled(UnseenSettled {
                task,
                first: entry.group.first,
                samples: entry.group.samples,
                labelled: entry.group.labelled,
                became,
            });
            self.out.push(Grouped::Change(Box::new(settled)));
        }
    }

    /// Looks at the groups that have enough labels.
    fn look(&mut self) -> Result<(), Failure> {
        for task in self.table.labelled() {
            let Some(entry) = self.table.get(task) else {
                continue;
            };
            let group = &entry.group;
            let due = match group.tried {
                0 => self.rules.known_after,
                _ => LATER * self.rules.known_after,
            };
            if group.labelled < due || group.trying || group.tried >= LATER * self.rules.known_after
            {
                continue;
            }
            if self.beside(&group.path).next().is_none() {
                self.promote(task)?;
                continue;
            }
            self.touched.entry(task).or_default();
            self.table.set_trying(task, true);
            if let Some(entry) = self.table.get(task) {
                let trial = self.trial(entry)?;
                self.out.push(Grouped::Trial(trial));
            }
        }
        Ok(())
    }

    /// The paths to the tasks beside the end of this one.
    fn beside<'a>(&'a self, path: &'a TaskPath) -> impl Iterator<Item = TaskPath> + 'a {
        let above = &path.nodes[..path.nodes.len() - 1];
        let parent = above.last().map(|node| node.task);
        let beside = parent.and_then(|parent| self.below.get(&parent));
        let beside = beside.into_iter().flat_map(BTreeMap::values);
        let beside = beside.take(MOST_BESIDE);
        beside.map(|task| {
            let nodes = above.iter().chain([task]).cloned().collect();
            TaskPath { nodes }
        })
    }

    fn trial(&self, entry: &Entry) -> Result<Arc<Trial>, Failure> {
        let samples = entry.held.iter().map(HeldSample::trial);
        Ok(Arc::new(Trial {
            task: entry.group.task().task,
            beside: self.beside(&entry.group.path).collect(),
            samples: samples.collect::<Result<_, _>>()?,
            again: entry.group.labelled < LATER * self.rules.known_after,
        }))
    }

    fn conclude(&mut self, tried: TrialResult) -> Result<(), Failure> {
        match tried.verdict {
            Verdict::Apart => self.promote(tried.task),
            Verdict::Unsure => {
                self.touched.entry(tried.task).or_default();
                self.table.set_trying(tried.task, false);
                Ok(())
            }
            Verdict::Same(old) => {
                let entry = self.table.remove(tried.task);
                if entry.is_some() {
                    let settled = TaskUpdate::Aliased(tried.task, old.clone());
                    self.out.push(Grouped::TaskUpdate(settled));
                }
                self.let_go(entry, GroupOutcome::Alias(old))
            }
        }
    }

    /// Makes a group a task, and the tasks below it of which it has labels.
    fn promote(&mut self, task: TaskId) -> Result<(), Failure> {
        let Some(entry) = self.table.remove(task) else {
            return Ok(());
        };
        let above = entry.group.path.nodes.len() - 1;
        let mut defined = FxHashSet::default();
        for sample in &entry.held {
            let labelled = sample.release(None)?;
            let nodes = labelled.predicted.allocated.groups.iter();
            for node in nodes.flat_map(|group| &group.path.nodes[above..]) {
                if defined.insert(node.task) {
                    self.define(node.clone());
                    self.out
                        .push(Grouped::TaskUpdate(TaskUpdate::Defined(node.task)));
                    let change = KnowledgeChange::TaskDefined(node.clone());
                    self.out.push(Grouped::Change(Box::new(change)));
                }
            }
            self.released.push(labelled);
        }
        self.settle(entry, GroupOutcome::Task);
        Ok(())
    }

    /// Leaves all labels that are held to the tasks above.
    fn end(&mut self) -> Result<(), Failure> {
        for task in self.table.labelled() {
            self.touched.insert(task, Vec::new());
        }
        for (above, sample) in self.table.take_held() {
            self.released.push(sample.release(Some(above))?);
        }
        Ok(())
    }

    /// Gives out what came of an epoch.
    pub(super) fn give_out(&mut self) -> Vec<Grouped> {
        for (task, labelled) in std::mem::take(&mut self.touched) {
            let Some(entry) = self.table.get(task) else {
                continue;
            };
            self.stored.insert(task);
            let group = entry.group.clone();
            let grown = KnowledgeChange::UnseenGrown(UnseenGrown { group, labelled });
            self.out.push(Grouped::Change(Box::new(grown)));
        }
        if !self.released.is_empty() {
            let parts = std::mem::take(&mut self.released);
            self.out
                .push(Grouped::Released(Rc::new(LabelledEpoch { batches: parts })));
        }
        std::mem::take(&mut self.out)
    }
}

impl HeldSample {
    fn trial(&self) -> Result<TrialSample, Failure> {
        let Labelled {
            predicted: scored,
            rows,
            ..
        } = self.release(None)?;
        let row = rows.first().map_or(0, |row| *row as usize);
        let answer: Vec<f32> = scored.probabilities.row(row).to_vec();
        let pool = scored
            .pools
            .first()
            .ok_or("a sample without a prediction is held")?;
        Ok(TrialSample {
            features: scored.allocated.batch.features.row(row).to_vec(),
            label: self.label,
            lost: pool.loss(&answer, self.label),
        })
    }
}
