//! The Page-Hinkley test: how far losses have risen above their mean, summed up (Page 1954, "Continuous inspection
//! schemes", Biometrika 41; Hinkley 1971, "Inference about the change-point from cumulative sum tests", Biometrika 58).

use serde::{Deserialize, Serialize};

use crate::data::{LabelKind, Losses, Rise};

/// Losses before the test says anything.
const LEAST: i64 = 30;

/// What the test allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkleyRules {
    /// By how much losses may be above their mean.
    pub delta: f64,
    /// Up to which sum they may be further above it.
    pub threshold: f64,
}

/// The test over the losses since it last told of a rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    all: Losses,
    /// How far losses were above their mean, summed up, less what is allowed.
    sum: f64,
    /// The least that the sum ever was, and the losses until then.
    least: f64,
    until: Losses,
}

impl PageHinkley {
    /// Takes in the losses of an epoch and says if they have risen.
    pub fn add(
        &mut self,
        losses: Losses,
        kind: LabelKind,
        rules: PageHinkleyRules,
    ) -> Option<Rise> {
        self.all.add(&losses);
        let unit = self.all.unit(kind);
        if unit > 0.0 {
            let above = losses.mean() - self.all.mean();
            self.sum += losses.count as f64 * (above / unit - rules.delta);
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

    /// Epochs of ten labels, of which so many are predicted wrong, up to the first rise that is told.
    fn told(test: &mut PageHinkley, wrong: f64, epochs: usize) -> Option<(usize, Rise)> {
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
    fn a_rise_is_told_once_it_adds_up_to_the_threshold() {
        let mut test = PageHinkley::default();
        assert_eq!(told(&mut test, 2.0, 500), None);
        let (epoch, rise) = told(&mut test, 6.0, 50).unwrap();
        // 0.4 above the mean of 0.2, ten times an epoch: 50 after a little more than twelve epochs.
        assert!((12..16).contains(&epoch), "{epoch}");
        assert_eq!((rise.before, rise.after), (0.2, 0.6));
        assert_eq!(rise.samples, 10 * (epoch as i64 + 1));
        assert_eq!(test, PageHinkley::default());
    }

    #[test]
    fn a_fall_is_not_told() {
        let mut test = PageHinkley::default();
        assert_eq!(told(&mut test, 6.0, 200), None);
        assert_eq!(told(&mut test, 2.0, 500), None);
    }
}
