//! Outputs of a run: files that are committed by their content and length, and topics.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::files::OutputFile;
use perennial_connectors::sink::kafka::{KafkaSink, Outcome};
use perennial_connectors::sink::{Output, RequestRenderer, dead_letter_line};
use perennial_operators::Offsets;
use perennial_operators::algorithms::unseen::LabelRequest;
use perennial_operators::flow::{DeadLetter, EpochEffects, KnowledgeChange};

use crate::error::Error;

/// Name under which the file of predictions is committed.
pub const PREDICTIONS: &str = "predictions";
/// Name under which the file of dead letters is committed.
pub const DEAD_LETTERS: &str = "dead letters";

/// Name under which the file of label requests is committed.
pub const LABEL_REQUESTS: &str = "label requests";

/// Files and topics of predictions, dead letters and label requests.
pub struct Outputs {
    /// The file of predictions, if there is one.
    pub predictions: Option<Output>,
    /// The file of dead letters, if there is one.
    pub dead_letters: Option<Output>,
    /// The file of label requests, if there is one.
    pub requests: Option<Output>,
    /// Renders label requests.
    pub renderer: RequestRenderer,
    /// The topics, if there are any.
    pub kafka: Option<KafkaSink>,
    /// Samples of the epochs that wait for their commit whose predictions no topic takes.
    pub refused: Refused,
}

/// Dead letters of samples whose predictions are too large for their topic. A prediction that is
/// sent again is refused again, so each letter is here once.
#[derive(Default)]
pub struct Refused {
    letters: BTreeSet<DeadLetter>,
    /// Letters that were added since they were last counted.
    uncounted: u64,
}

fn dead_letters(effects: &EpochEffects) -> impl Iterator<Item = &DeadLetter> {
    let intake = effects.intake.iter();
    intake.flat_map(|intake| &intake.dead_letters)
}

fn requests(effects: &EpochEffects) -> impl Iterator<Item = &LabelRequest> {
    let requested = effects.changes.iter().filter_map(|change| match change {
        KnowledgeChange::LabelsRequested(requested) => Some(&requested.requests),
        _ => None,
    });
    requested.flatten()
}

fn append_letter(file: &mut Output, letter: &DeadLetter) -> Result<(), Error> {
    let line = dead_letter_line(letter).map_err(|e| Error::Failed(e.into()))?;
    Ok(file.append(&line)?)
}

impl Outputs {
    /// Appends the outputs of an epoch to files, and sends them to topics. They are durable only
    /// after a flush.
    pub fn append(&mut self, effects: &EpochEffects) -> Result<(), Error> {
        if let Some(output) = &mut self.predictions {
            for (_, bytes) in &effects.predictions {
                output.append(bytes)?;
            }
        }
        if let Some(file) = &mut self.dead_letters {
            for letter in dead_letters(effects) {
                append_letter(file, letter)?;
            }
        }
        if let Some(file) = &mut self.requests {
            for request in requests(effects) {
                file.append(format!("{}\n", self.renderer.object(request)).as_bytes())?;
            }
        }
        self.send(effects)
    }

    /// Sends the outputs of an epoch to topics.
    fn send(&mut self, effects: &EpochEffects) -> Result<(), Error> {
        let Some(kafka) = &mut self.kafka else {
            return Ok(());
        };
        for (_, bytes) in &effects.predictions {
            for letter in kafka.send_predictions(bytes)? {
                kafka.send_dead_letter(&letter)?;
                if let Some(file) = &mut self.dead_letters
                    && !self.refused.letters.contains(&letter)
                {
                    append_letter(file, &letter)?;
                }
                self.refused.uncounted += u64::from(self.refused.letters.insert(letter));
            }
        }
        for letter in dead_letters(effects) {
            kafka.send_dead_letter(letter)?;
        }
        for request in requests(effects) {
            let value = self.renderer.object(request).to_string();
            kafka.send_request(request.key.as_deref(), value.as_bytes())?;
        }
        Ok(())
    }

    /// Each file output with its name.
    fn files(&mut self) -> impl Iterator<Item = (&'static str, &mut Output)> {
        let outputs = [
            (PREDICTIONS, &mut self.predictions),
            (DEAD_LETTERS, &mut self.dead_letters),
            (LABEL_REQUESTS, &mut self.requests),
        ];
        let outputs = outputs.into_iter();
        outputs.filter_map(|(name, output)| Some((name, output.as_mut()?)))
    }

    /// The files as they were last flushed, by name.
    pub fn opened(&mut self) -> BTreeMap<String, OutputFile> {
        let file = |(name, output): (&str, &mut Output)| (name.to_string(), output.file());
        self.files().map(file).collect()
    }

    /// Whether a file is to be flushed though nothing was appended; `ends` tells that the run ends.
    pub fn is_due(&mut self, ends: bool) -> bool {
        self.files().any(|(_, output)| output.is_due(ends))
    }

    /// Makes files durable, for readers too at the end of the stream or the run (`ends`). Returns
    /// what to commit, by name.
    pub fn flush_files(&mut self, ends: bool) -> Result<Vec<(String, OutputFile)>, Error> {
        self.files()
            .map(|(name, output)| Ok((name.to_string(), output.flush(ends)?)))
            .collect()
    }

    /// Drops what the files of the last commit no longer need, and what concerns its epochs.
    pub fn committed(&mut self) -> Result<(), Error> {
        self.refused.letters.clear();
        self.files()
            .try_for_each(|(_, output)| Ok(output.committed()?))
    }

    /// Whether results are committed by a transaction, for which a commit has to be prepared.
    pub fn is_transactional(&self) -> bool {
        self.kafka.as_ref().is_some_and(KafkaSink::is_transactional)
    }

    /// Whether topics have refused predictions since the last call of
    /// [`Outputs::take_refused`].
    pub fn has_refused(&self) -> bool {
        self.refused.uncounted > 0
    }

    /// Takes the number of dead letters of samples whose predictions are too large, since the last
    /// call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused.uncounted)
    }

    /// Waits until all that was sent has arrived; sends all of it again until it has.
    pub fn flush_topics(&mut self, epochs: &[EpochEffects]) -> Result<(), Error> {
        while let Some(kafka) = &mut self.kafka {
            if kafka.flush()? {
                break;
            }
            epochs.iter().try_for_each(|effects| self.send(effects))?;
        }
        Ok(())
    }

    /// Commits the transaction with the results of `epochs`; if it is aborted, sends them again and
    /// returns false.
    pub fn commit_topics(
        &mut self,
        epochs: &[EpochEffects],
        offsets: &Offsets,
        number: u64,
    ) -> Result<bool, Error> {
        if let Some(kafka) = &mut self.kafka
            && kafka.commit(offsets, number)? == Outcome::Aborted
        {
            tracing::info!(number, "transaction aborted; sending its results again");
            epochs.iter().try_for_each(|effects| self.send(effects))?;
            return Ok(false);
        }
        Ok(true)
    }
}
