//! Figures of lifelong learning from a matrix of accuracies, or of R² where the label is a number.
//! `matrix[i][j]` is the accuracy on task `j` after stage `i`, in which task `i` was learned.

use serde::Serialize;

use super::measure::Measure;

/// Accuracies: one row a stage, one column a task; square.
pub type Matrix = Vec<Vec<f64>>;

/// Figures of a method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Mean over all tasks at the end (ACC of Lopez-Paz & Ranzato 2017).
    #[serde(flatten)]
    pub average: Average,
    /// Backward transfer of Lopez-Paz & Ranzato 2017.
    pub bwt: f64,
    /// Forward transfer of Lopez-Paz & Ranzato 2017, against an untrained predictor.
    pub fwt: f64,
    /// BWT as KubeEdge Ianvs computes it.
    pub ianvs_bwt: f64,
    /// FWT as KubeEdge Ianvs computes it.
    pub ianvs_fwt: f64,
    /// Forgetting of Chaudhry et al. 2018.
    pub forgetting: f64,
    /// Share of the samples of later stages that is kept for training, as KubeEdge Ianvs computes
    /// it.
    pub samples_transfer_ratio: f64,
}

/// Mean of the measure over all tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Average {
    /// Mean accuracy.
    #[serde(rename = "average_accuracy")]
    Accuracy(f64),
    /// Mean R².
    #[serde(rename = "average_r2")]
    R2(f64),
}

impl Average {
    /// The mean.
    pub fn value(self) -> f64 {
        let (Average::Accuracy(value) | Average::R2(value)) = self;
        value
    }
}

impl Figures {
    /// The figures of a matrix of at least two tasks.
    pub fn new(matrix: &Matrix, measure: Measure, samples_transfer_ratio: f64) -> Figures {
        let ianvs = Ianvs::new(matrix);
        let average = mean(matrix[matrix.len() - 1].iter().copied());
        Figures {
            average: match measure {
                Measure::Accuracy(_) => Average::Accuracy(average),
                Measure::R2(_) => Average::R2(average),
            },
            bwt: bwt(matrix),
            fwt: fwt(matrix, measure.untrained()),
            ianvs_bwt: ianvs.bwt,
            ianvs_fwt: ianvs.fwt,
            forgetting: forgetting(matrix),
            samples_transfer_ratio,
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Mean over all tasks but the last of the change of their accuracy since they were learned.
fn bwt(matrix: &Matrix) -> f64 {
    let last = matrix.len() - 1;
    mean((0..last).map(|task| matrix[last][task] - matrix[task][task]))
}

/// Mean over all tasks but the first of their accuracy just before they are learned, above that of
/// an untrained predictor.
fn fwt(matrix: &Matrix, untrained: f64) -> f64 {
    mean((1..matrix.len()).map(|task| matrix[task - 1][task] - untrained))
}

/// Mean over all tasks but the last of the best accuracy before the last stage, less the accuracy
/// at the end (Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", §2.3).
fn forgetting(matrix: &Matrix) -> f64 {
    let last = matrix.len() - 1;
    mean((0..last).map(|task| {
        let earlier = matrix[..last].iter().map(|row| row[task]);
        earlier.fold(f64::NEG_INFINITY, f64::max) - matrix[last][task]
    }))
}

/// Mean accuracy over the tasks learned so far, stage by stage.
pub fn over_time(matrix: &Matrix) -> impl Iterator<Item = f64> {
    let rows = matrix.iter().enumerate();
    rows.map(|(stage, row)| mean(row[..=stage].iter().copied()))
}

/// BWT and FWT of `core/testcasecontroller/metrics/metrics.py` in kubeedge/ianvs (`compute`, behind
/// `bwt_func` and `fwt_func`).
///
/// Its matrix has one row more than columns: row 0 follows an initial training, whose own task is
/// not among the columns, and row `r` follows round `r`, which learns column `r - 1`. So our first
/// stage is its initial training, and our second task is its first column.
struct Ianvs {
    bwt: f64,
    fwt: f64,
}

impl Ianvs {
    fn new(matrix: &Matrix) -> Ianvs {
        let rounds = matrix.len() - 1;
        let at = |row: usize, column: usize| matrix[row][column + 1];
        let mut sums = Ianvs { bwt: 0.0, fwt: 0.0 };
        for round in 0..rounds {
            for column in 0..rounds {
                sums.bwt += at(round + 1, column) - at(round, column);
            }
            sums.fwt += at(round, round) - at(0, round);
        }
        Ianvs {
            bwt: sums.bwt / (rounds * rounds) as f64,
            fwt: sums.fwt / rounds as f64,
        }
    }
}

/// `samples_transfer_ratio_func` of the same file: samples transferred for training, divided by one
/// more than the samples inferred, to four decimals.
pub fn samples_transfer_ratio(transferred: u64, inferred: u64) -> f64 {
    (transferred as f64 / (inferred + 1) as f64 * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        vec![
            vec![0.9, 0.4, 0.3],
            vec![0.8, 0.7, 0.5],
            vec![0.6, 0.75, 0.8],
        ]
    }

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
    }

    #[test]
    fn the_figures_of_a_matrix_by_hand() {
        let figures = Figures::new(&matrix(), Measure::Accuracy(4), 0.5);
        assert_close(figures.average.value(), (0.6 + 0.75 + 0.8) / 3.0);
        assert_close(figures.bwt, ((0.6 - 0.9) + (0.75 - 0.7)) / 2.0);
        assert_close(figures.fwt, ((0.4 - 0.25) + (0.5 - 0.25)) / 2.0);
        assert_close(figures.forgetting, ((0.9 - 0.6) + (0.7 - 0.75)) / 2.0);
        assert_eq!(figures.samples_transfer_ratio, 0.5);
    }

    #[test]
    fn ianvs_leaves_the_first_task_out() {
        // What its own `compute` prints of [[.4, .3], [.7, .5], [.75, .8]].
        let figures = Figures::new(&matrix(), Measure::Accuracy(4), 0.5);
        assert_close(figures.ianvs_bwt, 0.2125);
        assert_close(figures.ianvs_fwt, 0.1);
    }

    #[test]
    fn nothing_moves_without_learning() {
        let frozen = vec![vec![0.9, 0.4, 0.3]; 3];
        let figures = Figures::new(&frozen, Measure::Accuracy(3), 0.0);
        let moved = [
            figures.bwt,
            figures.ianvs_bwt,
            figures.ianvs_fwt,
            figures.forgetting,
        ];
        assert_eq!(moved, [0.0; 4]);
        assert_close(figures.fwt, (0.4 + 0.3) / 2.0 - 1.0 / 3.0);
    }

    #[test]
    fn accuracy_over_time_is_of_the_tasks_learned() {
        let over_time: Vec<f64> = over_time(&matrix()).collect();
        assert_close(over_time[0], 0.9);
        assert_close(over_time[1], 0.75);
        assert_close(over_time[2], (0.6 + 0.75 + 0.8) / 3.0);
    }

    #[test]
    fn a_ratio_has_four_places() {
        assert_eq!(samples_transfer_ratio(2, 2), 0.6667);
        assert_eq!(samples_transfer_ratio(0, 0), 0.0);
    }
}
