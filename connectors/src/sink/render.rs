//! Predictions as bytes: JSON Lines, CSV, or a table for a Parquet file.

use std::fmt::Write as _;

use perennial_operators::flow::{Predicted, predicted_class};

use super::layout::{GroupText, Verdict, group_texts, is_deferred, site};
use super::table::table;
use super::{Format, Layout};

/// A renderer of predictions. It prepares the texts of a task once for each batch and not for each
/// sample.
pub struct Renderer {
    format: Format,
    layout: Layout,
    /// Class names, quoted for the format.
    quoted: Vec<String>,
    /// The last event time and its text, since samples of one time come together.
    time: (i64, String),
    /// Buffer of the current line.
    line: String,
}

impl Renderer {
    /// A renderer for predictions of this layout.
    pub fn new(format: Format, layout: &Layout) -> Self {
        let classes = layout.classes.iter();
        Renderer {
            format,
            layout: layout.clone(),
            quoted: classes.map(|class| quote(format, class)).collect(),
            time: (i64::MIN, String::new()),
            line: String::new(),
        }
    }

    /// The first bytes of a file of the format.
    pub fn header(&self) -> Vec<u8> {
        if self.format != Format::Csv {
            return Vec::new();
        }
        let mut header = "id,time,site,task,model,prediction".to_string();
        for class in &self.layout.classes {
            header.push(',');
            header.push_str(&quote(Format::Csv, &format!("probability {class}")));
        }
        if self.layout.recognizes {
            header.push_str(",unseen,p,why,nearest");
        }
        header.push_str(",epoch\n");
        header.into_bytes()
    }

    /// Appends the predictions of a batch, in input order.
    pub fn render(&mut self, predicted: &Predicted, bytes: &mut Vec<u8>) {
        match self.format {
            Format::Jsonl => self.lines(predicted, bytes, Self::json),
            Format::Csv => self.lines(predicted, bytes, Self::csv),
            Format::Parquet => super::parquet::pack(&table(&self.layout, predicted), bytes),
        }
    }

    /// The texts of the groups, quoted for the format.
    fn group_texts(&self, predicted: &Predicted) -> Vec<GroupText> {
        let mut groups = group_texts(predicted);
        for group in &mut groups {
            group.task = quote(self.format, &group.task);
            group.model = quote(self.format, &group.model);
        }
        groups
    }

    /// Calls `each` with the row and the JSON object of each prediction of a batch, in input order.
    pub(super) fn each_object(
        &mut self,
        predicted: &Predicted,
        mut each: impl FnMut(usize, &[u8]),
    ) {
        let groups = self.group_texts(predicted);
        let mut text = std::mem::take(&mut self.line);
        for row in 0..predicted.allocated.batch.len() {
            self.set_time(predicted.allocated.batch.times[row]);
            let group = &groups[predicted.allocated.group_of[row] as usize];
            text.clear();
            self.json(&mut text, predicted, row, group);
            each(row, text.trim_end().as_bytes());
        }
        self.line = text;
    }

    fn lines(
        &mut self,
        predicted: &Predicted,
        bytes: &mut Vec<u8>,
        line: fn(&Self, &mut String, &Predicted, usize, &GroupText),
    ) {
        let groups = self.group_texts(predicted);
        let mut text = String::from_utf8(std::mem::take(bytes)).unwrap_or_default();
        for row in 0..predicted.allocated.batch.len() {
            self.set_time(predicted.allocated.batch.times[row]);
            let group = &groups[predicted.allocated.group_of[row] as usize];
            line(self, &mut text, predicted, row, group);
        }
        *bytes = text.into_bytes();
    }

    fn set_time(&mut self, micros: i64) {
        if self.time.0 != micros {
            self.time.0 = micros;
            self.time.1.clear();
            // Only parsed times come here, and all of them can be written.
            if let Ok(time) = jiff::Timestamp::from_microsecond(micros) {
                let _ = write!(self.time.1, "{time}");
            }
        }
    }

    fn json(&self, text: &mut String, predicted: &Predicted, row: usize, group: &GroupText) {
        let batch = &predicted.allocated.batch;
        let output = predicted.probabilities.row(row);
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
        if is_deferred(predicted, row) {
            text.push_str("null");
            if !self.layout.classes.is_empty() {
                text.push_str(",\"probabilities\":null");
            }
        } else if self.layout.classes.is_empty() {
            push_number(text, output[0], "null");
        } else {
            text.push_str(&self.quoted[predicted_class(output)]);
            text.push_str(",\"probabilities\":{");
            for (class, probability) in self.quoted.iter().zip(output) {
                if !text.ends_with('{') {
                    text.push(',');
                }
                text.push_str(class);
                text.push(':');
                push_number(text, *probability, "null");
            }
            text.push('}');
        }
        if self.layout.recognizes {
            push_verdict(text, &Verdict::of(predicted, row));
        }
        text.push_str(",\"epoch\":");
        text.push_str(itoa::Buffer::new().format(predicted.allocated.header.epoch.0));
        text.push_str("}\n");
    }

    fn csv(&self, text: &mut String, predicted: &Predicted, row: usize, group: &GroupText) {
        let batch = &predicted.allocated.batch;
        let output = predicted.probabilities.row(row);
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
        let deferred = is_deferred(predicted, row);
        if self.layout.classes.is_empty() {
            push_number(text, if deferred { f32::NAN } else { output[0] }, "");
        } else {
            if !deferred {
                text.push_str(&self.quoted[predicted_class(output)]);
            }
            for probability in output {
                text.push(',');
                push_number(text, if deferred { f32::NAN } else { *probability }, "");
            }
        }
        if self.layout.recognizes {
            let verdict = Verdict::of(predicted, row);
            text.push_str(if verdict.unseen { ",true," } else { ",false," });
            push_number(text, verdict.p.unwrap_or(f32::NAN), "");
            for names in [verdict.why, verdict.nearest] {
                text.push(',');
                push_quoted(Format::Csv, text, &names.join("; "));
            }
        }
        text.push(',');
        text.push_str(itoa::Buffer::new().format(predicted.allocated.header.epoch.0));
        text.push('\n');
    }
}

/// Appends the recognition of a sample.
fn push_verdict(text: &mut String, verdict: &Verdict<'_>) {
    text.push_str(if verdict.unseen {
        ",\"unseen\":true,\"p\":"
    } else {
        ",\"unseen\":false,\"p\":"
    });
    push_number(text, verdict.p.unwrap_or(f32::NAN), "null");
    if !verdict.unseen {
        return;
    }
    for (name, texts) in [("why", &verdict.why), ("nearest", &verdict.nearest)] {
        text.push_str(",\"");
        text.push_str(name);
        text.push_str("\":[");
        for (number, one) in texts.iter().enumerate() {
            if number > 0 {
                text.push(',');
            }
            push_quoted(Format::Jsonl, text, one);
        }
        text.push(']');
    }
}

/// Appends a number, or `otherwise` if it is not finite.
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

/// Appends a text, quoted for the format.
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
                // serde_json writes the rare text that needs escapes; its quotes are cut off.
                let escaped = serde_json::Value::from(text).to_string();
                to.push_str(&escaped[1..escaped.len() - 1]);
            }
            to.push('"');
        }
    }
}
