//! Baselines: other ways to learn from the same samples, tested on the same samples.

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

/// What trains and tests models on the tasks of a plan.
pub struct Baselines<'a> {
    settings: &'a Settings,
    measure: Measure,
    samples: &'a Samples,
    plan: &'a Plan,
    trainer: BuiltIn,
    runtime: Runtime,
    /// The features of all test samples, task by task.
    tested: Array2<f32>,
    stop: Arc<AtomicBool>,
    line: ProgressLine,
}

/// What answers are worth, by task.
type Worths = Vec<f64>;

impl<'a> Baselines<'a> {
    /// Baselines on the tasks of a plan.
    pub fn new(
        settings: &'a Settings,
        measure: Measure,
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
            measure,
            samples,
            plan,
            trainer: BuiltIn::find(runtime.clone())?,
            runtime,
            tested: samples.matrix(&rows),
            stop,
            line: ProgressLine::new(),
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
            Method::new(name, matrix, self.measure, ratio)
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
    /// frequent class so far, or the mean.
    fn independent(&mut self) -> Result<Matrix, Error> {
        let mut met = Vec::new();
        let mut known = Worths::new();
        let mut matrix = Matrix::new();
        for (stage, task) in self.plan.tasks.iter().enumerate() {
            met.extend(task.train.iter().map(|row| self.samples.labels[*row]));
            let usual = usual(self.settings.label_kind(), &met);
            let model = self.train("independent", stage, &task.train, None)?;
            known.push(self.test(&model)?[stage]);
            let unknown = self.worths(|_| usual).split_off(stage + 1);
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
            None => self.trainer.train(&request)?,
            Some(from) => self.trainer.warm_start(from, &request)?,
        };
        Ok(trained.onnx)
    }

    /// What the answers of a model are worth.
    fn test(&self, onnx: &[u8]) -> Result<Worths, Error> {
        let kind = self.settings.label_kind();
        let (features, width) = (self.settings.features(), kind.width());
        let mut said = Array2::zeros((self.tested.nrows(), width));
        let mut session = self.runtime.session(onnx, features, width)?;
        session.predict(self.tested.view(), said.view_mut())?;
        Ok(self.worths(|row| match kind {
            LabelKind::Classes(_) => predicted_class(said.row(row)) as f32,
            LabelKind::Number => said[[row, 0]],
        }))
    }

    /// What answers are worth, which are given by the row of `tested`.
    fn worths(&self, answer: impl Fn(usize) -> f32) -> Worths {
        let mut first = 0;
        let of_task = |test: &Vec<usize>| {
            let answers = (first..).map(&answer);
            first += test.len();
            let mut tally = Tally::default();
            for (row, answer) in test.iter().zip(answers) {
                tally.add(self.measure, answer, self.samples.labels[*row]);
            }
            tally.worth(self.measure)
        };
        self.plan
            .tasks
            .iter()
            .map(|task| &task.test)
            .map(of_task)
            .collect()
    }
}

/// What is said without a model: the most frequent class, the first of equals, or the mean.
fn usual(kind: LabelKind, labels: &[f32]) -> f32 {
    match kind {
        LabelKind::Classes(classes) => {
            let mut counts = vec![0_usize; classes];
            labels.iter().for_each(|label| counts[*label as usize] += 1);
            let most = counts.iter().max();
            let most = counts.iter().position(|count| Some(count) == most);
            most.unwrap_or(0) as f32
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
        assert_eq!(usual(LabelKind::Classes(3), &labels), 1.0);
        assert_eq!(usual(LabelKind::Number, &[1.0, 2.0, 6.0]), 3.0);
    }
}
