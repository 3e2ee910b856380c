//! Settling what a crash left open between the knowledge base and Kafka: a prepared commit counts
//! if its transaction was committed, which the offsets of the consumer group tell.

use std::collections::BTreeSet;

use perennial_connectors::kafka::KafkaError;
use perennial_connectors::knowledge_base::{KnowledgeBase, Progress};
use perennial_connectors::sink::kafka::{
    CommitMark, KafkaSink, Outcome, committed, end_transaction,
};
use perennial_operators::TopicPartition;

use crate::config::Settings;
use crate::error::Error;
use crate::input::sources::source_partitions;

/// Numbers of commits by which is settled.
struct Commits {
    /// The last commit of the knowledge base.
    known: u64,
    /// The last one that was made without a transaction; 0 if none was.
    untransacted: u64,
    /// The prepared one.
    prepared: Option<u64>,
    /// The last commit of the group.
    found: Option<u64>,
}

/// What to do with the prepared commit and the group.
#[derive(Debug, PartialEq, Eq)]
enum Settlement {
    /// They agree, and nothing is prepared.
    Agreed,
    /// The prepared commit counts.
    Apply,
    /// The prepared commit does not count.
    Drop,
    /// The group gets the offsets of the knowledge base, which is ahead of it.
    Anchor,
    /// The group no longer tells whether the prepared commit counts.
    Forgotten(u64),
    /// Group and knowledge base do not belong together.
    Apart(u64),
}

impl Commits {
    fn settlement(&self) -> Settlement {
        let known = self.known;
        match (self.prepared, self.found) {
            (Some(prepared), Some(found)) if found == prepared => Settlement::Apply,
            (Some(_), found) if found.unwrap_or(0) == known => Settlement::Drop,
            (Some(prepared), None) => Settlement::Forgotten(prepared),
            (Some(_), Some(found)) => Settlement::Apart(found),
            (None, Some(found)) if found == known => Settlement::Agreed,
            // The commits since were made without transactions, or their offsets were dropped.
            (None, Some(found)) if found < known && found < self.untransacted => Settlement::Anchor,
            (None, Some(found)) => Settlement::Apart(found),
            (None, None) if known == 0 => Settlement::Agreed,
            (None, None) => Settlement::Anchor,
        }
    }
}

/// Settles a prepared commit, whatever the config says about delivery now, and makes sure that
/// group and knowledge base belong together before anything is written in transactions.
pub(super) fn settle(
    settings: &Settings,
    knowledge: &KnowledgeBase,
    sink: Option<&mut KafkaSink>,
) -> Result<(), Error> {
    let config = settings.config();
    let sink = sink.filter(|sink| sink.is_transactional());
    let progress = knowledge.view().progress()?;
    let mut prepared = knowledge.prepared()?;
    if let Some(stale) = prepared.filter(|prepared| *prepared != progress.commits + 1) {
        tracing::warn!(
            stale,
            "dropped a prepared commit: others were made since without it"
        );
        knowledge.drop_prepared()?;
        prepared = None;
    }
    let Some(kafka) = &config.kafka else {
        return match prepared {
            Some(number) => Err(KafkaError::NoGroup { number }.into()),
            None => Ok(()),
        };
    };
    if prepared.is_none() && sink.is_none() {
        return Ok(());
    }
    let group = config.group();
    if sink.is_none() {
        // A sink with transactions has done so when it was opened.
        end_transaction(kafka, group)?;
    }
    let places = places(settings, &progress)?;
    let found = committed(kafka, group, &places)?;
    let commits = Commits {
        known: progress.commits,
        untransacted: knowledge.view().untransacted()?,
        prepared,
        found: found.last().map(|mark| mark.number),
    };
    match commits.settlement() {
        Settlement::Agreed => {}
        Settlement::Apply => knowledge.apply_prepared()?,
        Settlement::Drop => knowledge.drop_prepared()?,
        Settlement::Anchor => {
            if let Some(sink) = sink {
                return anchor(sink, &progress, (found, places));
            }
        }
        Settlement::Forgotten(number) => {
            let group = group.to_string();
            return Err(KafkaError::Forgotten { group, number }.into());
        }
        Settlement::Apart(number) => {
            let own = sink.as_ref().map(|sink| &*sink.run().partitions);
            let last = found.last().map(|mark| &*mark.run.partitions);
            let other = last.filter(|other| !other.is_empty() && Some(*other) != own);
            let group = group.to_string();
            return Err(match own.zip(other) {
                Some((own, other)) => KafkaError::Shared {
                    group,
                    own: own.to_string(),
                    other: other.to_string(),
                },
                None => KafkaError::Apart {
                    group,
                    found: number,
                    known: progress.commits,
                },
            }
            .into());
        }
    }
    if let Some(sink) = sink {
        sink.go_on_after(found, places);
    }
    Ok(())
}

/// The partitions whose offsets the group has: those that are read, and, if nothing is read from
/// topics any more, those that were.
fn places(settings: &Settings, progress: &Progress) -> Result<BTreeSet<TopicPartition>, Error> {
    match settings.config().source.kafka {
        Some(_) => source_partitions(settings),
        None => Ok(progress.offsets.keys().cloned().collect()),
    }
}

/// Gives the group the offsets of the knowledge base, so that the group tells of every later commit
/// whether it counts.
fn anchor(
    sink: &mut KafkaSink,
    progress: &Progress,
    (found, places): (BTreeSet<CommitMark>, BTreeSet<TopicPartition>),
) -> Result<(), Error> {
    let number = progress.commits;
    tracing::info!(
        number,
        "the consumer group gets the offsets of the knowledge base, which is ahead of it"
    );
    sink.go_on_after(found, places);
    while sink.commit(&progress.offsets, number)? == Outcome::Aborted {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_commit_after_the_known_one_is_settled_by_the_group() {
        let settled = |known, untransacted, prepared, found| {
            let commits = Commits {
                known,
                untransacted,
                prepared,
                found,
            };
            commits.settlement()
        };
        assert_eq!(settled(7, 0, Some(8), Some(8)), Settlement::Apply);
        assert_eq!(settled(7, 0, Some(8), Some(7)), Settlement::Drop);
        assert_eq!(settled(0, 0, Some(1), None), Settlement::Drop);
        assert_eq!(settled(7, 0, Some(8), None), Settlement::Forgotten(8));
        assert_eq!(settled(7, 0, Some(8), Some(9)), Settlement::Apart(9));
        assert_eq!(settled(7, 0, None, Some(7)), Settlement::Agreed);
        assert_eq!(settled(0, 0, None, None), Settlement::Agreed);
        assert_eq!(settled(7, 0, None, None), Settlement::Anchor);
        assert_eq!(settled(7, 7, None, Some(3)), Settlement::Anchor);
        assert_eq!(settled(7, 0, None, Some(3)), Settlement::Apart(3));
        assert_eq!(settled(7, 3, None, Some(3)), Settlement::Apart(3));
        assert_eq!(settled(7, 7, None, Some(9)), Settlement::Apart(9));
    }
}
