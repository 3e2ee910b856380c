//! Predictions as bytes: JSON Lines, CSV, or a table on its way to a Parquet file.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringBuilder,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use perennial_operators::flow::{Scored, predicted_class};
use perennial_operators::{Batch, SITE};

use super::Format;

/// Renders predictions. The texts of a task are prepared once a batch, not once a sample. Without classes the label is
/// a number, and there are no probabilities.
pub struct Renderer {
    format: Format,
    classes: Vec<String>,
    /// Class names as the format quotes them.
    quoted: Vec<String>,
    /// The last event time and its text: samples of one moment come together.
    time: (i64, String),
    /// The line being written.
    line: String,
}

/// What a group's samples have in common.
pub(super) struct GroupText {
    pub task: String,
    pub model: String,
}

impl Renderer {
    /// A renderer for predictions of these classes, or of a number if there are none.
    pub fn new(format: Format, classes: &[String]) -> Self {
        Renderer {
            format,
            classes: classes.to_vec(),
            quoted: classes.iter().map(|class| quote(format, class)).collect(),
            time: (i64::MIN, String::new()),
            line: String::new(),
        }
    }

    /// What a file of the format begins with.
    pub fn header(&self) -> Vec<u8> {
        if self.format != Format::Csv {
            return Vec::new();
        }
        let mut header = "id,time,site,task,model,prediction".to_string();
        for class in &self.classes {
            header.push(',');
            header.push_str(&quote(Format::Csv, &format!("probability {class}")));
        }
        header.push_str(",epoch\n");
        header.into_bytes()
    }

    /// Appends the predictions of a batch, in input order.
    pub fn render(&mut self, scored: &Scored, bytes: &mut Vec<u8>) {
        match self.format {
            Format::Jsonl => self.lines(scored, bytes, Self::json),
            Format::Csv => self.lines(scored, bytes, Self::csv),
            Format::Parquet => super::parquet::pack(&self.table(scored), bytes),
        }
    }

    /// The groups' texts as the format quotes them.
    fn group_texts(&self, scored: &Scored) -> Vec<GroupText> {
        let mut groups = group_texts(scored);
        for group in &mut groups {
            group.task = quote(self.format, &group.task);
            group.model = quote(self.format, &group.model);
        }
        groups
    }

    /// Hands each prediction of a batch to `each` as a JSON object: row and bytes, in input order.
    pub(super) fn each_object(&mut self, scored: &Scored, mut each: impl FnMut(usize, &[u8])) {
        let groups = self.group_texts(scored);
        let mut text = std::mem::take(&mut self.line);
        for row in 0..scored.allocated.batch.len() {
            self.set_time(scored.allocated.batch.times[row]);
            let group = &groups[scored.allocated.group_of[row] as usize];
            text.clear();
            self.json(&mut text, scored, row, group);
            each(row, text.trim_end().as_bytes());
        }
        self.line = text;
    }

    fn lines(
        &mut self,
        scored: &Scored,
        bytes: &mut Vec<u8>,
        line: fn(&Self, &mut String, &Scored, usize, &GroupText),
    ) {
        let groups = self.group_texts(scored);
        let mut text = String::from_utf8(std::mem::take(bytes)).unwrap_or_default();
        for row in 0..scored.allocated.batch.len() {
            self.set_time(scored.allocated.batch.times[row]);
            let group = &groups[scored.allocated.group_of[row] as usize];
            line(self, &mut text, scored, row, group);
        }
        *bytes = text.into_bytes();
    }

    fn set_time(&mut self, micros: i64) {
        if self.time.0 != micros {
            self.time.0 = micros;
            self.time.1.clear();
            // Only times that were read as times come here, and those can be written as such.
            if let Ok(time) = jiff::Timestamp::from_microsecond(micros) {
                let _ = write!(self.time.1, "{time}");
            }
        }
    }

    fn json(&self, text: &mut String, scored: &Scored, row: usize, group: &GroupText) {
        let batch = &scored.allocated.batch;
        let answer = scored.probabilities.row(row);
        text.push_str("{\"id\":");
        push_quoted(Format::Jsonl, text, batch.ids.get(row));
        text.push_str(",\"time\":\"");
        text.push_str(&self.time.1);
        text.push_str("\",\"site\":");
        push_quoted(Format::Jsonl, text, site(batch, row));
        text.push_str(",\"task\":");
        text.push_str(&group.task);
        text.push_str(",\"model\":");
        text.push_str(&group.model);
        text.push_str(",\"prediction\":");
        if self.classes.is_empty() {
            push_number(text, answer[0], "null");
        } else {
            text.push_str(&self.quoted[predicted_class(answer)]);
            text.push_str(",\"probabilities\":{");
            for (class, probability) in self.quoted.iter().zip(answer) {
                if !text.ends_with('{') {
                    text.push(',');
                }
                text.push_str(class);
                text.push(':');
                push_number(text, *probability, "null");
            }
            text.push('}');
        }
        text.push_str(",\"epoch\":");
        text.push_str(itoa::Buffer::new().format(scored.allocated.header.epoch.0));
        text.push_str("}\n");
    }

    fn csv(&self, text: &mut String, scored: &Scored, row: usize, group: &GroupText) {
        let batch = &scored.allocated.batch;
        let answer = scored.probabilities.row(row);
        push_quoted(Format::Csv, text, batch.ids.get(row));
        text.push(',');
        text.push_str(&self.time.1);
        text.push(',');
        push_quoted(Format::Csv, text, site(batch, row));
        text.push(',');
        text.push_str(&group.task);
        text.push(',');
        text.push_str(&group.model);
        text.push(',');
        if self.classes.is_empty() {
            push_number(text, answer[0], "");
        } else {
            text.push_str(&self.quoted[predicted_class(answer)]);
            for probability in answer {
                text.push(',');
                push_number(text, *probability, "");
            }
        }
        text.push(',');
        text.push_str(itoa::Buffer::new().format(scored.allocated.header.epoch.0));
        text.push('\n');
    }

    /// The predictions of a batch as a table.
    fn table(&self, scored: &Scored) -> Option<RecordBatch> {
        let batch = &scored.allocated.batch;
        let groups = self.group_texts(scored);
        let rows = batch.len();
        let texts = |of: &dyn Fn(usize) -> String| -> ArrayRef {
            let mut builder = StringBuilder::new();
            (0..rows).for_each(|row| builder.append_value(of(row)));
            Arc::new(builder.finish())
        };
        let group = |row: usize| &groups[scored.allocated.group_of[row] as usize];
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let times = TimestampMicrosecondArray::from(batch.times.clone()).with_timezone("UTC");
        let mut fields = vec![
            text("id"),
            Field::new(
                "time",
                arrow::array::Array::data_type(&times).clone(),
                false,
            ),
            text("site"),
            text("task"),
            text("model"),
        ];
        let epoch = scored.allocated.header.epoch.0;
        let mut columns: Vec<ArrayRef> = vec![
            texts(&|row| batch.ids.get(row).to_string()),
            Arc::new(times),
            texts(&|row| site(batch, row).to_string()),
            texts(&|row| group(row).task.clone()),
            texts(&|row| group(row).model.clone()),
        ];
        let values: Float32Array = scored.probabilities.iter().copied().collect();
        if self.classes.is_empty() {
            fields.push(Field::new("prediction", DataType::Float32, false));
            columns.push(Arc::new(values));
        } else {
            let predicted =
                |row: usize| self.classes[predicted_class(scored.probabilities.row(row))].clone();
            fields.push(text("prediction"));
            columns.push(texts(&predicted));
            let classes = self.classes.len() as i32;
            let item = Arc::new(Field::new("item", DataType::Float32, false));
            let list = DataType::FixedSizeList(item.clone(), classes);
            fields.push(Field::new("probabilities", list, false));
            let lists = FixedSizeListArray::try_new(item, classes, Arc::new(values), None).ok()?;
            columns.push(Arc::new(lists));
        }
        fields.push(Field::new("epoch", DataType::UInt64, false));
        columns.push(Arc::new(UInt64Array::from(vec![epoch; rows])));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()
    }
}

/// The texts of the groups of a batch.
pub(super) fn group_texts(scored: &Scored) -> Vec<GroupText> {
    let groups = scored.allocated.groups.iter().zip(&scored.pools);
    let texts = groups.map(|(group, pool)| {
        let model = pool.main();
        // The model is of a node of the group's own path.
        let owner = group.path.nodes.iter().find(|node| node.task == model.task);
        let owner = owner.map_or("", |node| &node.name);
        GroupText {
            task: group.path.leaf().name.to_string(),
            model: format!("{owner} @{}", model.version),
        }
    });
    texts.collect()
}

pub(super) fn site(batch: &Batch, row: usize) -> &str {
    batch.attribute(SITE, row)
}

/// Appends a number, or what stands for one that is not finite.
fn push_number(text: &mut String, number: f32, otherwise: &str) {
    if number.is_finite() {
        text.push_str(zmij::Buffer::new().format_finite(number));
    } else {
        text.push_str(otherwise);
    }
}

fn quote(format: Format, text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(format, &mut quoted, text);
    quoted
}

/// Appends a text as the format quotes it.
fn push_quoted(format: Format, to: &mut String, text: &str) {
    match format {
        Format::Parquet => to.push_str(text),
        Format::Csv => {
            if text.contains([',', '"', '\n', '\r']) {
                to.push('"');
                to.push_str(&text.replace('"', "\"\""));
                to.push('"');
            } else {
                to.push_str(text);
            }
        }
        Format::Jsonl => {
            to.push('"');
            if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
                to.push_str(text);
            } else {
                // The rare text that needs escapes goes through serde_json, quotes cut off.
                let escaped = serde_json::Value::from(text).to_string();
                to.push_str(&escaped[1..escaped.len() - 1]);
            }
            to.push('"');
        }
    }
}
