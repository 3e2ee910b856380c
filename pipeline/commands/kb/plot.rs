//! `perennial kb plot`: how well predictions did over time, of the pipeline and of its baselines.

use std::path::Path;

use perennial_connectors::knowledge_base::View;
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{Epoch, LabelKind, Score, TaskDifference, TaskId};
use plotters::chart::SeriesLabelPosition;

use crate::config::load;
use crate::error::Error;
use crate::report::plot::{Axis, LineChart, write_svg};
use crate::terminal::print_line;

/// Number of parts of the labelled samples; each is a point of a line.
const PARTS: usize = 60;

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 360);

/// Maximum number of labels of an axis.
const LABELS: usize = 7;

/// Writes the plot to `file`. `config` names the baselines; without it they are numbered.
pub(crate) fn plot(
    view: &View<'_>,
    kind: LabelKind,
    config: Option<&Path>,
    file: &Path,
) -> Result<(), Error> {
    let statistics = view.statistics_of(TaskId::BASE)?;
    let total = statistics.score.count;
    if total == 0 {
        let message = "there is nothing to plot yet: no label of a prediction has come; run the \
                       pipeline on with this --state";
        return Err(Error::NotFound(message.to_string()));
    }
    let mut parts = Parts::new(total);
    view.changes(Epoch(0), |_, change| {
        if let KnowledgeChange::StatisticsMoved(moved) = change
            && moved.task == TaskId::BASE
        {
            parts.add(&moved.difference);
        }
        Ok(())
    })?;
    let names = baseline_names(config, statistics.baselines.len())?;
    let chart = chart(&parts, kind, names);
    write_svg(file, SIZE, |area| chart.draw(area))?;
    print_line(format!("{}: {total} labelled samples", file.display()));
    Ok(())
}

/// Names of `count` baselines in the order of the config.
fn baseline_names(config: Option<&Path>, count: usize) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    if let Some(file) = config {
        let baselines = load(file, &[])?.config.report.baselines;
        names.extend(baselines.iter().map(|baseline| baseline.name().to_string()));
    }
    names.extend((names.len() + 1..=count).map(|number| format!("baseline {number}")));
    Ok(names)
}

/// Scores of the same labelled samples.
#[derive(Clone, Debug, Default)]
struct Scores {
    /// The pipeline's own predictions.
    own: Score,
    /// The predictions of each baseline.
    baselines: Vec<Score>,
}

/// The labelled samples in [`PARTS`] parts that are as equal as whole epochs allow.
struct Parts {
    /// Number of all labelled samples.
    total: i64,
    /// Number of labelled samples of the epochs so far.
    seen: i64,
    parts: Vec<Scores>,
}

impl Parts {
    fn new(total: i64) -> Parts {
        Parts {
            total,
            seen: 0,
            parts: vec![Scores::default(); PARTS],
        }
    }

    /// Adds an epoch to the part that the middle of its samples falls into.
    fn add(&mut self, epoch: &TaskDifference) {
        let middle = self.seen as f64 + epoch.score.count as f64 / 2.0;
        self.seen += epoch.score.count;
        let part = (middle / self.total as f64 * PARTS as f64) as usize;
        let scores = &mut self.parts[part.min(PARTS - 1)];
        scores.own.add(&epoch.score);
        if scores.baselines.len() < epoch.baselines.len() {
            let count = epoch.baselines.len();
            scores.baselines.resize(count, Score::default());
        }
        for (sum, score) in scores.baselines.iter_mut().zip(&epoch.baselines) {
            sum.add(score);
        }
    }

    /// The points of a line: the middle of each part, and the figure of its score. A single part
    /// becomes a line over all samples.
    fn points(
        &self,
        score: impl Fn(&Scores) -> Option<Score>,
        figure: impl Fn(&Score) -> Option<f64>,
    ) -> Vec<(f64, f64)> {
        let mut end = 0;
        let mut points = Vec::new();
        for part in &self.parts {
            let middle = end as f64 + part.own.count as f64 / 2.0;
            end += part.own.count;
            let value = score(part).and_then(|score| figure(&score));
            points.extend(value.map(|value| (middle, value)));
        }
        if let [(_, value)] = points[..] {
            return vec![(0.0, value), (self.total as f64, value)];
        }
        points
    }
}

fn chart(parts: &Parts, kind: LabelKind, baselines: Vec<String>) -> LineChart {
    let figure = |score: &Score| match kind {
        LabelKind::Classes(_) => score.accuracy(),
        LabelKind::Number => score.rmse(),
    };
    // Lines of accuracies rise, lines of errors fall.
    let (name, legend) = match kind {
        LabelKind::Classes(_) => ("accuracy", SeriesLabelPosition::LowerLeft),
        LabelKind::Number => ("RMSE", SeriesLabelPosition::UpperRight),
    };
    let own = parts.points(|scores| Some(scores.own), figure);
    let mut lines = vec![("lifelong".to_string(), own)];
    for (number, name) in baselines.into_iter().enumerate() {
        let points = parts.points(|scores| scores.baselines.get(number).copied(), figure);
        lines.push((name, points));
    }
    let values = || {
        let points = lines.iter().flat_map(|(_, points)| points);
        points.map(|(_, value)| *value)
    };
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    LineChart {
        x: Axis {
            name: "labelled samples".to_string(),
            range: 0.0..parts.total as f64,
            labels: LABELS,
            decimals: 0,
        },
        y: value_axis(name, low, high),
        lines,
        legend,
    }
}

/// An axis for values from `low` to `high`, which are not negative, with some room around them.
fn value_axis(name: &str, low: f64, high: f64) -> Axis {
    let room = ((high - low) * 0.05).max(high.abs() * 0.01).max(1e-6);
    let range = (low - room).max(0.0)..high + room;
    // As many decimals as tell neighbouring labels apart.
    let step = (range.end - range.start) / LABELS as f64;
    Axis {
        name: name.to_string(),
        range,
        labels: LABELS,
        decimals: (-step.log10().floor()).clamp(0.0, 6.0) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An epoch of `count` labels, of which the pipeline gets `right` right, and the baseline none.
    fn epoch(count: usize, right: usize) -> TaskDifference {
        let mut epoch = TaskDifference::default();
        let mut baseline = Score::default();
        for number in 0..count {
            epoch.score.add(&Score::one(number < right, 0.5));
            baseline.add(&Score::one(false, 0.5));
        }
        epoch.baselines.push(baseline);
        epoch
    }

    fn own(parts: &Parts) -> Vec<(f64, f64)> {
        parts.points(|scores| Some(scores.own), Score::accuracy)
    }

    #[test]
    fn small_epochs_are_summed_in_equal_parts() {
        let mut parts = Parts::new(120 * 10);
        for number in 0..120 {
            parts.add(&epoch(10, if number < 60 { 2 } else { 8 }));
        }
        let points = own(&parts);
        assert_eq!(points.len(), PARTS);
        assert_eq!(points[0], (10.0, 0.2));
        assert_eq!(points[PARTS - 1], (1190.0, 0.8));
        let baseline = parts.points(|scores| scores.baselines.first().copied(), Score::accuracy);
        assert_eq!(baseline[0], (10.0, 0.0));
    }

    #[test]
    fn a_large_epoch_is_one_point() {
        let mut parts = Parts::new(400);
        parts.add(&epoch(300, 150));
        parts.add(&epoch(100, 25));
        assert_eq!(own(&parts), [(150.0, 0.5), (350.0, 0.25)]);
    }

    #[test]
    fn a_single_epoch_is_a_line() {
        let mut parts = Parts::new(10);
        parts.add(&epoch(10, 5));
        assert_eq!(own(&parts), [(0.0, 0.5), (10.0, 0.5)]);
    }

    #[test]
    fn labels_of_an_axis_differ() {
        let decimals = |low, high| value_axis("", low, high).decimals;
        assert_eq!(decimals(0.6, 0.8), 2);
        assert_eq!(decimals(0.7, 0.7), 3);
        assert_eq!(decimals(2.0, 90.0), 0);
    }
}
