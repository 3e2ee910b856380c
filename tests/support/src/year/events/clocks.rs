//! Clocks of gateways: they begin in 1970, are years ahead for a second, leap, change their zone.

use super::super::Year;
use super::super::feed::{json, message};
use crate::kafka::Message;
use crate::stream::Sample;

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

/// Times of a gateway around the beginning and the end of summer time, and without a zone.
const ZONES: [&str; 5] = [
    "2026-03-29T01:59:59+01:00",
    "2026-03-29T03:00:01+02:00",
    "2026-10-25T02:30:00+02:00",
    "2026-10-25T02:30:00+01:00",
    "2026-06-01 12:00:00",
];

/// Sends samples whose times are wrong, but can be.
pub fn of_gateways(year: &mut Year) {
    let edge = year.draw_edge();
    year.say(&format!("clocks of the gateways of {edge} are wrong"));
    let mut books = year.feed.of(edge);
    let mut samples = books.fresh(6 + ZONES.len());
    let mut messages: Vec<Message> = Vec::new();
    for (number, sample) in samples.iter_mut().enumerate() {
        let now = sample.time;
        sample.time = match number {
            0 | 1 => 3 + number as i64,
            2 => now + TEN_YEARS,
            3 => now - HOUR,
            4 => now + 20 * HOUR,
            _ => now,
        };
        let mut value = json(sample);
        if let Some(zone) = number.checked_sub(6).map(|zone| ZONES[zone]) {
            value = with_time(sample, zone);
        }
        let mut message = message(sample, value);
        // The gateway's clock is that of the message too.
        if number == 1 || number == 2 {
            message.1 = sample.time * 1000;
        }
        messages.push(message);
    }
    books.send_as(&samples, messages);
    // One that is years ahead of its own message is refused.
    let mark = books.mark();
    let mut ahead = books.fresh(1).remove(0);
    ahead.time += TEN_YEARS;
    let mut value = crate::json(&json(&ahead));
    value["x"] = mark.clone().into();
    books.send_bad("samples", mark, Some(value.to_string().into_bytes()));
}

/// The sample as JSON, with its time as a text.
fn with_time(sample: &Sample, time: &str) -> Vec<u8> {
    let mut value = crate::json(&json(sample));
    value["time"] = time.into();
    value.to_string().into_bytes()
}
