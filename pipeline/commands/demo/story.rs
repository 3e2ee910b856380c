//! Accuracy in parts of a stream, of the pipeline and of its baselines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_operators::flow::{KnowledgeChange, StatisticsMoved};
use perennial_operators::{Epoch, Score, TaskId};
use serde::Deserialize;

use super::chapters::Chapter;
use crate::error::Error;
use crate::terminal::{right, table};

/// The scores of a task's predictions whose labels came in one epoch.
struct EpochScore {
    task: TaskId,
    /// When the samples were taken, at the middle of them: RFC 3339.
    time: String,
    /// Of the pipeline, and of each baseline.
    scores: Vec<Score>,
}

/// The scores of a finished run, epoch by epoch, whose tasks are its sites.
pub(super) struct Story {
    scores: Vec<EpochScore>,
    sites: BTreeMap<String, TaskId>,
}

/// The part of a prediction that tells its time.
#[derive(Deserialize)]
struct Predicted {
    time: String,
}

impl Story {
    /// Reads a finished run: its state and its predictions, of which each has been labelled.
    pub(super) fn read(state: &Path, predictions: &Path) -> Result<Story, Error> {
        let times = times(predictions)?;
        let knowledge = KnowledgeBase::open_to_read(state)?;
        let view = knowledge.view();
        let mut moved: BTreeMap<Epoch, Vec<StatisticsMoved>> = BTreeMap::new();
        view.changes(Epoch(0), |epoch, change| {
            if let KnowledgeChange::StatisticsMoved(change) = change
                && change.difference.score.count > 0
            {
                moved.entry(epoch).or_default().push(change);
            }
            Ok(())
        })?;
        // Labels come in the order of their samples.
        let (mut scores, mut labelled) = (Vec::new(), 0);
        for changes in moved.into_values() {
            let base = changes.iter().find(|change| change.task == TaskId::BASE);
            let count = base.map_or(0, |change| change.difference.score.count as usize);
            let time = times.get(labelled + count / 2).cloned().unwrap_or_default();
            labelled += count;
            for change in changes {
                let own = std::iter::once(change.difference.score);
                scores.push(EpochScore {
                    task: change.task,
                    time: time.clone(),
                    scores: own.chain(change.difference.baselines).collect(),
                });
            }
        }
        let name = |name: &str| name.strip_prefix("site=").unwrap_or(name).to_string();
        let tasks = view.tasks()?.into_iter();
        let sites = tasks.map(|(task, record)| (name(&record.definition.name), task));
        Ok(Story {
            scores,
            sites: sites.collect(),
        })
    }

    /// The scores of a chapter: of the pipeline, and of each baseline.
    fn scores(&self, chapter: &Chapter) -> Vec<Score> {
        let task = match chapter.site {
            Some(site) => self.sites.get(site).copied(),
            None => Some(TaskId::BASE),
        };
        let mut sums = Vec::new();
        for epoch in &self.scores {
            let day = epoch.time.get(..chapter.from.len()).unwrap_or_default();
            if Some(epoch.task) != task || day < chapter.from || day >= chapter.to {
                continue;
            }
            sums.resize(epoch.scores.len().max(sums.len()), Score::default());
            for (sum, score) in sums.iter_mut().zip(&epoch.scores) {
                sum.add(score);
            }
        }
        sums
    }

    /// The chapters as a table, with the share of correct answers in each.
    pub(super) fn text(&self, chapters: &[Chapter]) -> String {
        let mut table = table(&["from", "what happened", "lifelong", "frozen", "single"]);
        for chapter in chapters {
            let scores = self.scores(chapter);
            let percent = |number: usize| {
                let share = scores.get(number).and_then(Score::accuracy);
                right(share.map_or(String::new(), |share| format!("{:.1} %", share * 100.0)))
            };
            table.add_row(vec![
                chapter.from.into(),
                chapter.title.into(),
                percent(0),
                percent(1),
                percent(2),
            ]);
        }
        format!("\nHow many of a hundred answers were right, as time went on:\n\n{table}\n")
    }
}

/// The times of the predictions in a file of JSON lines, in its order.
fn times(predictions: &Path) -> Result<Vec<String>, Error> {
    let failed = |error: std::io::Error| Error::File(predictions.into(), error);
    let file = File::open(predictions).map_err(failed)?;
    let mut times = Vec::new();
    for line in BufReader::new(file).lines() {
        let read: Result<Predicted, _> = serde_json::from_str(&line.map_err(failed)?);
        times.push(read.map_err(|error| failed(error.into()))?.time);
    }
    Ok(times)
}
