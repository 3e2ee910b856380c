//! Predictions as Avro records, one for each message.

#[cfg(test)]
mod tests;

use ndarray::ArrayView1;
use perennial_operators::flow::{Predicted, predicted_class};
use serde::ser::{Serialize, Serializer};
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;

use super::layout::{GroupText, Verdict, group_texts, is_deferred, site};
use super::{Layout, SinkError};

/// Start of the schema of a prediction, up to the fields of the prediction itself.
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

/// Fields of the schema for the recognition of a sample.
const VERDICT: &str = r#"
    {"name": "unseen", "type": "boolean", "doc": "Whether the sample is taken for one of no known task."},
    {"name": "p", "type": ["null", "float"], "doc": "How usual it is among samples of known tasks."},
    {"name": "why", "type": {"type": "array", "items": "string"}, "doc": "What tells that it is unseen."},
    {"name": "nearest", "type": {"type": "array", "items": "string"}, "doc": "The known tasks nearest to an unseen sample."},"#;

/// End of the schema.
const TAIL: &str = r#"
    {"name": "epoch", "type": "long", "doc": "The epoch in which it was predicted."}
  ]
}"#;

/// The type of a field of the prediction: nullable if predictions can be deferred.
fn field_type(kind: &str, layout: &Layout) -> String {
    if layout.recognizes {
        format!(r#"["null", {kind}]"#)
    } else {
        kind.to_string()
    }
}

/// An encoder of predictions of one layout.
pub struct AvroPredictions {
    schema: Schema,
    layout: Layout,
    /// Bytes before each record.
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
    /// Name of its finest task.
    pub task: &'a str,
    /// The task whose model has the greatest weight in the prediction, and the model's version.
    pub model: &'a str,
    /// The prediction; none if it is deferred.
    pub prediction: Option<PredictedValue<'a>>,
    /// The probability of each class, if the label has classes; null if the prediction is deferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Option<Probabilities<'a>>>,
    /// Whether the sample is taken for one of an unseen task, if samples are recognized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<bool>,
    /// Its p-value among samples of known tasks; null while too few of these are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<Option<f32>>,
    /// The methods that take it for unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Vec<&'a str>>,
    /// The known tasks nearest to an unseen sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Vec<&'a str>>,
    /// The epoch in which it was predicted.
    pub epoch: u64,
}

/// The prediction for a sample.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(untagged)]
pub enum PredictedValue<'a> {
    /// The most probable class.
    Class(&'a str),
    /// The number; it may be NaN.
    Number(f32),
}

/// The probabilities of all classes, in the order of the classes.
#[derive(Clone, Copy, Debug)]
pub struct Probabilities<'a> {
    /// The classes' names.
    pub classes: &'a [String],
    /// Their probabilities; they may be NaN.
    pub values: ArrayView1<'a, f32>,
}

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.classes.iter().zip(self.values))
    }
}

/// An encoder of single predictions that reuses its buffers.
pub struct AvroEncoder<'a> {
    header: &'a [u8],
    config: SerializerConfig<'a>,
}

impl AvroPredictions {
    /// An encoder for predictions of `layout`. With a `schema_id` each message is in the format of
    /// Confluent's serializers, which refers to the schema by its id in a registry; without one it
    /// is the bare record.
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

    /// The JSON of the predictions' schema, for a registry or for readers of bare records. It does
    /// not contain the classes, so that they may change within a topic.
    pub fn schema(layout: &Layout) -> String {
        let verdict = if layout.recognizes { VERDICT } else { "" };
        let predicted = if layout.classes.is_empty() {
            let kind = field_type("\"float\"", layout);
            format!(
                r#"
    {{"name": "prediction", "type": {kind}, "doc": "The number that is predicted."}},"#
            )
        } else {
            let class = field_type("\"string\"", layout);
            let map = field_type(r#"{"type": "map", "values": "float"}"#, layout);
            format!(
                r#"
    {{"name": "prediction", "type": {class}, "doc": "The most probable class."}},
    {{"name": "probabilities", "type": {map}, "doc": "The probability of each class."}},"#
            )
        };
        [HEAD, &predicted, verdict, TAIL].concat()
    }

    /// Encodes the predictions of a batch in input order and passes each with its row to `message`;
    /// none if the batch has no predictions. The first error ends it.
    pub fn encode<E: From<SinkError>>(
        &self,
        predicted: &Predicted,
        mut message: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !predicted.is_predicted() {
            return Ok(());
        }
        let groups = group_texts(predicted);
        let mut encoder = self.encoder();
        let mut bytes = Vec::new();
        for row in 0..predicted.allocated.batch.len() {
            let group = &groups[predicted.allocated.group_of[row] as usize];
            bytes.clear();
            encoder.encode(&self.row(predicted, row, group), &mut bytes)?;
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
        predicted: &'a Predicted,
        row: usize,
        group: &'a GroupText,
    ) -> PredictionRow<'a> {
        let batch = &predicted.allocated.batch;
        let values = predicted.probabilities.row(row);
        let given = !is_deferred(predicted, row);
        let (prediction, probabilities) = match self.layout.classes.as_slice() {
            [] => (PredictedValue::Number(values[0]), None),
            classes => (
                PredictedValue::Class(&classes[predicted_class(values)]),
                Some(given.then_some(Probabilities { classes, values })),
            ),
        };
        let verdict = self.layout.recognizes.then(|| Verdict::of(predicted, row));
        let Verdict {
            unseen,
            p,
            why,
            nearest,
        } = verdict.unwrap_or_default();
        let recognizes = self.layout.recognizes;
        PredictionRow {
            id: batch.ids.get(row),
            time: batch.times[row],
            site: site(batch, row),
            task: &group.task,
            model: &group.model,
            prediction: given.then_some(prediction),
            probabilities,
            unseen: recognizes.then_some(unseen),
            p: recognizes.then_some(p),
            why: recognizes.then_some(why),
            nearest: recognizes.then_some(nearest),
            epoch: predicted.allocated.header.epoch.0,
        }
    }
}

impl AvroEncoder<'_> {
    /// Appends the message of one prediction. Only `bytes` may allocate. After an error `bytes` is
    /// unchanged.
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
