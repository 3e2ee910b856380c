//! Topics of a benchmark: created for it and removed after it.

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use super::client::admin;
use super::{Client, KafkaConfig, KafkaError, PATIENCE};

/// The replication factor that brokers use by default.
const AS_USUAL: TopicReplication<'_> = TopicReplication::Fixed(-1);

/// Topics that are removed on drop.
pub struct ScratchTopics {
    admin: AdminClient<Client>,
    names: Vec<String>,
}

impl ScratchTopics {
    /// Creates topics with `partitions` partitions each.
    ///
    /// # Errors
    /// No broker answers, or one does not create them.
    pub fn make(
        config: &KafkaConfig,
        names: Vec<String>,
        partitions: i32,
    ) -> Result<ScratchTopics, KafkaError> {
        let failed = |reason: String| KafkaError::Failed {
            brokers: config.brokers.clone(),
            reason,
        };
        let mut scratch = ScratchTopics {
            admin: admin(config)?,
            names: Vec::new(),
        };
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| NewTopic::new(name, partitions, AS_USUAL))
            .collect();
        let made = block_on(scratch.admin.create_topics(&topics, &options()))
            .map_err(|error| failed(error.to_string()))?;
        for result in made {
            match result {
                Ok(name) => scratch.names.push(name),
                Err((name, code)) => {
                    return Err(failed(format!("the topic \"{name}\" is not made: {code}")));
                }
            }
        }
        Ok(scratch)
    }
}

impl Drop for ScratchTopics {
    fn drop(&mut self) {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let deleted = block_on(self.admin.delete_topics(&names, &options()));
        let failed: Vec<String> = match deleted {
            Ok(results) => results
                .into_iter()
                .filter_map(Result::err)
                .map(|(name, code)| format!("{name}: {code}"))
                .collect(),
            Err(error) => vec![error.to_string()],
        };
        if !failed.is_empty() {
            tracing::warn!(
                ?failed,
                "topics of the trial are left: remove them by kafka-topics.sh --delete"
            );
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}
