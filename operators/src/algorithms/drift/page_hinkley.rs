//! Page-Hinkley test: sums how far losses are above their mean, and reports a rise when the sum
//! exceeds a threshold (Page 1954, "Continuous inspection schemes", Biometrika 41; Hinkley 1971,
//! "Inference about the change-point from cumulative sum tests", Biometrika 58).

use serde::{Deserialize, Serialize};

use crate::data::{LabelKind, Losses, Rise};

/// Least number of losses before a rise is reported.
const LEAST: i64 = 30;

/// Tolerances of the test, in units of a loss: 1 wrong prediction, or the root mean square error of
/// a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkleyRules {
    /// Tolerated excess of each loss over the mean of all losses.
    pub delta: f64,
    /// Tolerated sum of excesses beyond `delta`.
    pub threshold: f64,
}

/// Page-Hinkley test over a task's losses since the last rise.
///
/// ```
/// use perennial_operators::algorithms::drift::{PageHinkley, PageHinkleyRules};
/// use perennial_operators::{LabelKind, Losses};
///
/// // Ten labels an epoch; one prediction is wrong, and six from epoch 100 on.
/// let rules = PageHinkleyRules { delta: 0.005, threshold: 20.0 };
/// let mut test = PageHinkley::default();
/// let rise = (0..110).find_map(|epoch| {
///     let wrong = if epoch < 100 { 1.0 } else { 6.0 };
///     let losses = Losses { count: 10, sum: wrong, squares: wrong };
///     let rise = test.add(losses, LabelKind::Classes(2), rules);
///     rise.map(|rise| (epoch, rise))
/// });
/// let (epoch, rise) = rise.unwrap();
/// assert_eq!(epoch, 104); // five epochs at 10 × 0.5 above the mean exceed the threshold
/// assert_eq!((rise.before, rise.after), (0.1, 0.6));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    /// All losses.
    all: Losses,
    /// Sum of the losses' excesses over their mean and `delta`.
    sum: f64,
    /// Least value that the sum ever had.
    least: f64,
    /// Losses up to then.
    until: Losses,
}

impl PageHinkley {
    /// Adds the losses of an epoch, and returns a rise if there is one. The test then starts again.
    pub fn add(
        &mut self,
        losses: Losses,
        kind: LabelKind,
        rules: PageHinkleyRules,
    ) -> Option<Rise> {
        self.all.add(&losses);
        let unit = self.all.unit(kind);
        if unit > 0.0 {
            let excess = losses.mean() - self.all.mean();
            self.sum += losses.count as f64 * (excess / unit - rules.delta);
        }
        if self.sum < self.least {
            (self.least, self.until) = (self.sum, self.all);
        }
        if self.all.count < LEAST || self.sum - self.least <= rules.threshold {
            return None;
        }
        let mut since = self.all;
        since.take(&self.until);
        let rise = Rise {
            before: self.until.mean() as f32,
            after: since.mean() as f32,
            samples: since.count,
        };
        *self = PageHinkley::default();
        Some(rise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PageHinkleyRules = PageHinkleyRules {
        delta: 0.005,
        threshold: 50.0,
    };

    /// Tests epochs of ten labels, of which `wrong` are predicted wrong, up to the first rise.
    fn first_rise(test: &mut PageHinkley, wrong: f64, epochs: usize) -> Option<(usize, Rise)> {
        (0..epochs).find_map(|epoch| {
            let losses = Losses {
                count: 10,
                sum: wrong,
                squares: wrong,
            };
            let rise = test.add(losses, LabelKind::Classes(3), RULES);
            rise.map(|rise| (epoch, rise))
        })
    }

    #[test]
    fn a_rise_is_reported_once_it_adds_up_to_the_threshold() {
        let mut test = PageHinkley::default();
        assert_eq!(first_rise(&mut test, 2.0, 500), None);
        let (epoch, rise) = first_rise(&mut test, 6.0, 50).unwrap();
        // 0.4 above the mean of 0.2, ten times an epoch: 50 after a little more than twelve epochs.
        assert!((12..16).contains(&epoch), "{epoch}");
        assert_eq!((rise.before, rise.after), (0.2, 0.6));
        assert_eq!(rise.samples, 10 * (epoch as i64 + 1));
        assert_eq!(test, PageHinkley::default());
    }

    #[test]
    fn a_fall_is_not_reported() {
        let mut test = PageHinkley::default();
        assert_eq!(first_rise(&mut test, 6.0, 200), None);
        assert_eq!(first_rise(&mut test, 2.0, 500), None);
    }
}
