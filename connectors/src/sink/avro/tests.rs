//! Predictions as Avro: the bytes, and the same content as JSON and tables.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::Array;
use ndarray::{Array2, array};
use perennial_operators::algorithms::pool::Pool;
use perennial_operators::algorithms::recognize::{METHODS, Method, Recognized, UnseenAnswer};
use perennial_operators::flow::{Allocated, EpochHeader, Group, Phase};
use perennial_operators::{
    Batch, Dictionary, Epoch, MISSING, ModelId, TaskDefinition, TaskPath, Texts,
};
use serde::Deserialize;

use super::*;
use crate::sink::{Format, Renderer};

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
        prediction: Some(PredictedValue::Class(&classes[1])),
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
fn predicted() -> Predicted {
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
    let sites = Dictionary::default();
    let code = sites.push("athens");
    let batch = Batch {
        first: 0,
        ids,
        times: vec![1, 2, 1_718_810_565_000_000],
        attributes: vec![vec![code, MISSING, code]],
        dictionaries: Arc::new(vec![sites]),
        generation: 0,
        features: Array2::zeros((3, 1)),
        labels: Vec::new(),
        metadata: None,
    };
    let header = EpochHeader {
        epoch: Epoch(5),
        end: 3,
        clock: 0,
        phase: Phase::Live,
    };
    let model = |task, version| ModelId { task, version };
    Predicted {
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
            undefined: 0,
        }),
        probabilities: array![[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]],
        pools: [model(child.task, 2), model(base.task, 1)]
            .map(|model| Rc::new(Pool::of(model, 2)))
            .into(),
        outputs: Array2::zeros((3, 2)),
        baselines: Vec::new(),
        recognized: None,
        trials: Vec::new(),
        failures: Vec::new(),
    }
}

#[test]
fn a_batch_says_the_same_in_avro_and_in_json() {
    let predicted = predicted();
    let mut lines = Vec::new();
    Renderer::new(Format::Jsonl, &Layout::of(&classes())).render(&predicted, &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    let mut messages = Vec::new();
    let predictions = AvroPredictions::new(&Layout::of(&classes()), None).unwrap();
    let encoded = predictions.encode(&predicted, |row, bytes| -> Result<(), SinkError> {
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
    struct ReceivedNumber {
        id: String,
        time: i64,
        site: String,
        task: String,
        model: String,
        prediction: f32,
        epoch: i64,
    }
    let predicted = Predicted {
        probabilities: array![[20.5], [-1.25e-3], [f32::NAN]],
        ..predicted()
    };
    let mut lines = Vec::new();
    Renderer::new(Format::Jsonl, &Layout::default()).render(&predicted, &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    let predictions = AvroPredictions::new(&Layout::default(), None).unwrap();
    let schema: Schema = AvroPredictions::schema(&Layout::default()).parse().unwrap();
    let mut messages: Vec<ReceivedNumber> = Vec::new();
    let encoded = predictions.encode(&predicted, |_, bytes| -> Result<(), SinkError> {
        messages.push(serde_avro_fast::from_datum_slice(bytes, &schema).unwrap());
        Ok(())
    });
    encoded.unwrap();
    assert!(messages[2].prediction.is_nan());
    assert!(lines.contains("\"prediction\":null,\"epoch\""), "{lines}");
    for (line, message) in lines.lines().zip(&messages[..2]) {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["time"] = message.time.into();
        assert_eq!(
            serde_json::from_value::<ReceivedNumber>(line).unwrap(),
            *message
        );
    }
    let mut table = Vec::new();
    let mut csv = Renderer::new(Format::Csv, &Layout::default());
    csv.render(&predicted, &mut table);
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
    let predicted = Predicted {
        probabilities: Array2::zeros((0, 0)),
        pools: Vec::new(),
        ..predicted()
    };
    let predictions = AvroPredictions::new(&Layout::of(&classes()), None).unwrap();
    let encoded = predictions.encode(&predicted, |_, _| Err(SinkError::Avro("called".into())));
    encoded.unwrap();
}

/// The same batch, whose first sample is taken for one of no known task.
fn recognized(answer: UnseenAnswer) -> Predicted {
    let p = |p: f32| {
        let mut all = [f32::NAN; METHODS + 1];
        (all[Method::Density as usize], all[METHODS]) = (p, p);
        all
    };
    Predicted {
        recognized: Some(Recognized {
            scores: vec![p(9.0), p(1.0), p(1.0)],
            p: vec![p(0.25), p(0.5), p(f32::NAN)],
            unseen: vec![true, false, false],
            first_unknown: vec![Some(1), None],
            in_region: vec![false, false],
            nearest: vec![0; 3],
            reference: None,
            by_attributes: true,
            false_alarm: 0.3,
            defers: answer == UnseenAnswer::Defer,
        }),
        ..predicted()
    }
}

#[test]
fn what_is_said_of_tasks_is_the_same_in_avro_and_in_json() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct ReceivedVerdict {
        id: String,
        prediction: Option<String>,
        probabilities: Option<BTreeMap<String, f32>>,
        unseen: bool,
        p: Option<f32>,
        #[serde(default)]
        why: Vec<String>,
        #[serde(default)]
        nearest: Vec<String>,
    }
    let layout = Layout {
        recognizes: true,
        ..Layout::of(&classes())
    };
    for answer in [UnseenAnswer::Nearest, UnseenAnswer::Defer] {
        let predicted = recognized(answer);
        let mut lines = Vec::new();
        Renderer::new(Format::Jsonl, &layout).render(&predicted, &mut lines);
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<ReceivedVerdict> = lines.collect();
        let schema: Schema = AvroPredictions::schema(&layout).parse().unwrap();
        let predictions = AvroPredictions::new(&layout, None).unwrap();
        let mut messages: Vec<ReceivedVerdict> = Vec::new();
        let encoded = predictions.encode(&predicted, |_, bytes| -> Result<(), SinkError> {
            messages.push(serde_avro_fast::from_datum_slice(bytes, &schema).unwrap());
            Ok(())
        });
        encoded.unwrap();
        assert_eq!(lines, messages);
        let [first, second, third] = &messages[..] else {
            panic!("{messages:?}");
        };
        assert_eq!((first.unseen, first.p), (true, Some(0.25)));
        assert_eq!(first.why, ["attributes", "density"]);
        assert_eq!(first.nearest, ["base"]);
        assert_eq!(first.prediction.is_none(), answer == UnseenAnswer::Defer);
        assert_eq!(first.probabilities.is_none(), answer == UnseenAnswer::Defer);
        assert_eq!((second.unseen, second.p), (false, Some(0.5)));
        assert_eq!((third.unseen, third.p), (false, None));
        // And a table has the same rows.
        let table = crate::sink::table::table(&layout, &predicted).unwrap();
        let column = |name: &str| table.column_by_name(name).unwrap().clone();
        let deferred = usize::from(answer == UnseenAnswer::Defer);
        assert_eq!(column("prediction").null_count(), deferred);
        assert_eq!(column("probabilities").null_count(), deferred);
        assert_eq!(column("p").null_count(), 1);
        assert_eq!((column("why").len(), column("nearest").len()), (3, 3));
    }
}
