//! Predictions as bytes: JSON Lines, CSV, or a table on its way to a Parquet file.

use std::fmt::Write as _;

use perennial_operators::flow::{Predicted, predicted_class};

use super::layout::{GroupText, Verdict, group_texts, is_deferred, site};
use super::table::table;
use super::{Format, Layout};

/// Renders predictions. The texts of a task are prepared once a batch, not once a sample.
pub struct Renderer {
    format: Format,
    layout: Layout,
    /// Class names as the format quotes them.
    quoted: Vec<String>,
    /// The last event time and its text: samples of one moment come together.
    time: (i64, String),
    /// The line being written.
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

    /// What a file of the format begins with.
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
    pub fn render(&mut self, scored: &Predicted, bytes: &mut Vec<u8>) {
        match self.format {
            Format::Jsonl => self.lines(scored, bytes, Self::json),
            Format::Csv => self.lines(scored, bytes, Self::csv),
            Format::Parquet => super::parquet::pack(&table(&self.layout, scored), bytes),
        }
    }

    /// The groups' texts as the format quotes them.
    fn group_texts(&self, scored: &Predicted) -> Vec<GroupText> {
        let mut groups = group_texts(scored);
        for group in &mut groups {
            group.task = quote(self.format, &group.task);
            group.model = quote(self.format, &group.model);
        }
        groups
    }

    /// Hands each prediction of a batch to `each` as a JSON object: row and bytes, in input order.
    pub(super) fn each_object(&mut self, scored: &Predicted, mut each: impl FnMut(usize, &[u8])) {
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
        scored: &Predicted,
        bytes: &mut Vec<u8>,
        line: fn(&Self, &mut String, &Predicted, usize, &GroupText),
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

    fn json(&self, text: &mut String, scored: &Predicted, row: usize, group: &GroupText) {
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
        if is_deferred(scored, row) {
            text.push_str("null");
            if !self.layout.classes.is_empty() {
                text.push_str(",\"probabilities\":null");
            }
        } else if self.layout.classes.is_empty() {
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
        if self.layout.recognizes {
            push_verdict(text, &Verdict::of(scored, row));
        }
        text.push_str(",\"epoch\":");
        text.push_str(itoa::Buffer::new().format(scored.allocated.header.epoch.0));
        text.push_str("}\n");
    }

    fn csv(&self, text: &mut String, scored: &Predicted, row: usize, group: &GroupText) {
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
        let deferred = is_deferred(scored, row);
        if self.layout.classes.is_empty() {
            push_number(text, if deferred { f32::NAN } else { answer[0] }, "");
        } else {
            if !deferred {
                text.push_str(&self.quoted[predicted_class(answer)]);
            }
            for probability in answer {
                text.push(',');
                push_number(text, if deferred { f32::NAN } else { *probability }, "");
            }
        }
        if self.layout.recognizes {
            let verdict = Verdict::of(scored, row);
            text.push_str(if verdict.unseen { ",true," } else { ",false," });
            push_number(text, verdict.p.unwrap_or(f32::NAN), "");
            for names in [verdict.why, verdict.nearest] {
                text.push(',');
                push_quoted(Format::Csv, text, &names.join("; "));
            }
        }
        text.push(',');
        text.push_str(itoa::Buffer::new().format(scored.allocated.header.epoch.0));
        text.push('\n');
    }
}

/// Appends what is said of a sample's task.
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
