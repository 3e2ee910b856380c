//! Baselines: other ways to learn from the same samples, tested on the same samples.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ndarray::{Array2, ArrayView1};
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::BuiltIn;
use perennial_operators::TrainRequest;
use perennial_operators::flow::predicted_class;

use super::check;
use super::figures::{Matrix, samples_transfer_ratio};
use super::findings::Method;
use super::plan::Plan;
use super::samples::Samples;
use crate::config::Settings;
use crate::error::Error;
use crate::progress::Line;

/// What trains and tests models on the tasks of a plan.
pub struct Baselines<'a> {
    settings: &'a Settings,
    samples: &'a Samples,
    plan: &'a Plan,
    trainer: BuiltIn,
    runtime: Runtime,
    /// The features of all test samples, task by task.
    tested: Array2<f32>,
    stop: Arc<AtomicBool>,
    line: Line,
}

/// Accuracies by task.
type Accuracies = Vec<f64>;

impl<'a> Baselines<'a> {
    /// Baselines on the tasks of a plan.
    pub fn new(
        settings: &'a Settings,
        samples: &'a Samples,
        plan: &'a Plan,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let runtime = Runtime::load()?;
        let rows: Vec<usize> = plan
            .tasks
            .iter()
            .flat_map(|task| task.test.iter().copied())
            .collect();
        Ok(Baselines {
            settings,
            samples,
            plan,
            trainer: BuiltIn::find(runtime.clone())?,
            runtime,
            tested: samples.matrix(&rows),
            stop,
            line: Line::new(),
        })
    }

    /// Measures all of them.
    pub fn measure(mut self) -> Result<Vec<Method>, Error> {
        let stages = self.plan.tasks.len();
        let single = self.single()?;
        // Its first model is that of the first stage.
        let frozen = vec![single[0].clone(); stages];
        let independent = self.independent()?;
        let fine_tuned = self.fine_tuned()?;
        let later = self.plan.tasks[1..].iter();
        let inferred: usize = later.map(|task| task.train.len()).sum();
        let of = |name: &str, matrix: Matrix, transferred: usize| {
            let ratio = samples_transfer_ratio(transferred as u64, inferred as u64);
            Method::new(name, matrix, &self.settings.classes, ratio)
        };
        Ok(vec![
            of("frozen", frozen, 0),
            of("single", single, inferred),
            of("independent", independent, inferred),
            of("fine-tuned", fine_tuned, inferred),
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

    /// A model for each task, of that task's train samples alone. A task that has not been met is answered by the most
    /// frequent class so far.
    fn independent(&mut self) -> Result<Matrix, Error> {
        let mut counts = vec![0_usize; self.settings.classes.len()];
        let mut known = Accuracies::new();
        let mut matrix = Matrix::new();
        for (stage, task) in self.plan.tasks.iter().enumerate() {
            for row in &task.train {
                counts[self.samples.labels[*row]] += 1;
            }
            let class = most_frequent(&counts);
            let model = self.train("independent", stage, &task.train, None)?;
            known.push(self.test(&model)?[stage]);
            let unknown = self.accuracies(|_| class).split_off(stage + 1);
            matrix.push(known.iter().copied().chain(unknown).collect());
        }
        Ok(matrix)
    }

    /// One model, continued after each stage on that stage's train samples alone: as many trees again correct those
    /// before.
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

    /// A model, as ONNX, that is trained on some samples: on its own, or to correct another.
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
        let labels = rows.iter().map(|row| self.samples.labels[*row] as f32);
        let request = TrainRequest {
            features: self.samples.matrix(rows),
            labels: labels.collect(),
            weights: None,
            classes: self.settings.classes.len(),
            margins: None,
            parameters: self.settings.config().training.trees.clone(),
        };
        let trained = match from {
            None => self.trainer.train(&request)?,
            Some(from) => self.trainer.warm_start(from, &request)?,
        };
        Ok(trained.onnx)
    }

    /// The accuracies of a model.
    fn test(&self, onnx: &[u8]) -> Result<Accuracies, Error> {
        let (features, classes) = (self.settings.features(), self.settings.classes.len());
        let mut probabilities = Array2::zeros((self.tested.nrows(), classes));
        let mut session = self.runtime.session(onnx, features, classes)?;
        session.predict(self.tested.view(), probabilities.view_mut())?;
        let answer = |row| predicted_class(ArrayView1::from(probabilities.row(row)));
        Ok(self.accuracies(answer))
    }

    /// The accuracies of answers, which are given by the row of `tested`.
    fn accuracies(&self, answer: impl Fn(usize) -> usize) -> Accuracies {
        let mut first = 0;
        let of_task = |test: &Vec<usize>| {
            let answers = (first..).map(&answer);
            first += test.len();
            let right = test
                .iter()
                .zip(answers)
                .filter(|(row, answer)| self.samples.labels[**row] == *answer);
            right.count() as f64 / test.len() as f64
        };
        self.plan
            .tasks
            .iter()
            .map(|task| &task.test)
            .map(of_task)
            .collect()
    }
}

/// The class with the highest count, the first of equals.
fn most_frequent(counts: &[usize]) -> usize {
    let most = counts.iter().max();
    counts
        .iter()
        .position(|count| Some(count) == most)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_most_frequent_classes() {
        assert_eq!(most_frequent(&[1, 3, 3]), 1);
    }
}
