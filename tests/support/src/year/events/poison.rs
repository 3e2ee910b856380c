//! Poison: values that sensors write for errors, and messages that are none.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::Year;
use super::super::config::COLLIDES;
use super::super::feed::{self, Books, message};

/// Longer than a message may be.
const HUGE: usize = 1_200_000;

/// Two sites whose tasks in the dry season have one number. They took ten minutes to find.
const ONE_NUMBER: [&str; 2] = ["iwnKfIgbELG", "XHYm-hbX0qG"];

/// Sends an edge one of each: those that are values, and those that are not.
pub fn values(year: &mut Year) {
    let edge = year.draw_edge();
    year.say(&format!("{edge} gets poison"));
    let mut books = year.feed.of(edge);
    send_odd(&mut books);
    for kind in 0..12 {
        send_bad(&mut books, kind);
    }
    send_bad_labels(&mut books);
    if edge == COLLIDES {
        send_colliding(&mut books);
    }
}

/// Sends values that cannot be told from others, and what is missing.
fn send_odd(books: &mut Books) {
    let odd = [json!(-9999), json!(1e12), json!(-1e38), json!("NaN")];
    let samples = books.fresh(odd.len());
    let messages = samples.iter().zip(odd).map(|(sample, odd)| {
        let mut value = crate::json(&feed::json(sample));
        value["a"] = odd;
        message(sample, value.to_string().into_bytes())
    });
    let messages = messages.collect();
    books.send_as(&samples, messages);
    // A large header travels with its prediction.
    let sample = books.fresh(1).remove(0);
    let value = feed::json(&sample);
    books.send_with_header(&sample.site, &vec![b'h'; 300_000], &value);
    books.send_labels(std::slice::from_ref(&sample));
    books.samples.insert(sample.id.clone(), sample);
}

/// Sends a message that is no sample, with its mark.
fn send_bad(books: &mut Books, kind: usize) {
    let mark = books.mark();
    let sample = books.fresh(1).remove(0);
    let mut value: Value = crate::json(&feed::json(&sample));
    value["x"] = mark.clone().into();
    let text = match kind {
        0 => {
            value["a"] = json!(3.402_823_5e38);
            value.to_string()
        }
        1 => value.to_string().replace("\"b\":", "\"b\": NaN, \"y\":"),
        2 => value.to_string().replace("\"c\":", "\"c\": 1e400, \"y\":"),
        3 => {
            value["z"] = "p".repeat(HUGE).into();
            value.to_string()
        }
        4 => {
            value["a"] = "warm".into();
            value.to_string()
        }
        5 => {
            value["id"] = Value::Null;
            value.to_string()
        }
        6 => {
            value["id"] = "i".repeat(2000).into();
            value.to_string()
        }
        7 => {
            value["site"] = "s".repeat(2000).into();
            value.to_string()
        }
        8 => format!("{mark} {{\"id\": \"torn"),
        9 => {
            value["time"] = "the day after".into();
            value.to_string()
        }
        10 => {
            let bytes = [mark.as_bytes(), b"\x00\xff\xfe"].concat();
            return books.send_bad("samples", mark, Some(bytes));
        }
        _ => {
            let header = vec![b'h'; HUGE];
            return books.send_with_header(&mark, &header, value.to_string().as_bytes());
        }
    };
    books.send_bad("samples", mark, Some(text.into_bytes()));
}

/// Sends samples of two sites with one number; those of the second site are refused.
fn send_colliding(books: &mut Books) {
    let mut samples = books.fresh(2);
    for (sample, site) in samples.iter_mut().zip(ONE_NUMBER) {
        (sample.season, sample.site) = ("dry", site.to_string());
    }
    books.send(&samples[..1]);
    let mark = books.mark();
    let mut value = crate::json(&feed::json(&samples[1]));
    value["x"] = mark.clone().into();
    let value = Some(value.to_string().into_bytes());
    books.send_bad_beside(&samples[1], "samples", mark, value);
}

/// Sends a sample again, its label again, and labels that are none.
fn send_bad_labels(books: &mut Books) {
    let mut sample = books.fresh(1).remove(0);
    sample.label = Some(0);
    books.send_labels(std::slice::from_ref(&sample));
    for label in ["lukewarm", "low"] {
        let mark = books.mark();
        let value = json!({"id": sample.id, "label": label, "x": mark});
        let value = Some(value.to_string().into_bytes());
        books.send_bad_beside(&sample, "labels", mark, value);
    }
    // A label that comes again is refused while the first one waits for its sample.
    std::thread::sleep(Duration::from_millis(500));
    let value = feed::json(&sample);
    books.send_as(&[], vec![message(&sample, value)]);
    books.samples.insert(sample.id.clone(), sample.clone());
    let mark = books.mark();
    let mut value = crate::json(&feed::json(&sample));
    value["x"] = mark.clone().into();
    let again = Some(value.to_string().into_bytes());
    books.send_bad_beside(&sample, "samples", mark, again);
}
