//! Calibrating: the scores of samples of known tasks, with which those that come are compared.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::Map;

use crate::algorithms::recognize::{Calibration, Calibrator, MOST_OF_EPOCH, NoveltyScores};
use crate::data::{Epoch, priority};
use crate::epochs::Epochs;
use crate::flow::{CalibrationMoved, Effect, Feedback, Flow, KnowledgeChange, Predicted};

/// A sample's priority, and its scores.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CalibrationCandidate(u64, NoveltyScores);

/// The samples of known tasks of a batch with the lowest priorities: a draw that does not depend on how samples are spread
/// over batches.
fn candidates(scored: &Predicted) -> Vec<CalibrationCandidate> {
    let Some(recognized) = &scored.recognized else {
        return Vec::new();
    };
    let allocated = &scored.allocated;
    let rows = recognized
        .scores
        .iter()
        .zip(&allocated.group_of)
        .enumerate();
    let known = rows.filter(|(_, (_, group))| recognized.new_from[**group as usize].is_none());
    let candidates = known.map(|(row, (scores, _))| {
        CalibrationCandidate(priority(allocated.batch.sequence(row)), *scores)
    });
    lowest(candidates.collect())
}

fn lowest(mut candidates: Vec<CalibrationCandidate>) -> Vec<CalibrationCandidate> {
    candidates.sort_unstable_by_key(|candidate| candidate.0);
    candidates.truncate(MOST_OF_EPOCH);
    candidates
}

/// What became of the calibration in an epoch: what is committed, and what samples are compared with from the next epoch
/// on, if that is something else than before.
type Calibrated = (CalibrationMoved, Option<Arc<Calibration>>);

/// Collects the scores of samples of known tasks, all on worker 0. The first stream is what samples are to be compared
/// with from the next epoch on, the second what is committed.
pub fn calibrate<'scope>(
    scored: Flow<'scope, Rc<Predicted>>,
    restored: Calibrator,
) -> (Flow<'scope, Feedback>, Flow<'scope, Effect>) {
    let mut calibrator = restored;
    let calibrated = scored
        .each("Candidates", |scored| candidates(&scored))
        .per_epoch(
            Exchange::new(|_: &CalibrationCandidate| 0),
            "Calibrate",
            move |epoch, candidates, out| out.give(moved(&mut calibrator, epoch, candidates)),
        );
    let told = calibrated.clone().flat_map(|(_, calibration)| calibration);
    let effects =
        calibrated.map(|(moved, _)| Effect::Change(KnowledgeChange::CalibrationMoved(moved)));
    (told.map(Feedback::Calibration), effects)
}

fn moved(
    calibrator: &mut Calibrator,
    epoch: Epoch,
    candidates: Vec<CalibrationCandidate>,
) -> Calibrated {
    let lowest = lowest(candidates).into_iter();
    let (scores, left) = calibrator.add(epoch, lowest.map(|candidate| candidate.1).collect());
    let counts = scores.counts;
    let moved = CalibrationMoved { scores, left };
    let calibration = match counts {
        true => calibrator.calibration().map(Arc::new),
        false => None,
    };
    (moved, calibration)
}
