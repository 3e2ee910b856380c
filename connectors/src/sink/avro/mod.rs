//! Predictions as Avro records, one a message.

#[cfg(test)]
mod tests;

use ndarray::ArrayView1;
use perennial_operators::flow::{Predicted, predicted_class};
use serde::ser::{Serialize, Serializer};
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;

use super::layout::{GroupText, Verdict, group_texts, is_deferred, site};
use super::{Layout, SinkError};

/// What comes before what was predicted in the schema of a prediction.
const HEAD: &str = r#"{
  "type": "record",
  "name": "Prediction",
  "namespace": "perennial",
  "doc": "What the model of the finest task that has one said of a sample.",
  "fields": [
    {"name": "id", "type": "string", "doc": "The sample's id."},
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "The sample's event time."},
    {"name": "site", "type": "string", "doc": "The site that it was taken at; empty if unknown."},
    {"name": "task", "type": "string", "doc": "The finest task that it belongs to."},
    {"name": "model", "type": "string", "doc": "The task whose model answered, and the model's version."},"#;

/// What is said of the sample's task.
const VERDICT: &str = r#"
    {"name": "unseen", "type": "boolean", "doc": "Whether the sample is taken for one of no known task."},
    {"name": "p", "type": ["null", "float"], "doc": "How usual it is among samples of known tasks."},
    {"name": "why", "type": {"type": "array", "items": "string"}, "doc": "What tells that it is unseen."},
    {"name": "nearest", "type": {"type": "array", "items": "string"}, "doc": "The known tasks nearest to an unseen sample."},"#;

/// What comes last.
const TAIL: &str = r#"
    {"name": "epoch", "type": "long", "doc": "The epoch in which it was predicted."}
  ]
}"#;

/// A type that there may be nothing of, where answers can be left to others.
fn answer(kind: &str, layout: &Layout) -> String {
    match layout.recognizes {
        true => format!(r#"["null", {kind}]"#),
        false => kind.to_string(),
    }
}

/// Encodes predictions of given classes, or of numbers.
pub struct AvroPredictions {
    schema: Schema,
    layout: Layout,
    /// What comes before each record.
    header: Vec<u8>,
}

/// One prediction, borrowed from its batch.
#[derive(Debug, serde::Serialize)]
pub struct PredictionRow<'a> {
    /// The sample's id.
    pub id: &'a str,
    /// Its event time, microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// The site that it was taken at, empty if unknown.
    pub site: &'a str,
    /// The finest task that it belongs to.
    pub task: &'a str,
    /// The task whose model answered, and the model's version.
    pub model: &'a str,
    /// What was predicted; none where that is left to others.
    pub prediction: Option<PredictedValue<'a>>,
    /// The probability of each class, if there are classes; of none where that is left to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Option<Probabilities<'a>>>,
    /// Whether the sample is taken for one of no known task, where that is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<bool>,
    /// How usual it is among samples of known tasks; of none where too few of these are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<Option<f32>>,
    /// What tells that it is unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Vec<&'a str>>,
    /// The known tasks that are nearest to an unseen sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Vec<&'a str>>,
    /// The epoch in which it was predicted.
    pub epoch: u64,
}

/// What was predicted of a sample.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(untagged)]
pub enum PredictedValue<'a> {
    /// The most probable class.
    Class(&'a str),
    /// The number. NaN is written as it is.
    Number(f32),
}

/// The classes' probabilities: as many as there are classes, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Probabilities<'a> {
    /// The classes' names.
    pub classes: &'a [String],
    /// Their probabilities. NaN is written as it is.
    pub values: ArrayView1<'a, f32>,
}

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.classes.iter().zip(self.values))
    }
}

/// Encodes the predictions of a batch, with what can be kept from one to the next.
pub struct AvroEncoder<'a> {
    header: &'a [u8],
    config: SerializerConfig<'a>,
}

impl AvroPredictions {
    /// An encoder for predictions of this layout. With a `schema_id` each message is in the format of
    /// Confluent's serializers, which refers to the schema by its id in a registry; without, it is the
    /// bare record.
    pub fn new(layout: &Layout, schema_id: Option<u32>) -> Result<AvroPredictions, SinkError> {
        let schema = Self::schema(layout)
            .parse()
            .map_err(|error| SinkError::Avro(format!("{error}")))?;
        let mut header = Vec::new();
        if let Some(id) = schema_id {
            header.push(0);
            header.extend(id.to_be_bytes());
        }
        Ok(AvroPredictions {
            schema,
            layout: layout.clone(),
            header,
        })
    }

    /// The JSON of the predictions' schema, for a registry or for those who read bare records. It does not depend on which
    /// classes there are, so that they may change within a topic.
    pub fn schema(layout: &Layout) -> String {
        let verdict = if layout.recognizes { VERDICT } else { "" };
        let predicted = if layout.classes.is_empty() {
            let kind = answer("\"float\"", layout);
            format!(
                r#"
    {{"name": "prediction", "type": {kind}, "doc": "The number that is predicted."}},"#
            )
        } else {
            let class = answer("\"string\"", layout);
            let map = answer(r#"{"type": "map", "values": "float"}"#, layout);
            format!(
                r#"
    {{"name": "prediction", "type": {class}, "doc": "The most probable class."}},
    {{"name": "probabilities", "type": {map}, "doc": "The probability of each class."}},"#
            )
        };
        [HEAD, &predicted, verdict, TAIL].concat()
    }

    /// Encodes the predictions of a batch, in input order, and hands out each with its row; none if the
    /// batch was not predicted. The first error ends it.
    pub fn encode<E: From<SinkError>>(
        &self,
        scored: &Predicted,
        mut message: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !scored.is_predicted() {
            return Ok(());
        }
        let groups = group_texts(scored);
        let mut encoder = self.encoder();
        let mut bytes = Vec::new();
        for row in 0..scored.allocated.batch.len() {
            let group = &groups[scored.allocated.group_of[row] as usize];
            bytes.clear();
            encoder.encode(&self.row(scored, row, group), &mut bytes)?;
            message(row, &bytes)?;
        }
        Ok(())
    }

    /// An encoder of single predictions.
    pub fn encoder(&self) -> AvroEncoder<'_> {
        AvroEncoder {
            header: &self.header,
            config: SerializerConfig::new(&self.schema),
        }
    }

    fn row<'a>(
        &'a self,
        scored: &'a Predicted,
        row: usize,
        group: &'a GroupText,
    ) -> PredictionRow<'a> {
        let batch = &scored.allocated.batch;
        let values = scored.probabilities.row(row);
        let given = !is_deferred(scored, row);
        let (prediction, probabilities) = match self.layout.classes.as_slice() {
            [] => (PredictedValue::Number(values[0]), None),
            classes => (
                PredictedValue::Class(&classes[predicted_class(values)]),
                Some(given.then_some(Probabilities { classes, values })),
            ),
        };
        let verdict = self.layout.recognizes.then(|| Verdict::of(scored, row));
        let Verdict {
            unseen,
            p,
            why,
            nearest,
        } = verdict.unwrap_or_default();
        let said = self.layout.recognizes;
        PredictionRow {
            id: batch.ids.get(row),
            time: batch.times[row],
            site: site(batch, row),
            task: &group.task,
            model: &group.model,
            prediction: given.then_some(prediction),
            probabilities,
            unseen: said.then_some(unseen),
            p: said.then_some(p),
            why: said.then_some(why),
            nearest: said.then_some(nearest),
            epoch: scored.allocated.header.epoch.0,
        }
    }
}

impl AvroEncoder<'_> {
    /// Appends the message of one prediction. It allocates nothing but what `bytes` needs. After an error
    /// `bytes` is as it was.
    pub fn encode(
        &mut self,
        prediction: &PredictionRow,
        bytes: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        let start = bytes.len();
        bytes.extend_from_slice(self.header);
        let encoded =
            serde_avro_fast::to_datum(prediction, &mut *bytes, &mut self.config).map(drop);
        encoded.map_err(|error| {
            bytes.truncate(start);
            SinkError::Avro(error.to_string())
        })
    }
}
