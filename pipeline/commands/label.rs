//! `perennial label`: lists the label requests of a pipeline, or answers them.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::schema::Label;
use perennial_connectors::sink::RequestRenderer;
use perennial_connectors::sink::kafka::LabelSender;
use perennial_connectors::source::file::{FileConfig, LabelColumns, LabelSource};
use perennial_operators::algorithms::unseen::LabelRequest;
use perennial_operators::flow::waiting_samples;
use serde_json::Value;

use crate::config::Settings;
use crate::error::Error;
use crate::terminal::{NONE, print, print_line, right, table};

/// Number of answers read from a file at a time.
const CHUNK: usize = 4096;

/// Options of `perennial label`.
pub(crate) struct LabelOptions<'a> {
    /// List the requests and do nothing else.
    pub list: bool,
    /// A file of answers.
    pub answers: Option<&'a Path>,
    /// List the requests as JSON.
    pub json: bool,
}

/// Lists the requests, or answers them from a file or by hand.
pub(crate) fn label(
    settings: &Settings,
    state: &Path,
    options: &LabelOptions<'_>,
) -> Result<(), Error> {
    let requests = open_requests(state)?;
    let renderer = RequestRenderer::new(&settings.schema);
    if options.list || options.json {
        list(&requests, &renderer, options.json);
        return Ok(());
    }
    let Some(label) = &settings.schema.label else {
        return Err(Error::NotFound("the samples have no label".to_string()));
    };
    let mut sender = open_sender(settings, label)?;
    let sent = match options.answers {
        Some(file) => answer_from_file(settings, label, file, &requests, &mut sender)?,
        None => answer_by_hand(label, &requests, &renderer, &mut sender)?,
    };
    sender.finish()?;
    print_line(format!("{sent} labels sent"));
    Ok(())
}

/// Requests whose samples still wait for their labels, the most uncertain predictions first.
fn open_requests(state: &Path) -> Result<Vec<LabelRequest>, Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let waiting = waiting_samples(&view.pending()?, &view.released()?)?;
    let mut requests = view.requests()?;
    // No sample waits where samples contain their labels; then all requests are open.
    if !waiting.is_empty() {
        let mut sequences: Vec<u64> = waiting.iter().map(|sample| sample.sequence).collect();
        sequences.sort_unstable();
        requests.retain(|sequence, _| sequences.binary_search(sequence).is_ok());
    }
    let mut requests: Vec<LabelRequest> = requests.into_values().collect();
    requests.sort_by(|one, other| other.uncertainty.total_cmp(&one.uncertainty));
    Ok(requests)
}

fn list(requests: &[LabelRequest], renderer: &RequestRenderer, as_json: bool) {
    if as_json {
        for request in requests {
            print_line(renderer.object(request));
        }
        return;
    }
    let mut rows = table(&["id", "task", "unseen", "prediction", "unsure"]);
    for request in requests {
        rows.add_row(vec![
            Cell::new(&request.id),
            Cell::new(&request.task),
            Cell::new(if request.unseen { "yes" } else { "" }),
            Cell::new(plain(&renderer.prediction(request))),
            right(format!("{:.2}", request.uncertainty)),
        ]);
    }
    print_line(rows);
    print_line(format!("{} labels are asked for", requests.len()));
}

/// A JSON value without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => NONE.to_string(),
        value => value.to_string(),
    }
}

fn open_sender(settings: &Settings, label: &Label) -> Result<LabelSender, Error> {
    let labels = &settings.config().labels;
    let Some(topic) = &labels.kafka else {
        let message = "missing: answers go to the topic that labels come from. Without one, \
                       perennial label --list tells which are asked for";
        return Err(settings.loaded.error("labels.kafka", message).into());
    };
    let id = labels.id.as_ref().unwrap_or(&settings.schema.id);
    Ok(LabelSender::open(settings.kafka()?, topic, id, label)?)
}

/// Sends the answers of a file to open requests, and reports the number of other answers. Returns
/// the number of labels sent.
fn answer_from_file(
    settings: &Settings,
    label: &Label,
    file: &Path,
    requests: &[LabelRequest],
    sender: &mut LabelSender,
) -> Result<u64, Error> {
    let columns = LabelColumns {
        id: settings.schema.id.clone(),
        label: label.clone(),
    };
    let mut source = LabelSource::open(&FileConfig::new(file.to_path_buf()), &columns)?;
    let (mut sent, mut position, mut not_requested) = (0, 0, 0);
    loop {
        let read = source.read(CHUNK)?;
        if let Some(bad) = read.dead_letters.first() {
            let message = format!("{}, record {}: {}", bad.source, bad.record, bad.reason);
            return Err(Error::NotFound(message));
        }
        for (row, value) in read.batch.labels.iter().enumerate() {
            let id = read.batch.ids.get(row);
            match requests.iter().find(|request| request.id == id) {
                Some(request) => {
                    sender.send(request.key.as_deref(), id, &label_text(label, *value))?;
                    sent += 1;
                }
                None => not_requested += 1,
            }
        }
        if read.position == position {
            break;
        }
        position = read.position;
    }
    if not_requested > 0 {
        eprintln!("{not_requested} labels left out: nobody asks for them, or they have come");
    }
    Ok(sent)
}

/// The class of a label, or the number.
fn label_text(label: &Label, value: f32) -> String {
    match label.classes.get(value as usize) {
        Some(class) => class.clone(),
        None => value.to_string(),
    }
}

/// Prompts for one label after the other. Returns the number of labels sent.
fn answer_by_hand(
    label: &Label,
    requests: &[LabelRequest],
    renderer: &RequestRenderer,
    sender: &mut LabelSender,
) -> Result<u64, Error> {
    let choices = choices(label);
    let mut lines = std::io::stdin().lock().lines();
    let mut sent = 0;
    for (index, request) in requests.iter().enumerate() {
        describe(request, renderer, (index + 1, requests.len()));
        let answer = loop {
            print(&format!(
                "{} ({choices}; Enter passes over, q ends): ",
                label.column
            ));
            let _ = std::io::stdout().flush();
            let Some(line) = lines.next().and_then(Result::ok) else {
                return Ok(sent);
            };
            if !std::io::stdin().is_terminal() {
                print("\n");
            }
            match parse_answer(label, line.trim()) {
                Answer::Label(text) => break Some(text),
                Answer::Pass => break None,
                Answer::End => return Ok(sent),
                Answer::Unknown => print_line(format!("\"{}\" is none of these", line.trim())),
            }
        };
        if let Some(answer) = answer {
            sender.send(request.key.as_deref(), &request.id, &answer)?;
            sent += 1;
        }
    }
    Ok(sent)
}

/// The classes, numbered from 1.
fn choices(label: &Label) -> String {
    if label.classes.is_empty() {
        return "a number".to_string();
    }
    let classes = label.classes.iter().zip(1..);
    let choices: Vec<String> = classes
        .map(|(class, number)| format!("{number} {class}"))
        .collect();
    choices.join(", ")
}

/// Meaning of what somebody typed.
enum Answer {
    Label(String),
    Pass,
    End,
    Unknown,
}

/// Parses a class by its name or its number from 1, or a number where the label is one.
fn parse_answer(label: &Label, typed: &str) -> Answer {
    match typed {
        "" => return Answer::Pass,
        "q" => return Answer::End,
        _ => {}
    }
    if label.classes.is_empty() {
        return match typed.parse::<f32>() {
            Ok(number) if number.is_finite() => Answer::Label(number.to_string()),
            _ => Answer::Unknown,
        };
    }
    let by_name = label.classes.iter().find(|class| *class == typed);
    let by_number = || {
        let number: usize = typed.parse().ok()?;
        label.classes.get(number.checked_sub(1)?)
    };
    match by_name.or_else(by_number) {
        Some(class) => Answer::Label(class.clone()),
        None => Answer::Unknown,
    }
}

/// Prints the features and the prediction of a request's sample, with its place in the list.
fn describe(request: &LabelRequest, renderer: &RequestRenderer, (number, all): (usize, usize)) {
    let object = renderer.object(request);
    let kind = if request.unseen { ", unseen" } else { "" };
    print_line(format!(
        "\n{number} of {all}: {} of {}{kind}",
        request.id, request.task
    ));
    if let Value::Object(features) = &object["features"] {
        let known: Vec<String> = features
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name} {}", plain(value)))
            .collect();
        print_line(format!("  {}", known.join(", ")));
    }
    let prediction = plain(&object["prediction"]);
    print_line(format!(
        "  predicted: {prediction}, unsure {:.2}",
        request.uncertainty
    ));
}
