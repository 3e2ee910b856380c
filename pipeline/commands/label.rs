//! `perennial label`: the labels that are asked for, and answers to them.

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
use crate::terminal::{print, right, table};

/// Answers that are read from a file at a time.
const CHUNK: usize = 4096;

/// What to do with the requests.
pub struct LabelOptions<'a> {
    /// Print them, and nothing else.
    pub list: bool,
    /// A file of answers.
    pub answers: Option<&'a Path>,
    /// Print JSON instead of a table.
    pub json: bool,
}

/// Lists requests, or answers them: from a file, or as somebody types.
pub fn label(settings: &Settings, state: &Path, options: &LabelOptions<'_>) -> Result<(), Error> {
    let requests = open_requests(state)?;
    let renderer = RequestRenderer::new(&settings.schema);
    if options.list || options.json {
        return list(&requests, &renderer, options.json);
    }
    let Some(label) = &settings.schema.label else {
        return Err(Error::NotFound("the samples have no label".to_string()));
    };
    let mut sender = open_sender(settings, label)?;
    let sent = match options.answers {
        Some(file) => from_file(settings, label, file, &requests, &mut sender)?,
        None => by_hand(label, &requests, &renderer, &mut sender)?,
    };
    sender.finish()?;
    print(&format!("{sent} labels sent\n"));
    Ok(())
}

/// The requests whose samples still wait for their labels.
fn open_requests(state: &Path) -> Result<Vec<LabelRequest>, Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let waiting = waiting_samples(&view.pending()?, &view.released()?)?;
    let mut requests = view.requests()?;
    // Where samples carry their labels, they are not told apart by their ids.
    if !waiting.is_empty() {
        let mut sequences: Vec<u64> = waiting.iter().map(|sample| sample.sequence).collect();
        sequences.sort_unstable();
        requests.retain(|sequence, _| sequences.binary_search(sequence).is_ok());
    }
    let mut requests: Vec<LabelRequest> = requests.into_values().collect();
    requests.sort_by(|one, other| other.uncertainty.total_cmp(&one.uncertainty));
    Ok(requests)
}

fn list(requests: &[LabelRequest], renderer: &RequestRenderer, json: bool) -> Result<(), Error> {
    if json {
        for request in requests {
            print(&format!("{}\n", renderer.object(request)));
        }
        return Ok(());
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
    print(&format!(
        "{rows}\n{} labels are asked for\n",
        requests.len()
    ));
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_string(),
        value => value.to_string(),
    }
}

fn open_sender(settings: &Settings, label: &Label) -> Result<LabelSender, Error> {
    let labels = &settings.config().labels;
    let Some(topic) = &labels.kafka else {
        let message = "missing: answers go to the topic that labels come from. Without one, perennial label --list tells \
                       which are asked for";
        return Err(settings.loaded.error("labels.kafka", message).into());
    };
    let id = labels.id.as_ref().unwrap_or(&settings.schema.id);
    Ok(LabelSender::open(settings.kafka()?, topic, id, label)?)
}

/// Sends the answers of a file to requests that are open; what else is in it is told.
fn from_file(
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
    let (mut sent, mut position, mut unasked) = (0, 0, 0);
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
                    sender.send(request.key.as_deref(), id, &text(label, *value))?;
                    sent += 1;
                }
                None => unasked += 1,
            }
        }
        if read.position == position {
            break;
        }
        position = read.position;
    }
    if unasked > 0 {
        eprintln!("{unasked} labels left out: nobody asks for them, or they have come");
    }
    Ok(sent)
}

/// A label as text.
fn text(label: &Label, value: f32) -> String {
    match label.classes.get(value as usize) {
        Some(class) => class.clone(),
        None => value.to_string(),
    }
}

/// Asks for one label after the other.
fn by_hand(
    label: &Label,
    requests: &[LabelRequest],
    renderer: &RequestRenderer,
    sender: &mut LabelSender,
) -> Result<u64, Error> {
    let classes = label.classes.iter().enumerate();
    let choices: Vec<String> = classes
        .map(|(at, class)| format!("{} {class}", at + 1))
        .collect();
    let choices = match choices.is_empty() {
        true => "a number".to_string(),
        false => choices.join(", "),
    };
    let mut lines = std::io::stdin().lock().lines();
    let mut sent = 0;
    for (at, request) in requests.iter().enumerate() {
        describe(request, renderer, (at + 1, requests.len()));
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
            match answer(label, line.trim()) {
                Answer::Label(text) => break Some(text),
                Answer::Pass => break None,
                Answer::End => return Ok(sent),
                Answer::Unknown => print(&format!("\"{}\" is none of these\n", line.trim())),
            }
        };
        if let Some(answer) = answer {
            sender.send(request.key.as_deref(), &request.id, &answer)?;
            sent += 1;
        }
    }
    Ok(sent)
}

/// What somebody typed.
enum Answer {
    Label(String),
    Pass,
    End,
    Unknown,
}

fn answer(label: &Label, typed: &str) -> Answer {
    match typed {
        "" => return Answer::Pass,
        "q" => return Answer::End,
        _ => {}
    }
    let number = typed
        .parse::<f32>()
        .ok()
        .filter(|number| number.is_finite());
    if label.classes.is_empty() {
        return number.map_or(Answer::Unknown, |number| Answer::Label(number.to_string()));
    }
    let place = typed
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1));
    let by_number = place.and_then(|place| label.classes.get(place));
    let by_name = label.classes.iter().find(|class| *class == typed);
    match by_name.or(by_number) {
        Some(class) => Answer::Label(class.clone()),
        None => Answer::Unknown,
    }
}

/// Prints what is known of a sample.
fn describe(request: &LabelRequest, renderer: &RequestRenderer, (at, of): (usize, usize)) {
    let object = renderer.object(request);
    let kind = if request.unseen { ", unseen" } else { "" };
    let mut text = format!("\n{at} of {of}: {} of {}{kind}\n", request.id, request.task);
    if let Value::Object(features) = &object["features"] {
        let known = features.iter().filter(|(_, value)| !value.is_null());
        let known = known.map(|(name, value)| format!("{name} {}", plain(value)));
        text.push_str(&format!("  {}\n", known.collect::<Vec<_>>().join(", ")));
    }
    let prediction = plain(&object["prediction"]);
    text.push_str(&format!(
        "  predicted: {prediction}, unsure {:.2}\n",
        request.uncertainty
    ));
    print(&text);
}
