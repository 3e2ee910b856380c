//! Progress: one line that is redrawn on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use perennial_connectors::knowledge_base::Progress;
use perennial_operators::LabelKind;

use crate::run_status::CommitWatch;

/// How often the line on a terminal is refreshed.
const REFRESH: Duration = Duration::from_millis(200);

/// How often a line is logged.
const LINE: Duration = Duration::from_secs(10);

/// Target of the log lines, by which `RUST_LOG` can leave progress out.
pub const PROGRESS: &str = "perennial::progress";

/// Whether progress is logged on a terminal too.
static IS_LOGGED: AtomicBool = AtomicBool::new(false);

/// Lets progress be logged on a terminal too, where logs are for a program to read.
pub fn never_draw() {
    IS_LOGGED.store(true, Ordering::Relaxed);
}

/// The progress line of a command.
pub struct ProgressLine {
    bar: Option<ProgressBar>,
    shown: Instant,
}

impl ProgressLine {
    /// A line that is first due after one interval.
    pub fn new() -> Self {
        let is_shown = tracing::enabled!(target: PROGRESS, tracing::Level::INFO);
        let is_drawn = is_shown && !IS_LOGGED.load(Ordering::Relaxed);
        let bar = (is_drawn && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        ProgressLine {
            bar,
            shown: Instant::now(),
        }
    }

    /// Whether the line is due to be shown again.
    pub fn is_due(&self) -> bool {
        let every = if self.bar.is_some() { REFRESH } else { LINE };
        self.shown.elapsed() >= every
    }

    /// Shows a text.
    pub fn show(&mut self, text: String) {
        self.shown = Instant::now();
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => tracing::info!(target: PROGRESS, "{text}"),
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows the progress of a run.
pub struct Display {
    kind: LabelKind,
    line: ProgressLine,
    /// Time and records when the line was last shown.
    last: (Instant, u64),
}

impl Display {
    /// A display of a run that resumes from `progress`.
    pub fn new(progress: &Progress, kind: LabelKind) -> Self {
        Display {
            kind,
            line: ProgressLine::new(),
            last: (Instant::now(), progress.records),
        }
    }

    /// Shows what is committed, if the line is due.
    pub fn show(&mut self, watch: &CommitWatch) {
        if self.line.is_due() {
            let text = self.text(watch);
            self.line.show(text);
        }
    }

    fn text(&mut self, watch: &CommitWatch) -> String {
        let status = watch.status();
        let (since, records) = self.last;
        let rate = (status.progress.records - records) as f64 / since.elapsed().as_secs_f64();
        self.last = (Instant::now(), status.progress.records);
        let epoch = status.progress.header.map_or(0, |header| header.epoch.0);
        let mut text = format!(
            "{} records ({rate:.0}/s), epoch {epoch}",
            status.progress.records
        );
        let (name, figure) = match self.kind {
            LabelKind::Classes(_) => ("accuracy", status.score.accuracy()),
            LabelKind::Number => ("RMSE", status.score.rmse()),
        };
        if let Some(figure) = figure {
            text.push_str(&format!(", {name} {figure:.4}"));
        }
        if let Some(stage) = status.stage {
            text.push_str(&format!(", {stage}"));
        }
        if let Some(waiting) = watch.waiting() {
            text.push_str(&format!(", waiting for Kafka: {waiting}"));
        }
        text
    }
}
