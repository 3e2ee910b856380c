//! Made-up samples, with and without predictions, for tests and benches.

use std::rc::Rc;
use std::sync::Arc;

use ndarray::Array2;
use perennial_operators::algorithms::pool::{Integration, Pool};
use perennial_operators::flow::{Allocated, Predicted};
use perennial_operators::flow::{EpochHeader, Phase};
use perennial_operators::ingest::Allocator;
use perennial_operators::predict::InferenceRules;
use perennial_operators::{
    Batch, Dictionary, Epoch, LabelKind, MISSING, ModelId, Score, TaskDifference, Texts,
};
use perennial_operators::{Level, TaskLevels};

/// A made-up sample.
#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    /// Codes of the attributes; see [`value`].
    pub attributes: Vec<u32>,
    pub features: Vec<f32>,
    pub label: f32,
}

/// The text of a code.
pub fn value(code: u32) -> String {
    format!("v{code}")
}

/// A batch of rows with equally many attributes and features.
pub fn batch(first: u64, rows: &[Row]) -> Batch {
    let columns = rows.first().map_or(0, |row| row.attributes.len());
    let width = rows.first().map_or(0, |row| row.features.len());
    let highest = |column: usize| {
        let codes = rows.iter().map(|row| row.attributes[column]);
        codes.filter(|code| *code != MISSING).max().unwrap_or(0)
    };
    let dictionaries = (0..columns).map(|column| {
        let dictionary = Dictionary::default();
        for code in 0..=highest(column) {
            dictionary.push(&value(code));
        }
        dictionary
    });
    let mut ids = Texts::default();
    (0..rows.len()).for_each(|row| ids.push(&format!("r{}", first + row as u64)));
    Batch {
        first,
        ids,
        times: rows.iter().map(|row| row.time).collect(),
        attributes: (0..columns)
            .map(|column| rows.iter().map(|row| row.attributes[column]).collect())
            .collect(),
        dictionaries: Arc::new(dictionaries.collect()),
        features: Array2::from_shape_fn((rows.len(), width), |(row, column)| {
            rows[row].features[column]
        }),
        labels: rows.iter().map(|row| row.label).collect(),
        ..Batch::default()
    }
}

/// The header of a scored epoch.
pub fn header(epoch: u64, end: u64, clock: i64) -> EpochHeader {
    EpochHeader {
        epoch: Epoch(epoch),
        end,
        clock,
        phase: Phase::Live,
    }
}

/// Levels of one attribute each: column 0, column 1, …, named `a0`, `a1`, ….
pub fn levels(columns: usize) -> TaskLevels {
    TaskLevels {
        levels: (0..columns)
            .map(|column| Level::Attributes(vec![(column, format!("a{column}"))]))
            .collect(),
    }
}

/// Rows allocated to tasks by all of their attributes.
pub fn allocated(header: EpochHeader, first: u64, rows: &[Row]) -> Allocated {
    let columns = rows.first().map_or(0, |row| row.attributes.len());
    Allocator::new(levels(columns)).allocate(header, batch(first, rows))
}

/// Rows with made-up predictions of two classes: the probability of class 1 is the first feature's
/// fraction.
pub fn scored(header: EpochHeader, first: u64, rows: &[Row]) -> Rc<Predicted> {
    let allocated = Rc::new(allocated(header, first, rows));
    if header.phase != Phase::Live || rows.is_empty() {
        return Rc::new(Predicted {
            allocated,
            probabilities: Array2::zeros((0, 2)),
            pools: Vec::new(),
            outputs: Array2::zeros((0, 2)),
            baselines: Vec::new(),
            recognized: None,
            trials: Vec::new(),
            failures: Vec::new(),
        });
    }
    let probabilities = Array2::from_shape_fn((rows.len(), 2), |(row, class)| {
        let one = rows[row].features[0].abs().fract();
        if class == 1 { one } else { 1.0 - one }
    });
    let pools = allocated.groups.iter().map(|group| {
        let model = ModelId {
            task: group.path.leaf().task,
            version: 1,
        };
        Rc::new(Pool::of(model, 2))
    });
    Rc::new(Predicted {
        pools: pools.collect(),
        outputs: probabilities.clone(),
        baselines: vec![probabilities.clone()],
        recognized: None,
        trials: Vec::new(),
        failures: Vec::new(),
        probabilities,
        allocated,
    })
}

/// Two classes; the finest model predicts alone, without adapters.
pub const FINEST: InferenceRules = InferenceRules {
    kind: LabelKind::Classes(2),
    integration: Integration::Leaf,
    adapters: false,
};

/// A difference of labelled samples, of which some are scored.
pub fn difference(labelled: i64, scores: &[(bool, f32)]) -> TaskDifference {
    let mut difference = TaskDifference {
        labelled: labelled + scores.len() as i64,
        ..TaskDifference::default()
    };
    difference.moments.resize_with(2, Default::default);
    difference.moments[0].count_value(labelled as f32 * 0.37);
    if !scores.is_empty() {
        difference.confusion = vec![0; 4];
        difference.baselines = vec![Score::default()];
    }
    for (correct, probability) in scores {
        let score = Score::one(*correct, *probability);
        difference.score.add(&score);
        difference.baselines[0].add(&score);
        difference.confusion[usize::from(*correct)] += 1;
        difference.moments[1].count_value(*probability);
    }
    difference
}
