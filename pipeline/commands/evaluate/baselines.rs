//! Baselines: simpler ways to learn from the same samples, tested on the same samples.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ndarray::Array2;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::BuiltIn;
use perennial_operators::flow::predicted_class;
use perennial_operators::{LabelKind, TrainRequest};

use super::figures::{Matrix, samples_transfer_ratio};
use super::findings::Method;
use super::measure::{Measure, Tally};
use super::options::check;
use super::plan::Plan;
use super::samples::Samples;
use crate::config::Settings;
use crate::error::Error;
use crate::run::progress::ProgressLine;

/// Trains and tests the models of baselines on the tasks of a plan.
pub struct Baselines<'a> {
    settings: &'a Settings,
    measure: Measure,
    samples: &'a Samples,
    plan: &'a Plan,
    trainer: BuiltIn,
    runtime: Runtime,
    /// Features of all test samples, task by task.
    test_features: Array2<f32>,
    stop: Arc<AtomicBool>,
    line: ProgressLine,
}

/// Accuracy, or R², by task: a row of a matrix.
type MatrixRow = Vec<f64>;

impl<'a> Baselines<'a> {
    /// The baselines on the tasks of a plan.
    pub fn new(
        settings: &'a Settings,
        measure: Measure,
        samples: &'a Samples,
        plan: &'a Plan,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let runtime = Runtime::load()?;
        let tested = plan.tasks.iter().flat_map(|task| &task.test);
        let rows: Vec<usize> = tested.copied().collect();
        Ok(Baselines {
            settings,
            measure,
            samples,
            plan,
            trainer: BuiltIn::find(runtime.clone())?,
            runtime,
            test_features: samples.matrix(&rows),
            stop,
            line: ProgressLine::new(),
        })
    }

    /// Measures all baselines.
    pub fn measure(mut self) -> Result<Vec<Method>, Error> {
        let stages = self.plan.tasks.len();
        let single = self.single()?;
        // Its first model is that of the first stage.
        let frozen = vec![single[0].clone(); stages];
        let independent = self.independent()?;
        let fine_tuned = self.fine_tuned()?;
        let later_tasks = self.plan.tasks[1..].iter();
        let inferred: usize = later_tasks.map(|task| task.train.len()).sum();
        let method = |name: &str, matrix: Matrix, transferred: usize| {
            let ratio = samples_transfer_ratio(transferred as u64, inferred as u64);
            Method::new(name, matrix, self.measure, ratio)
        };
        Ok(vec![
            method("frozen", frozen, 0),
            method("single", single, inferred),
            method("independent", independent, inferred),
            method("fine-tuned", fine_tuned, inferred),
        ])
    }

    /// One model, refitted after each stage on all train samples so far.
    fn single(&mut self) -> Result<Matrix, Error> {
        let mut rows = Vec::new();
        let mut matrix = Matrix::new();
        for (stage, task) in self.plan.tasks.iter().enumerate() {
            rows.extend(&task.train);
            let model = self.train("single", stage, &rows, None)?;
            matrix.push(self.test(&model)?);
        }
        Ok(matrix)
    }

    /// A model for each task, fitted on that task's train samples alone. The prediction for later
    /// tasks is the most frequent class so far, or the mean.
    fn independent(&mut self) -> Result<Matrix, Error> {
        let mut labels = Vec::new();
        let mut known = MatrixRow::new();
        let mut matrix = Matrix::new();
        for (stage, task) in self.plan.tasks.iter().enumerate() {
            labels.extend(task.train.iter().map(|row| self.samples.labels[*row]));
            let constant = constant(self.settings.label_kind(), &labels);
            let model = self.train("independent", stage, &task.train, None)?;
            known.push(self.test(&model)?[stage]);
            let unknown = self.score(|_| constant).split_off(stage + 1);
            matrix.push(known.iter().copied().chain(unknown).collect());
        }
        Ok(matrix)
    }

    /// One model, continued after each stage on that stage's train samples alone: as many trees
    /// again correct those before.
    fn fine_tuned(&mut self) -> Result<Matrix, Error> {
        let mut model: Option<Vec<u8>> = None;
        let mut matrix = Matrix::new();
        for (stage, task) in self.plan.tasks.iter().enumerate() {
            let continued = self.train("fine-tuned", stage, &task.train, model.as_deref())?;
            matrix.push(self.test(&continued)?);
            model = Some(continued);
        }
        Ok(matrix)
    }

    /// Trains a model on some samples, as a correction of the model `from` if it is given. Returns
    /// ONNX.
    fn train(
        &mut self,
        method: &str,
        stage: usize,
        rows: &[usize],
        from: Option<&[u8]>,
    ) -> Result<Vec<u8>, Error> {
        check(&self.stop)?;
        if self.line.is_due() {
            let stages = self.plan.tasks.len();
            self.line
                .show(format!("{method}: stage {} of {stages}", stage + 1));
        }
        let labels = rows.iter().map(|row| self.samples.labels[*row]);
        let request = TrainRequest {
            features: self.samples.matrix(rows),
            labels: labels.collect(),
            weights: None,
            kind: self.settings.label_kind(),
            margins: None,
            parameters: self.settings.config().training.trees.clone(),
        };
        let trained = match from {
            None => self.trainer.train(&request, None)?,
            Some(from) => self.trainer.warm_start(from, &request, None)?,
        };
        Ok(trained.onnx)
    }

    /// Tests a model on all tasks.
    fn test(&self, onnx: &[u8]) -> Result<MatrixRow, Error> {
        let kind = self.settings.label_kind();
        let (features, width) = (self.settings.features(), kind.width());
        let mut outputs = Array2::zeros((self.test_features.nrows(), width));
        let mut session = self.runtime.session(onnx, features, width)?;
        session.predict(self.test_features.view(), outputs.view_mut())?;
        Ok(self.score(|row| match kind {
            LabelKind::Classes(_) => predicted_class(outputs.row(row)) as f32,
            LabelKind::Number => outputs[[row, 0]],
        }))
    }

    /// Scores predictions, which are given by the row of `test_features`.
    fn score(&self, prediction: impl Fn(usize) -> f32) -> MatrixRow {
        let mut predictions = (0..).map(prediction);
        let mut score_task = |test: &[usize]| {
            let mut tally = Tally::default();
            for (row, prediction) in test.iter().zip(&mut predictions) {
                tally.add(self.measure, prediction, self.samples.labels[*row]);
            }
            tally.value(self.measure)
        };
        let tasks = self.plan.tasks.iter();
        tasks.map(|task| score_task(&task.test)).collect()
    }
}

/// The best prediction without a model: the most frequent class, the first of equals, or the mean.
fn constant(kind: LabelKind, labels: &[f32]) -> f32 {
    match kind {
        LabelKind::Classes(classes) => {
            let mut counts = vec![0_usize; classes];
            labels.iter().for_each(|label| counts[*label as usize] += 1);
            let highest = counts.iter().max();
            let class = counts.iter().position(|count| Some(count) == highest);
            class.unwrap_or(0) as f32
        }
        LabelKind::Number => {
            let sum: f64 = labels.iter().map(|label| f64::from(*label)).sum();
            (sum / labels.len() as f64) as f32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_most_frequent_classes_or_the_mean() {
        let labels = [0.0, 2.0, 1.0, 2.0, 1.0, 1.0, 2.0];
        assert_eq!(constant(LabelKind::Classes(3), &labels), 1.0);
        assert_eq!(constant(LabelKind::Number, &[1.0, 2.0, 6.0]), 3.0);
    }
}
