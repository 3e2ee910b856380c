//! `perennial produce`: sends samples and labels, from a file or the simulator, to the topics that
//! a pipeline reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_connectors::format::Row;
use perennial_connectors::kafka::{Health, TopicConfig};
use perennial_connectors::sink::kafka::{Feed, FeedOptions, LabelFeed};
use perennial_connectors::source::file::FileConfig;
use perennial_connectors::source::{Next, Rows, file, simulator};

use crate::config::{ConfigError, ProduceConfig, Production, Settings};
use crate::error::Error;
use crate::run::progress::ProgressLine;
use crate::run::signals::stop_on_signal;
use crate::terminal::print_line;

/// How long messages that were sent may take to arrive once the command is told to end.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks at the signals and the progress during a wait.
const LOOK: Duration = Duration::from_millis(100);
/// Effectively no limit, in seconds; a rate near 0 would overflow an `Instant`.
const LONG: f64 = 1e9;

/// Sends the samples and prints what was sent.
pub(crate) fn produce_command(settings: &Settings) -> Result<(), Error> {
    let (sent, result) = produce(settings)?;
    print_line(sent.line());
    if !sent.finished && result.is_ok() {
        let labels = match sent.labels {
            Some((_, waiting)) if waiting > 0 => format!("; {waiting} labels were still to come"),
            _ => String::new(),
        };
        eprintln!("stopped before the end of the input{labels}");
    }
    result
}

/// Numbers of what was sent.
#[derive(Debug, Default)]
struct Sent {
    samples: u64,
    /// Labels sent to a topic of their own, and labels that still waited; none if samples contain
    /// their labels.
    labels: Option<(u64, u64)>,
    /// Records that are no row, or that the topic's schema cannot hold.
    left_out: u64,
    /// Time until the last message had arrived.
    seconds: f64,
    /// Whether the end of the input was reached.
    finished: bool,
}

/// Sends the samples to the topics of a config. Returns what was sent even if sending failed.
fn produce(settings: &Settings) -> Result<(Sent, Result<(), Error>), Error> {
    let needs = Needs::of(settings)?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(&stop)?;
    let health = Health::default();
    let mut rows = open_rows(settings, needs.config)?;
    let feed = open_feed(settings, &needs, health.clone(), stop.clone())?;
    let mut sending = Sending {
        feed,
        health,
        stop,
        began: Instant::now(),
        line: ProgressLine::new(),
        shown: (Instant::now(), 0),
        sent: Sent::default(),
    };
    let mut row = Row::new(settings.schema.columns().len());
    let result = sending.send_all(rows.as_mut(), &mut row, needs.config.rate);
    Ok(sending.end(result))
}

/// The parts of a config that the command needs.
pub(crate) struct Needs<'a> {
    pub(crate) config: &'a ProduceConfig,
    production: &'a Production,
    samples: TopicConfig,
}

impl<'a> Needs<'a> {
    pub(crate) fn of(settings: &'a Settings) -> Result<Needs<'a>, ConfigError> {
        let config = settings.config();
        let (Some(produce), Some(production)) = (&config.produce, &settings.production) else {
            let message = "missing: it says what to send, with \"path\" or \"simulator\"";
            return Err(settings.loaded.error("produce", message));
        };
        let Some(samples) = &config.source.kafka else {
            let message = "missing: it names the topic that \"perennial produce\" sends to";
            return Err(settings.loaded.error("source.kafka", message));
        };
        Ok(Needs {
            config: produce,
            production,
            samples: samples.to_topic(),
        })
    }
}

/// Opens the records that are to be sent.
pub(crate) fn open_rows(
    settings: &Settings,
    config: &ProduceConfig,
) -> Result<Box<dyn Rows>, Error> {
    let columns = settings.schema.columns();
    let columns: Vec<String> = columns.into_iter().map(str::to_string).collect();
    if let Some(simulator) = &config.simulator {
        return Ok(simulator::open_rows(simulator.clone(), &columns)?);
    }
    let path = config.path.clone().unwrap_or_default();
    let defaults = FileConfig::new(path);
    let limit = settings.config().source.max_record_bytes;
    let file = FileConfig {
        format: config.format,
        max_record_bytes: limit.unwrap_or(defaults.max_record_bytes),
        ..defaults
    };
    Ok(file::open_rows(&file, &columns)?)
}

/// Connects to the topics.
pub(crate) fn open_feed(
    settings: &Settings,
    needs: &Needs<'_>,
    health: Health,
    stop: Arc<AtomicBool>,
) -> Result<Feed, Error> {
    let config = settings.config();
    let kafka = settings.kafka()?;
    let schema = &settings.schema;
    let labels = config.labels.kafka.as_ref().map(|topic| LabelFeed {
        topic: topic.clone(),
        id: config.labels.id.clone().unwrap_or(schema.id.clone()),
        delay: needs.production.delay,
    });
    Ok(Feed::open(FeedOptions {
        kafka,
        samples: needs.samples.clone(),
        labels,
        schema,
        key: &needs.production.key,
        health,
        stop,
    })?)
}

/// Sending under way.
struct Sending {
    feed: Feed,
    health: Health,
    stop: Arc<AtomicBool>,
    began: Instant,
    line: ProgressLine,
    /// When progress was last shown, and the number of samples then.
    shown: (Instant, u64),
    sent: Sent,
}

impl Sending {
    /// Sends all records, at `rate` if it is given, and waits for the labels that are not yet due.
    fn send_all(
        &mut self,
        rows: &mut dyn Rows,
        row: &mut Row,
        rate: Option<f64>,
    ) -> Result<(), Error> {
        while !self.is_stopped() {
            if let Some(rate) = rate {
                // The moment of each sample counts from the beginning, so that delays do not add
                // up.
                let since = (self.feed.samples() as f64 / rate).min(LONG);
                self.wait(self.began + Duration::from_secs_f64(since))?;
            }
            match rows.next(row)? {
                Next::Record => {
                    if let Err(reason) = self.feed.send(row)? {
                        self.leave_out(&reason);
                    }
                }
                Next::Bad(reason) => self.leave_out(&reason),
                Next::End => {
                    self.feed.send_last_labels()?;
                    while let Some(next) = self.feed.next_label().filter(|_| !self.is_stopped()) {
                        self.wait(next)?;
                    }
                    self.sent.finished = !self.is_stopped();
                    return Ok(());
                }
            }
            self.show();
        }
        Ok(())
    }

    fn leave_out(&mut self, reason: &str) {
        tracing::warn!(reason, "left out a record");
        self.sent.left_out += 1;
    }

    /// Waits until a moment, or until the command is told to end.
    fn wait(&mut self, until: Instant) -> Result<(), Error> {
        loop {
            self.feed.wait(until.min(Instant::now() + LOOK))?;
            if self.is_stopped() || Instant::now() >= until {
                return Ok(());
            }
            self.show();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for the messages to arrive. Returns what was sent, and `result` or a later failure.
    fn end(mut self, result: Result<(), Error>) -> (Sent, Result<(), Error>) {
        let mut stopping = None;
        while !self.feed.drain(LOOK) {
            self.show();
            let is_over = |since: &mut Instant| since.elapsed() > LAST_PATIENCE;
            if self.is_stopped() && is_over(stopping.get_or_insert_with(Instant::now)) {
                break;
            }
        }
        let sent = Sent {
            samples: self.feed.samples(),
            labels: self.feed.labels(),
            seconds: self.began.elapsed().as_secs_f64(),
            ..self.sent
        };
        let arrived = self.feed.check();
        (sent, result.and_then(|()| Ok(arrived?)))
    }

    fn show(&mut self) {
        if !self.line.is_due() {
            return;
        }
        let (since, before) = self.shown;
        let samples = self.feed.samples();
        let rate = (samples - before) as f64 / since.elapsed().as_secs_f64();
        self.shown = (Instant::now(), samples);
        let mut text = format!("{samples} samples ({rate:.0}/s)");
        if let Some((labels, _)) = self.feed.labels() {
            text.push_str(&format!(", {labels} labels"));
        }
        if let Some(waiting) = self.health.waiting() {
            text.push_str(&format!(", waiting for Kafka: {waiting}"));
        }
        self.line.show(text);
    }
}

impl Sent {
    fn line(&self) -> String {
        let mut text = format!("sent {} samples", self.samples);
        if let Some((labels, _)) = self.labels {
            text.push_str(&format!(" and {labels} labels"));
        }
        let rate = self.samples as f64 / self.seconds;
        text.push_str(&format!(" in {:.1} s: {rate:.0} samples/s", self.seconds));
        if self.left_out > 0 {
            text.push_str(&format!("; {} bad records left out", self.left_out));
        }
        text
    }
}
