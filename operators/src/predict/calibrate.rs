//! Calibration: collects novelty scores of samples of known tasks, to compare later scores with.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::Map;

use crate::algorithms::recognize::{Calibration, Calibrator, MOST_OF_EPOCH, NoveltyScores};
use crate::data::{Epoch, priority};
use crate::epochs::Epochs;
use crate::flow::{CalibrationMoved, Effect, Feedback, Flow, KnowledgeChange, Predicted};

/// Priority of a sample, and its scores.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CalibrationCandidate(u64, NoveltyScores);

/// Candidates of a batch: its samples of known tasks with the lowest priorities. Drawn by priority,
/// the sample does not depend on how the stream is cut into batches.
fn candidates(predicted: &Predicted) -> Vec<CalibrationCandidate> {
    let Some(recognized) = &predicted.recognized else {
        return Vec::new();
    };
    let allocated = &predicted.allocated;
    let is_known = |group: &u32| recognized.first_unknown[*group as usize].is_none();
    let candidates = recognized
        .scores
        .iter()
        .zip(&allocated.group_of)
        .enumerate()
        .filter(|(_, (_, group))| is_known(group))
        .map(|(row, (scores, _))| {
            CalibrationCandidate(priority(allocated.batch.sequence(row)), *scores)
        });
    lowest(candidates.collect())
}

fn lowest(mut candidates: Vec<CalibrationCandidate>) -> Vec<CalibrationCandidate> {
    candidates.sort_unstable_by_key(|candidate| candidate.0);
    candidates.truncate(MOST_OF_EPOCH);
    candidates
}

/// The change of the calibration in an epoch, and the new calibration, if later samples are to be
/// compared with another one.
type Calibrated = (CalibrationMoved, Option<Arc<Calibration>>);

/// Collects the novelty scores of samples of known tasks, all on worker 0. The first returned
/// stream has new calibrations, in force from the next epoch on; the second has what is committed.
pub fn calibrate<'scope>(
    predicted: Flow<'scope, Rc<Predicted>>,
    mut calibrator: Calibrator,
) -> (Flow<'scope, Feedback>, Flow<'scope, Effect>) {
    let calibrated = predicted
        .each("Candidates", |predicted| candidates(&predicted))
        .per_epoch(
            Exchange::new(|_: &CalibrationCandidate| 0),
            "Calibrate",
            move |epoch, candidates, out| out.give(add(&mut calibrator, epoch, candidates)),
        );
    let feedback = calibrated
        .clone()
        .flat_map(|(_, calibration)| calibration.map(Feedback::Calibration));
    let effects = calibrated.map(|(moved, _)| KnowledgeChange::CalibrationMoved(moved).into());
    (feedback, effects)
}

fn add(
    calibrator: &mut Calibrator,
    epoch: Epoch,
    candidates: Vec<CalibrationCandidate>,
) -> Calibrated {
    let scores = lowest(candidates)
        .into_iter()
        .map(|candidate| candidate.1)
        .collect();
    let (scores, left) = calibrator.add(epoch, scores);
    let calibration = if scores.counts {
        calibrator.calibration().map(Arc::new)
    } else {
        None
    };
    (CalibrationMoved { scores, left }, calibration)
}
