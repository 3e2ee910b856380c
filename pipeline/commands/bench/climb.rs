//! Latency at higher and higher rates, until the pipeline no longer keeps up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_connectors::kafka::{Arrivals, KafkaError};

use super::findings::Step;
use super::load::Load;
use super::trial::{FullSpeed, RunningTrial, Trial};
use crate::error::Error;

/// From one rate to the next, as a share of the full speed.
const STEP: f64 = 0.1;
/// Whoever keeps up with so many steps was not measured at full speed before.
const STEPS: u32 = 15;
/// A rate is kept up with if so long after its last sample the predictions are there, but for a few.
const LATE: Duration = Duration::from_secs(1);
/// How many must be there.
const NEARLY_ALL: f64 = 0.99;
/// The share of a step that is not measured: what was before has to settle.
const SETTLING: f64 = 0.2;
/// How long the pipeline may take to begin.
const START: Duration = Duration::from_secs(60);
/// How often to look for what has arrived.
const LOOK: Duration = Duration::from_millis(20);

/// Predictions as they came: the timestamp of the sample and when its prediction was there, milliseconds
/// since 1970.
type Arrived = Mutex<Vec<(i64, i64)>>;

/// Offers rate after rate to a running pipeline.
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
        let watching = scope.spawn(|| watch(&arrivals, &arrived, &done));
        let mut climber = Climber {
            load,
            running: &mut running,
            arrived: &arrived,
            predictions_a_sample: full.predictions_a_sample(),
        };
        let steps = climber.climb(full.per_second(), seconds);
        done.store(true, Ordering::Relaxed);
        // A panic has ended the process already.
        let watched = watching.join().unwrap_or(Ok(()));
        let steps = steps?;
        watched?;
        Ok(steps)
    })
}

/// Notes what arrives until it is done.
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
        self.wait_for_the_first(full * STEP)?;
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

    /// Sends a little until the predictions keep up: the pipeline has begun.
    fn wait_for_the_first(&mut self, rate: f64) -> Result<(), Error> {
        let began = Instant::now();
        while !self.offer(rate, 1.0)?.kept_up {
            if began.elapsed() > START {
                let message = "no predictions come from the pipeline on trial";
                return Err(Error::Failed(message.into()));
            }
        }
        Ok(())
    }

    /// Offers a rate for a while.
    fn offer(&mut self, rate: f64, seconds: f64) -> Result<Step, Error> {
        let samples = (rate * seconds).ceil().max(1.0);
        self.take();
        let from = now();
        self.load.send(samples as u64, Some(rate))?;
        let sent = Instant::now();
        let expected = (samples * self.predictions_a_sample * NEARLY_ALL).floor();
        let mut came = Vec::new();
        while (came.len() as f64) < expected && sent.elapsed() < LATE {
            self.running.has_ended()?;
            std::thread::sleep(LOOK);
            came.extend(
                self.take()
                    .into_iter()
                    .filter(|(sample, _)| *sample >= from),
            );
        }
        let settled = from + (seconds * SETTLING * 1000.0) as i64;
        let mut latencies: Vec<i64> = came
            .iter()
            .filter(|(sample, _)| *sample >= settled)
            .map(|(sample, prediction)| (prediction - sample).max(0))
            .collect();
        latencies.sort_unstable();
        Ok(Step {
            offered: rate,
            kept_up: came.len() as f64 >= expected,
            p50_ms: percentile(&latencies, 0.50),
            p95_ms: percentile(&latencies, 0.95),
            p99_ms: percentile(&latencies, 0.99),
        })
    }

    fn take(&self) -> Vec<(i64, i64)> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut arrived)
    }
}

/// The nearest-rank percentile of ascending figures; none of none.
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
    fn percentiles_are_figures_that_were_there() {
        let sorted: Vec<i64> = (1..=200).collect();
        let of = |share| percentile(&sorted, share);
        assert_eq!(
            [of(0.5), of(0.95), of(0.99)],
            [Some(100), Some(190), Some(198)]
        );
        assert_eq!(percentile(&[7], 0.5), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
