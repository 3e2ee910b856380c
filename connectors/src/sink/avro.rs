//! Predictions as Avro records, one a message.

use ndarray::ArrayView1;
use perennial_operators::flow::{Scored, predicted_class};
use serde::ser::{Serialize, Serializer};
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;

use super::layout::{Verdict, is_deferred};
use super::render::{GroupText, group_texts, site};
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
    pub prediction: Option<Predicted<'a>>,
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
pub enum Predicted<'a> {
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
        scored: &Scored,
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
        scored: &'a Scored,
        row: usize,
        group: &'a GroupText,
    ) -> PredictionRow<'a> {
        let batch = &scored.allocated.batch;
        let values = scored.probabilities.row(row);
        let given = !is_deferred(scored, row);
        let (prediction, probabilities) = match self.layout.classes.as_slice() {
            [] => (Predicted::Number(values[0]), None),
            classes => (
                Predicted::Class(&classes[predicted_class(values)]),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;
    use std::sync::Arc;

    use ndarray::{Array2, array};
    use perennial_operators::flow::{Allocated, Group};
    use perennial_operators::integrate::Pool;
    use perennial_operators::{
        Batch, Dictionary, Epoch, EpochHeader, MISSING, ModelId, Phase, TaskDefinition, TaskPath,
        Texts,
    };
    use serde::Deserialize;

    use super::super::{Format, Renderer};
    use super::*;

    /// A prediction as a consumer reads it.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Received {
        id: String,
        time: i64,
        site: String,
        task: String,
        model: String,
        prediction: String,
        probabilities: BTreeMap<String, f32>,
        epoch: i64,
    }

    fn classes() -> Vec<String> {
        vec!["cold".into(), "wärm".into()]
    }

    fn row<'a>(classes: &'a [String], values: &'a [f32], id: &'a str) -> PredictionRow<'a> {
        PredictionRow {
            id,
            time: 1_718_810_565_000_001,
            site: "",
            task: "season=hot",
            model: "top @3",
            prediction: Some(Predicted::Class(&classes[1])),
            probabilities: Some(Some(Probabilities {
                classes,
                values: ArrayView1::from(values),
            })),
            unseen: None,
            p: None,
            why: None,
            nearest: None,
            epoch: 7,
        }
    }

    fn received(bytes: &[u8]) -> Received {
        let schema: Schema = AvroPredictions::schema(&Layout::of(&classes()))
            .parse()
            .unwrap();
        serde_avro_fast::from_datum_slice(bytes, &schema).unwrap()
    }

    #[test]
    fn a_prediction_is_read_as_it_was_written() {
        let classes = classes();
        let predictions = AvroPredictions::new(&Layout::of(&classes), None).unwrap();
        let mut encoder = predictions.encoder();
        let mut bytes = Vec::new();
        let values = [0.25, 0.75];
        encoder
            .encode(&row(&classes, &values, "a-1"), &mut bytes)
            .unwrap();
        let probabilities = BTreeMap::from([("cold".into(), 0.25), ("wärm".into(), 0.75)]);
        assert_eq!(
            received(&bytes),
            Received {
                id: "a-1".into(),
                time: 1_718_810_565_000_001,
                site: "".into(),
                task: "season=hot".into(),
                model: "top @3".into(),
                prediction: "wärm".into(),
                probabilities,
                epoch: 7,
            }
        );
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let classes = vec!["a".to_string(), "b".to_string()];
        let predictions = AvroPredictions::new(&Layout::of(&classes), Some(258)).unwrap();
        let mut bytes = b"before".to_vec();
        let prediction = PredictionRow {
            time: -1,
            site: "s",
            task: "t",
            model: "m",
            epoch: 64,
            ..row(&classes, &[1.0, 0.0], "i")
        };
        predictions
            .encoder()
            .encode(&prediction, &mut bytes)
            .unwrap();
        let mut expected = b"before".to_vec();
        expected.extend([0, 0, 0, 1, 2]);
        expected.extend(b"\x02i\x01\x02s\x02t\x02m\x02b");
        // A map: a block of two entries, then none.
        expected.extend(b"\x04\x02a\x00\x00\x80\x3f\x02b\x00\x00\x00\x00\x00");
        expected.extend([0x80, 1]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_cannot_be_written_leaves_no_bytes() {
        let classes = classes();
        let predictions = AvroPredictions::new(&Layout::of(&classes), Some(1)).unwrap();
        let mut encoder = predictions.encoder();
        let mut bytes = b"before".to_vec();
        let values = [f32::NAN, 0.5];
        let prediction = PredictionRow {
            epoch: u64::MAX,
            ..row(&classes, &values, "a")
        };
        let error = encoder.encode(&prediction, &mut bytes).unwrap_err();
        assert!(error.to_string().contains("Avro"), "{error}");
        assert_eq!(bytes, b"before");
        bytes.clear();
        encoder
            .encode(&row(&classes, &values, "a"), &mut bytes)
            .unwrap();
        assert!(received(&bytes[5..]).probabilities["cold"].is_nan());
    }

    /// A batch of two samples of one task and one of the base task.
    fn scored() -> Scored {
        let base = TaskDefinition::base();
        let child = base.child(&[("season".into(), "hot".into())]);
        let group = |nodes: &[TaskDefinition], start, end| Group {
            path: Rc::new(TaskPath {
                nodes: nodes.to_vec(),
            }),
            start,
            end,
        };
        let mut ids = Texts::default();
        ["a", "b", "c"].iter().for_each(|id| ids.push(id));
        let mut sites = Dictionary::default();
        let code = sites.insert("athens");
        let batch = Batch {
            first: 0,
            ids,
            times: vec![1, 2, 1_718_810_565_000_000],
            attributes: vec![vec![code, MISSING, code]],
            dictionaries: Arc::new(vec![sites]),
            features: Array2::zeros((3, 1)),
            labels: Vec::new(),
            metadata: None,
        };
        let header = EpochHeader {
            epoch: Epoch(5),
            end: 3,
            clock: 0,
            phase: Phase::Scored,
        };
        let model = |task, version| ModelId { task, version };
        Scored {
            allocated: Rc::new(Allocated {
                header,
                batch,
                groups: vec![
                    group(&[base.clone(), child.clone()], 0, 2),
                    group(std::slice::from_ref(&base), 2, 3),
                ],
                order: vec![0, 2, 1],
                group_of: vec![0, 1, 0],
                labels: Arc::default(),
            }),
            probabilities: array![[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]],
            pools: [model(child.task, 2), model(base.task, 1)]
                .map(|model| Rc::new(Pool::of(model, 2)))
                .into(),
            answers: Array2::zeros((3, 2)),
            baselines: Vec::new(),
            recognized: None,
        }
    }

    #[test]
    fn a_batch_says_the_same_in_avro_and_in_json() {
        let scored = scored();
        let mut lines = Vec::new();
        Renderer::new(Format::Jsonl, &Layout::of(&classes())).render(&scored, &mut lines);
        let lines = String::from_utf8(lines).unwrap();
        let mut messages = Vec::new();
        let predictions = AvroPredictions::new(&Layout::of(&classes()), None).unwrap();
        let encoded = predictions.encode(&scored, |row, bytes| -> Result<(), SinkError> {
            assert_eq!(row, messages.len());
            messages.push(received(bytes));
            Ok(())
        });
        encoded.unwrap();
        assert_eq!(lines.lines().count(), messages.len());
        for (line, message) in lines.lines().zip(messages) {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
            line["time"] = time.as_microsecond().into();
            assert_eq!(serde_json::from_value::<Received>(line).unwrap(), message);
        }
    }

    #[test]
    fn a_number_is_predicted_without_probabilities() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Received {
            id: String,
            time: i64,
            site: String,
            task: String,
            model: String,
            prediction: f32,
            epoch: i64,
        }
        let scored = Scored {
            probabilities: array![[20.5], [-1.25e-3], [f32::NAN]],
            ..scored()
        };
        let mut lines = Vec::new();
        Renderer::new(Format::Jsonl, &Layout::default()).render(&scored, &mut lines);
        let lines = String::from_utf8(lines).unwrap();
        let predictions = AvroPredictions::new(&Layout::default(), None).unwrap();
        let schema: Schema = AvroPredictions::schema(&Layout::default()).parse().unwrap();
        let mut messages: Vec<Received> = Vec::new();
        let encoded = predictions.encode(&scored, |_, bytes| -> Result<(), SinkError> {
            messages.push(serde_avro_fast::from_datum_slice(bytes, &schema).unwrap());
            Ok(())
        });
        encoded.unwrap();
        assert!(messages[2].prediction.is_nan());
        assert!(lines.contains("\"prediction\":null,\"epoch\""), "{lines}");
        for (line, message) in lines.lines().zip(&messages[..2]) {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["time"] = message.time.into();
            assert_eq!(serde_json::from_value::<Received>(line).unwrap(), *message);
        }
        let mut table = Vec::new();
        let mut csv = Renderer::new(Format::Csv, &Layout::default());
        csv.render(&scored, &mut table);
        let header = String::from_utf8(csv.header()).unwrap();
        assert_eq!(header, "id,time,site,task,model,prediction,epoch\n");
        let table = String::from_utf8(table).unwrap();
        assert!(
            table.lines().next().unwrap().ends_with(",20.5,5"),
            "{table}"
        );
        assert!(table.lines().last().unwrap().ends_with(",,5"), "{table}");
    }

    #[test]
    fn a_batch_without_predictions_gives_no_messages() {
        let scored = Scored {
            probabilities: Array2::zeros((0, 0)),
            pools: Vec::new(),
            ..scored()
        };
        let predictions = AvroPredictions::new(&Layout::of(&classes()), None).unwrap();
        let encoded = predictions.encode(&scored, |_, _| Err(SinkError::Avro("called".into())));
        encoded.unwrap();
    }
}
