//! The gate: no model is deployed with which a related task gets worse.

use std::collections::BTreeMap;

use perennial_operators::TaskId;

use super::paired_gain::{LEAST_SAMPLES, PairedGain, effective_sample_size, mean_and_error};

/// Probability of refusing a model although no task gets worse by the margin.
const FALSE_ALARM: f64 = 0.05;

/// The task that gets worse by the most, if any gets worse by more than `margin` nats, and by how
/// many nats. `gains` has the gains of the new model on the samples of each task.
///
/// A mean below the margin must be significant. Each of `n` tasks is tested at `FALSE_ALARM / n`
/// (Bonferroni), with the tail of the normal distribution bounded by exp(−z²/2).
pub fn worst_regression(
    gains: &BTreeMap<TaskId, Vec<PairedGain>>,
    margin: f64,
) -> Option<(TaskId, f64)> {
    let tested = || {
        gains
            .iter()
            .filter(|(_, gains)| effective_sample_size(gains) >= LEAST_SAMPLES as f64)
    };
    let tasks = tested().count() as f64;
    let errors = (2.0 * (tasks / FALSE_ALARM).ln()).sqrt();
    let regressions = tested().filter_map(|(task, gains)| {
        let (gain, error) = mean_and_error(gains);
        (gain + errors * error < -margin).then_some((*task, -gain))
    });
    regressions.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gains(of: &[(u64, f64, usize)]) -> BTreeMap<TaskId, Vec<PairedGain>> {
        let spread = |mean: f64, count: usize| {
            let value = move |at: usize| {
                let gain = if at.is_multiple_of(2) {
                    mean + 0.1
                } else {
                    mean - 0.1
                };
                PairedGain { gain, weight: 1.0 }
            };
            (0..count).map(value).collect()
        };
        of.iter()
            .map(|(task, mean, count)| (TaskId(*task), spread(*mean, *count)))
            .collect()
    }

    #[test]
    fn a_significant_regression_beyond_the_margin_is_found() {
        assert_eq!(worst_regression(&BTreeMap::new(), 0.05), None);
        assert_eq!(
            worst_regression(&gains(&[(1, 0.3, 50), (2, 0.0, 50)]), 0.05),
            None
        );
        let found = worst_regression(&gains(&[(1, 0.3, 50), (2, -0.3, 50)]), 0.05);
        let is_right =
            |(task, worse): (TaskId, f64)| task == TaskId(2) && (worse - 0.3).abs() < 1e-9;
        assert!(found.is_some_and(is_right), "{found:?}");
        // Within the margin; and on too few samples.
        assert_eq!(worst_regression(&gains(&[(2, -0.3, 50)]), 0.3), None);
        assert_eq!(worst_regression(&gains(&[(2, -0.3, 9)]), 0.05), None);
    }

    #[test]
    fn more_tasks_need_a_stronger_signal() {
        // A mean of −0.15 with a standard error of 0.033.
        let one = gains(&[(1, -0.15, 10)]);
        assert!(worst_regression(&one, 0.05).is_some());
        let many: Vec<(u64, f64, usize)> = (2..2000).map(|task| (task, 0.0, 10)).collect();
        let mut all = gains(&many);
        all.extend(one);
        assert_eq!(worst_regression(&all, 0.05), None);
    }
}
