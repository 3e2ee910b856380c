//! Drift: what features mean for the label turns round.

use super::super::Year;

/// Turns the concept of an edge's stream round.
pub fn turn_round(year: &mut Year) {
    let edge = year.draw_edge();
    year.say(&format!("the stream of {edge} drifts"));
    year.feed.of(edge).turn_round();
}
