//! Latency at higher and higher rates, until the pipeline no longer keeps up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_connectors::kafka::{Arrivals, KafkaError};

use super::findings::Step;
use super::load::Load;
use super::trial::{FullSpeed, RunningTrial, Trial};
use crate::error::Error;

/// Difference of one rate to the next, as a share of the full speed.
const STEP: f64 = 0.1;
/// Maximum number of rates. The last ones are above the full speed, which was then measured too
/// low.
const STEPS: u32 = 15;
/// Time after the last sample of a rate at which nearly all predictions must have arrived.
const LATE: Duration = Duration::from_secs(1);
/// Share of the predictions that must have arrived for the pipeline to keep up.
const NEARLY_ALL: f64 = 0.99;
/// Share of a step that is not measured, while the effects of the step before settle.
const SETTLING: f64 = 0.2;
/// Longest time until the pipeline begins to predict.
const START: Duration = Duration::from_secs(60);
/// Time between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(20);

/// Predictions in the order of their arrival: timestamps of the sample and of the arrival,
/// milliseconds since 1970.
type Arrived = Mutex<Vec<(i64, i64)>>;

/// Offers rate after rate to the running pipeline.
pub(super) fn climb(
    trial: &Trial,
    load: &mut Load,
    full: &FullSpeed,
    seconds: f64,
) -> Result<Vec<Step>, Error> {
    let arrivals = Arrivals::open(trial.settings.kafka()?, &trial.predictions)?;
    let mut running = trial.start(&[])?;
    let (arrived, done) = (Arrived::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&arrivals, &arrived, &done));
        let mut climber = Climber {
            load,
            running: &mut running,
            arrived: &arrived,
            predictions_a_sample: full.predictions_a_sample(),
        };
        let steps = climber.climb(full.per_second(), seconds);
        done.store(true, Ordering::Relaxed);
        // A panic would have ended the process.
        let watched = watcher.join().unwrap_or(Ok(()));
        let steps = steps?;
        watched?;
        Ok(steps)
    })
}

/// Records arrivals until `done` is set.
fn watch(arrivals: &Arrivals, arrived: &Arrived, done: &AtomicBool) -> Result<(), KafkaError> {
    while !done.load(Ordering::Relaxed) {
        if let Some(timestamp) = arrivals.next(LOOK)? {
            let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.push((timestamp, now()));
        }
    }
    Ok(())
}

struct Climber<'a> {
    load: &'a mut Load,
    running: &'a mut RunningTrial,
    arrived: &'a Arrived,
    predictions_a_sample: f64,
}

impl Climber<'_> {
    fn climb(&mut self, full: f64, seconds: f64) -> Result<Vec<Step>, Error> {
        self.warm_up(full * STEP)?;
        let mut steps = Vec::new();
        for number in 1..=STEPS {
            let rate = full * STEP * f64::from(number);
            eprintln!("offering {rate:.0} samples/s");
            let step = self.offer(rate, seconds)?;
            steps.push(step);
            if !step.kept_up {
                break;
            }
        }
        Ok(steps)
    }

    /// Sends samples at a low rate until the predictions keep up, which shows that the pipeline has
    /// begun.
    fn warm_up(&mut self, rate: f64) -> Result<(), Error> {
        let began = Instant::now();
        while !self.offer(rate, 1.0)?.kept_up {
            if began.elapsed() > START {
                let message = "no predictions come from the pipeline on trial";
                return Err(Error::Failed(message.into()));
            }
        }
        Ok(())
    }

    /// Offers a rate for some seconds.
    fn offer(&mut self, rate: f64, seconds: f64) -> Result<Step, Error> {
        let samples = (rate * seconds).ceil().max(1.0);
        self.take();
        let from = now();
        self.load.send(samples as u64, Some(rate))?;
        let sent = Instant::now();
        let expected = (samples * self.predictions_a_sample * NEARLY_ALL).floor();
        let mut predictions = Vec::new();
        while (predictions.len() as f64) < expected && sent.elapsed() < LATE {
            self.running.has_ended()?;
            std::thread::sleep(LOOK);
            let arrived = self.take().into_iter();
            predictions.extend(arrived.filter(|(sample, _)| *sample >= from));
        }
        let settled = from + (seconds * SETTLING * 1000.0) as i64;
        let mut latencies: Vec<i64> = predictions
            .iter()
            .filter(|(sample, _)| *sample >= settled)
            .map(|(sample, prediction)| (prediction - sample).max(0))
            .collect();
        latencies.sort_unstable();
        Ok(Step {
            offered: rate,
            kept_up: predictions.len() as f64 >= expected,
            p50_ms: percentile(&latencies, 0.50),
            p95_ms: percentile(&latencies, 0.95),
            p99_ms: percentile(&latencies, 0.99),
        })
    }

    /// Takes the predictions that have arrived.
    fn take(&self) -> Vec<(i64, i64)> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut arrived)
    }
}

/// The nearest-rank percentile of ascending values; none if there are no values.
fn percentile(sorted: &[i64], share: f64) -> Option<i64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_among_the_values() {
        let sorted: Vec<i64> = (1..=200).collect();
        let percentiles = [0.5, 0.95, 0.99].map(|share| percentile(&sorted, share));
        assert_eq!(percentiles, [Some(100), Some(190), Some(198)]);
        assert_eq!(percentile(&[7], 0.5), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
