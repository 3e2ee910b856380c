//! Recount and checks of memory: retained samples, recent samples and the calibration.

use std::collections::BTreeMap;

use perennial_operators::algorithms::retain::class_of;
use perennial_operators::flow::CalibrationMoved;
use perennial_operators::{ClassRetained, Epoch, RecentMoved, SamplesRetained};

use super::{Findings, Recount};
use crate::knowledge_base::{KnowledgeError, Retained, View};

/// The samples that a task retains by the changes.
#[derive(Default)]
pub(super) struct RetainedLabels {
    classes: Vec<ClassRetained>,
    /// Labels by sequence number.
    labels: BTreeMap<u64, f32>,
}

impl RetainedLabels {
    fn retained(&self) -> Retained {
        let classes = self.classes.len();
        let labels = self.labels.iter();
        Retained {
            classes: self.classes.clone(),
            samples: labels
                .map(|(sequence, label)| (class_of(*label, classes), *sequence))
                .collect(),
        }
    }
}

impl Recount {
    /// Adds and drops retained samples of a task.
    pub(super) fn retain_samples(&mut self, retained: SamplesRetained) {
        let task = self.retained.entry(retained.task).or_default();
        let samples = retained.samples.iter();
        task.labels
            .extend(samples.map(|sample| (sample.sequence, sample.label)));
        for sequence in retained.dropped {
            task.labels.remove(&sequence);
        }
        task.classes = retained.classes;
    }

    /// Adds an epoch to the recent samples of a task, and removes the epochs that left.
    pub(super) fn move_recent(&mut self, epoch: Epoch, moved: RecentMoved) {
        self.recents.insert((moved.task, epoch), moved.samples);
        for left in moved.left {
            self.recents.remove(&(moved.task, left));
        }
    }

    /// Adds an epoch to the calibration, and removes the epochs that left.
    pub(super) fn move_calibration(&mut self, epoch: Epoch, moved: CalibrationMoved) {
        self.calibration.insert(epoch, moved.scores);
        for left in moved.left {
            self.calibration.remove(&left);
        }
    }
}

impl View<'_> {
    pub(super) fn verify_memory(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        findings.unless(
            self.reference()? == recount.reference
                && self.kb.encode(&self.calibration()?)? == self.kb.encode(&recount.calibration)?,
            "recognition",
            "what samples are compared with differs from what the changes say",
        );
        // Compared as bytes, since NaN, a missing value, does not equal itself.
        let (found, expected) = (self.recents()?, &recount.recents);
        let mut same = found.keys().eq(expected.keys());
        for (found, expected) in found.values().zip(expected.values()) {
            same &= self.kb.encode(found)? == self.kb.encode(expected)?;
        }
        findings.unless(
            same,
            "recent samples",
            "the recent samples differ from what the changes say",
        );
        self.verify_samples(recount, findings)
    }

    fn verify_samples(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        let retained = self.retained()?;
        let recounted = recount.retained.iter();
        findings.unless(
            recounted
                .map(|(task, kept)| (*task, kept.retained()))
                .eq(retained.iter().map(|(task, of)| (*task, of.clone()))),
            "samples",
            "the retained samples differ from a recount of the changes",
        );
        for (task, of) in &retained {
            let seen: u64 = of.classes.iter().map(|class| class.seen).sum();
            let labelled = recount.totals.get(task).map_or(0, |total| total.labelled);
            findings.unless(
                seen <= labelled as u64,
                task,
                "its samples are of more labels than its statistics count",
            );
        }
        let memory = self.memory()?;
        let samples = retained.values().map(|of| of.samples.len() as u64);
        let largest = samples.clone().max().unwrap_or(0);
        findings.unless(
            memory == recount.memory
                && memory.is_none_or(|memory| {
                    largest <= memory.samples_per_task
                        && samples.sum::<u64>() * memory.sample_bytes <= memory.bytes
                }),
            "memory",
            "more samples are retained than may be, or the bound differs from the changes",
        );
        Ok(())
    }
}
