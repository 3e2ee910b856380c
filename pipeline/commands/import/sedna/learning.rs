//! The part of a config that comes from a job: when to train, on how much, and what becomes of the
//! unseen.

use std::fmt::Write;

use serde_json::Value;

use super::resources::{Condition, Job, PodTemplate, Timer, Variable};
use crate::commands::init::{epoch_records, scalar};
use crate::config::{TrainingConfig, clock_seconds};
use crate::error::Error;

/// Labels that may be requested a day, where Sedna saves unseen samples for somebody to label.
const LABELS_PER_DAY: u32 = 50;

/// Variables of a deployment in which Sedna is told where to save unseen samples.
const UNSEEN: [&str; 3] = ["UT_SAVED_URL", "UTD_SAVED_URL", "unseen_save_url"];

/// Minutes of a day.
const DAY: i64 = 24 * 60;

/// When a training starts.
struct Threshold {
    /// `>` or `>=`.
    operator: &'static str,
    /// Number of new samples.
    samples: u64,
}

impl Threshold {
    /// Sedna compares with the share of the new samples that is for training; Perennial with all of
    /// them.
    fn new(condition: &Condition, share: f64) -> Result<Threshold, Error> {
        let wrong = |field: &str, message: String| {
            let path = format!("spec.trainSpec.trigger.condition.{field}");
            Err(Error::Arguments(format!("{path}: {message}")))
        };
        let Condition {
            operator,
            threshold,
            metric,
        } = condition;
        if metric != "num_of_samples" {
            let message = format!(
                "\"{metric}\" is not known: Sedna gives num_of_samples alone. Perennial's own metrics are \
                 under triggers.when in the book"
            );
            return wrong("metric", message);
        }
        let operator = match operator.as_str() {
            ">" | "gt" => ">",
            ">=" | "ge" => ">=",
            _ => {
                let message = format!(
                    "\"{operator}\" cannot be carried over: a training starts when there are enough new \
                     samples (>, gt, >=, ge)"
                );
                return wrong("operator", message);
            }
        };
        if !(0.0..=1e12).contains(threshold) {
            return wrong(
                "threshold",
                format!("expected a number from 0 on, not {threshold}"),
            );
        }
        Ok(Threshold {
            operator,
            // A sum of floats that is whole but for its last digits is whole.
            samples: (threshold / share - 1e-6).ceil().max(0.0) as u64,
        })
    }

    /// Number of samples with which the first training starts.
    fn first(&self) -> u64 {
        match self.operator {
            ">" => self.samples + 1,
            _ => self.samples.max(1),
        }
    }
}

/// The sections of a config that follow from a job, in their order.
pub(super) struct JobSections {
    /// Number of samples with which the first training starts.
    pub(super) first: u64,
    /// `epoch`, where a pipeline does all.
    pub(super) epoch: String,
    /// `triggers` and `training`.
    pub(super) training: String,
    /// `unseen` and `label_requests`, if unseen samples are saved.
    pub(super) unseen: String,
    /// `predictions`.
    pub(super) predictions: String,
    /// `report`.
    pub(super) report: String,
}

/// The sections that follow from a job. `offset` is that of the node's local time, minutes;
/// `has_times` is false if the times of the samples are made up.
pub(super) fn job_sections(
    name: &str,
    job: &Job,
    offset: Option<i64>,
    has_times: bool,
) -> Result<JobSections, Error> {
    let share = job.dataset.train_prob;
    if !(share > 0.1 && share < 1.0) {
        return Err(Error::Arguments(format!(
            "spec.dataset.trainProb: expected above 0.1 and below 1, not {share}: the rest is held out, for models to \
             be judged on"
        )));
    }
    let trigger = &job.train_spec.trigger;
    let condition = &trigger.condition;
    let threshold = Threshold::new(condition, share)?;
    let first = threshold.first();
    let mut text = String::new();
    let _ = write!(
        text,
        "triggers:\n  # {} {} {}: Sedna counts the share of the new samples that it trains on ({share}),\n  \
         # Perennial counts all of them.\n  when: ['new_samples {} {}']\n",
        condition.metric,
        condition.operator,
        condition.threshold,
        threshold.operator,
        threshold.samples
    );
    if let Some(seconds) = trigger.check_period_seconds.filter(|seconds| *seconds > 0) {
        let _ = writeln!(
            text,
            "  # Sedna reads checkPeriodSeconds and goes its own pace.\n  check_every: {seconds}s"
        );
    }
    if let Some(timer) = &trigger.timer {
        text.push_str(&window(timer, offset, has_times)?);
    }
    text.push_str(&training(job, share, first, threshold.samples));
    let mut deployed = job.deploy_spec.template.variables();
    let saves_unseen = deployed.any(|variable| UNSEEN.contains(&variable.name.as_str()));
    let unseen = if saves_unseen {
        format!(
            "# Sedna saves unseen samples for somebody to label. Here they are recognized, and the labels that\n\
             # help most are asked for.\nunseen: {{}}\nlabel_requests:\n  per_day: {LABELS_PER_DAY}\n  path: {}\n",
            scalar(&format!("{name}-requests.jsonl"))
        )
    } else {
        String::new()
    };
    let predictions = scalar(&format!("{name}-predictions.jsonl"));
    Ok(JobSections {
        first,
        epoch: format!(
            "# Models change between epochs, and the condition is looked at there.\nepoch:\n  records: {}\n",
            epoch_records(threshold.samples)
        ),
        training: text,
        unseen,
        predictions: format!("predictions:\n  path: {predictions}\n"),
        report: "# The report compares with the first model left as it was, and with one model for all.\n\
                 report:\n  baselines: [frozen, single]\n"
            .to_string(),
    })
}

fn training(job: &Job, share: f64, first: u64, threshold: u64) -> String {
    let defaults = TrainingConfig::default();
    let holdout = ((1.0 - share) * 1e6).round() / 1e6;
    let mut text = format!("\ntraining:\n  holdout: {holdout} # what trainProb leaves\n");
    if first < defaults.min_samples {
        let _ = writeln!(
            text,
            "  min_samples: {first} # the condition is met with so few"
        );
    }
    if threshold < defaults.min_new_samples {
        let _ = writeln!(text, "  min_new_samples: {}", threshold.max(1));
    }
    if let Some(cores) = cores(&job.train_spec.template) {
        let _ = writeln!(text, "  threads: {cores} # the limit of the training's pod");
    }
    text
}

/// Whole processors that a pod may use, if it says so: `2` or `1500m`.
fn cores(template: &PodTemplate) -> Option<u64> {
    let limits = template.spec.containers.iter();
    let mut limits = limits.filter_map(|container| container.resources.limits.get("cpu"));
    let text = plain(limits.next()?);
    let cores = match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok()? / 1000.0,
        None => text.parse().ok()?,
    };
    (cores > 0.0 && cores < 1024.0).then_some(cores.ceil() as u64)
}

/// The daily window in UTC.
fn window(timer: &Timer, offset: Option<i64>, has_times: bool) -> Result<String, Error> {
    let minutes = |field: &str, text: &str| {
        let parsed = clock_seconds(text).map(|seconds| seconds / 60);
        let path = format!("spec.trainSpec.trigger.timer.{field}");
        parsed.ok_or_else(|| {
            Error::Arguments(format!(
                "{path}: expected a time such as \"02:00\", not \"{text}\""
            ))
        })
    };
    let (start, end) = (minutes("start", &timer.start)?, minutes("end", &timer.end)?);
    if (start, end) == (0, DAY) {
        return Ok("  # The whole day.\n".to_string());
    }
    let shifted = |minutes: i64| match offset {
        None | Some(0) => minutes,
        Some(offset) => (minutes - offset).rem_euclid(DAY),
    };
    let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let about = match offset {
        Some(_) => "The node's local time, in UTC.".to_string(),
        None => {
            "UTC. Sedna means the node's local time: give --utc-offset, such as +08:00.".to_string()
        }
    };
    let between = format!(
        "between: \"{}-{}\"",
        clock(shifted(start)),
        clock(shifted(end))
    );
    Ok(if has_times {
        format!("  # {about}\n  {between}\n")
    } else {
        format!(
            "  # Add this for a live stream. In the copy times are made up, and all may be outside of it.\n  \
             # {about}\n  # {between}\n"
        )
    })
}

/// The fields that are not carried over, to one config or to two: the path of each in the job, and
/// what takes its place.
pub(super) fn left_out(job: &Job, is_split: bool) -> Vec<(String, String)> {
    let mut left = Vec::new();
    let mut add = |path: &str, what: String| left.push((path.to_string(), what));
    let train = &job.train_spec.template;
    for variable in train.variables() {
        let what = "a parameter of the training script; those of the built-in trainer are in training.trees";
        add("trainSpec env", format!("{}: {what}", shown(variable)));
    }
    for container in &train.spec.containers {
        let what = "to train with it, have a command read a request and write a model: training.trainer, in the \
                    book under \"Trainers\"";
        add(
            "trainSpec",
            format!("{} {}: {what}", container.image, container.args.join(" ")),
        );
    }
    for variable in job.eval_spec.template.variables() {
        let what = "a new model is deployed if it is better than the one that answers, on samples that it was not \
                    trained on, and rolled back if it does worse later";
        add("evalSpec env", format!("{}: {what}", shown(variable)));
    }
    for variable in job.deploy_spec.template.variables() {
        if UNSEEN.contains(&variable.name.as_str()) {
            continue;
        }
        let what = if variable.name.starts_with("infer_dataset") {
            "samples to predict and samples with labels are one stream here, which is source"
        } else {
            "a parameter of the inference script"
        };
        add("deploySpec env", format!("{}: {what}", shown(variable)));
    }
    let nodes = [train, &job.deploy_spec.template].map(|template| &template.spec.node_name);
    if nodes[0] != nodes[1] && !is_split {
        let what = "this pipeline does both. --edge-cloud DIR writes two, one that predicts at the edge and one \
                    that trains in the cloud";
        add(
            "nodeName",
            format!(
                "trained on {:?}, deployed on {:?}: {what}",
                nodes[0], nodes[1]
            ),
        );
    }
    if !job.output_dir.is_empty() {
        let what = if job.output_dir.starts_with("s3:") {
            "models and knowledge are in the folder that --state names; edges and cloud may share models in a bucket, \
             link.store"
        } else {
            "models and knowledge are in the folder that --state names"
        };
        add("outputDir", format!("{}: {what}", job.output_dir));
    }
    if !job.credential_name.is_empty() {
        let what = "keys of a bucket are given to link.store, as file:PATH";
        add("credentialName", format!("{}: {what}", job.credential_name));
    }
    left
}

/// A variable and its value.
fn shown(variable: &Variable) -> String {
    match &variable.value {
        Some(value) => format!("{} = {}", variable.name, plain(value)),
        None => variable.name.clone(),
    }
}

/// A value as a text without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
