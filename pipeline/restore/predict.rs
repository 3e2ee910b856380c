//! First state of the stage predict.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::algorithms::neighbours::Neighbours;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::algorithms::recognize::{Calibrator, RecognitionRules};
use perennial_operators::algorithms::unseen::Trial;
use perennial_operators::flow::DeployedModel;
use perennial_operators::predict::Recognizer;
use perennial_operators::{ModelId, TaskId};

use super::Restored;
use crate::config::Settings;
use crate::error::Error;
use crate::learning;

/// First state of the stage predict.
pub struct PredictStart {
    /// The deployed models, the frozen baseline first.
    pub deployed: Vec<DeployedModel>,
    /// The model of the base task before its deployed one, which takes its place if it fails.
    pub spare: Option<DeployedModel>,
    /// Adapters of all tasks.
    pub adapters: Adapters,
    /// Recent samples in which new samples find their neighbours.
    pub neighbours: Neighbours,
    /// Recognizes unseen samples, and calibrates the recognition; none if it is not configured.
    pub recognition: Option<(Recognizer, Calibrator)>,
    /// Trials of unseen tasks that were ordered and not carried out; on worker 0.
    pub trials: Vec<Arc<Trial>>,
}

impl Restored {
    pub(super) fn start_predict(
        &self,
        settings: &Settings,
        trials: Vec<Arc<Trial>>,
    ) -> PredictStart {
        let rules = settings.unseen.clone();
        PredictStart {
            deployed: self.deployed.clone(),
            spare: self.spare.clone(),
            adapters: self.adapters.clone(),
            neighbours: self.neighbours(settings.neighbours()),
            recognition: rules.map(|rules| (self.recognizer(rules), self.calibrator())),
            trials,
        }
    }

    /// The samples in which new ones find their neighbours, at most `most` of each task.
    fn neighbours(&self, most: usize) -> Neighbours {
        let mut neighbours = Neighbours::new(most);
        if let Some(deviations) = &self.deviations {
            neighbours.set_deviations(deviations);
        }
        for (_, moved) in &self.recents {
            neighbours.add(moved);
        }
        neighbours
    }

    /// The calibrator, with the novelty scores of samples of known tasks so far.
    pub(super) fn calibrator(&self) -> Calibrator {
        let epochs = self.calibration.iter();
        Calibrator::restore(epochs.map(|(epoch, scores)| (*epoch, scores.clone())))
    }

    /// The recognizer of unseen samples by `rules`.
    fn recognizer(&self, rules: RecognitionRules) -> Recognizer {
        let known = self.known(rules.known_after);
        let mut recognizer = Recognizer::new(rules, known);
        if let Some(reference) = &self.reference {
            recognizer.compare_with(reference.clone());
        }
        if let Some(calibration) = self.calibrator().calibration() {
            recognizer.calibrate(Arc::new(calibration));
        }
        recognizer.set_regions(self.regions.regions.clone());
        recognizer
    }
}

/// The model that the base task's deployed one replaced, if it replaced one.
pub(super) fn spare(
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
) -> Result<Option<DeployedModel>, Error> {
    let task = TaskId::BASE;
    let Some(version) = tasks.get(&task).and_then(|record| record.deployed) else {
        return Ok(None);
    };
    let record = view.model(ModelId { task, version })?;
    let Some(version) = record.and_then(|record| record.replaced) else {
        return Ok(None);
    };
    Ok(Some(learning::load(view, ModelId { task, version })?))
}

/// The deployed models. With `keep_frozen` the first base model comes in front, if another one has
/// replaced it.
pub(super) fn deployed(
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
    keep_frozen: bool,
) -> Result<Vec<DeployedModel>, Error> {
    let mut models = Vec::new();
    let frozen = ModelId {
        task: TaskId::BASE,
        version: 1,
    };
    let base = tasks.get(&TaskId::BASE).and_then(|record| record.deployed);
    if keep_frozen && base.is_some_and(|version| version != frozen.version) {
        models.push(learning::load(view, frozen)?);
    }
    for (task, record) in tasks {
        if let Some(version) = record.deployed {
            let model = ModelId {
                task: *task,
                version,
            };
            models.push(learning::load(view, model)?);
        }
    }
    Ok(models)
}
