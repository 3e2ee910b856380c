//! A plain producer.

use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::kafka::{Broker, PATIENCE};

/// A message to produce: partition, timestamp in milliseconds, key, value.
pub type Message = (i32, i64, String, Option<Vec<u8>>);

/// A producer that stays connected.
pub struct Producer(BaseProducer);

impl Producer {
    /// Produces messages, in their order, and waits until they have arrived.
    pub fn send(&self, topic: &str, messages: &[Message]) {
        for (partition, timestamp, key, value) in messages {
            let mut record = BaseRecord::to(topic)
                .partition(*partition)
                .timestamp(*timestamp)
                .key(key);
            if let Some(value) = value {
                record = record.payload(value);
            }
            let record: BaseRecord<'_, String, Vec<u8>> = record;
            let mut waiting = Some(record);
            while let Some(record) = waiting.take() {
                if let Err((_, again)) = self.0.send(record) {
                    self.0.poll(Duration::from_millis(10));
                    waiting = Some(again);
                }
            }
        }
        self.0.flush(PATIENCE).expect("all is produced");
    }
}

impl Broker {
    /// Connects a producer. While it lives, it may create its topics anew if they are deleted.
    pub fn producer(&self) -> Producer {
        let mut config = self.client();
        config
            .set("message.max.bytes", "20000000")
            // A broker that restarts gets each message once.
            .set("enable.idempotence", "true")
            .set("linger.ms", "20");
        Producer(config.create().expect("a producer"))
    }

    /// Produces messages, in their order.
    pub fn produce(&self, topic: &str, messages: &[Message]) {
        self.producer().send(topic, messages);
    }

    /// Produces one message with a header.
    pub fn produce_with_header(
        &self,
        topic: &str,
        (partition, timestamp): (i32, i64),
        (key, header, value): (&[u8], &[u8], &[u8]),
    ) {
        let producer = self.producer().0;
        let header = Header {
            key: "trace",
            value: Some(header),
        };
        let record = BaseRecord::to(topic)
            .partition(partition)
            .timestamp(timestamp)
            .headers(OwnedHeaders::new().insert(header))
            .key(key)
            .payload(value);
        assert!(producer.send(record).is_ok(), "the message is accepted");
        producer.flush(PATIENCE).expect("it is produced");
    }
}
