//! Outages of Kafka and of the link, brief ones and such that outlast the retention of a topic.

use std::time::Duration;

use super::super::Year;
use super::super::config::{EDGES, topic};

/// The edge whose records expire.
const EDGE: &str = "south";

/// Cuts the link for a while, in which an edge is killed.
pub fn link(year: &mut Year) {
    let edge = year.draw_edge();
    year.say(&format!("the link is cut, and {edge} is killed meanwhile"));
    year.fleet.proxy.cut();
    year.rest(1500);
    year.members.kill(edge);
    year.members.start(edge);
    year.members.go_on(&[edge]);
    year.fleet.proxy.heal();
    year.members.go_on(&["cloud"]);
}

/// Halts the broker for a while.
pub fn kafka(year: &mut Year) {
    let pause = 500 + year.chance.below(2000);
    year.say(&format!("Kafka halts for {pause} ms"));
    year.fleet.cloud.pause(Duration::from_millis(pause));
    year.members.go_on(&EDGES);
}

/// Keeps an edge away until samples and labels have expired.
pub fn retention(year: &mut Year) {
    year.say(&format!("samples of {EDGE} expire while it is away"));
    year.settle(EDGE);
    year.members.kill(EDGE);
    {
        let mut books = year.feed.of(EDGE);
        let doomed = books.fresh(20);
        books.send_doomed(&doomed);
        for what in ["samples", "labels"] {
            year.fleet.cloud.expire(&topic(EDGE, what));
        }
        books.is_quiet = false;
    }
    year.members.start(EDGE);
    year.members.go_on(&[EDGE]);
}

/// Deletes the topics of an edge and makes them anew, while it runs or is stopped.
pub fn topics_made_anew(year: &mut Year) {
    let is_stopped = year.chance.below(2) == 0;
    let meanwhile = if is_stopped { "is stopped" } else { "runs" };
    year.say(&format!(
        "the topics of {EDGE} are made anew while it {meanwhile}"
    ));
    year.settle(EDGE);
    if is_stopped {
        year.members.stop(EDGE);
    }
    {
        let mut books = year.feed.of(EDGE);
        books.delete_topics();
        books.create_topics();
        books.is_quiet = false;
    }
    if is_stopped {
        year.members.start(EDGE);
    }
    year.members.go_on(&[EDGE]);
}

/// Keeps the cloud away until changes of an edge have expired.
pub fn changes_expire(year: &mut Year) {
    year.say(&format!("changes of {EDGE} expire while the cloud is away"));
    for edge in EDGES {
        year.settle(edge);
        year.sent(edge);
    }
    year.gathered();
    year.members.stop("cloud");
    {
        let mut books = year.feed.of(EDGE);
        let samples = books.fresh(20);
        books.send(&samples);
        books.lost.extend(samples.into_iter().map(|it| it.id));
    }
    year.settle(EDGE);
    year.sent(EDGE);
    year.fleet.cloud.expire(&year.fleet.changes());
    // What a copy of its state would read again is gone.
    year.backups.forget_cloud();
    year.members.start("cloud");
    year.resume_feed();
    year.members.go_on(&["cloud"]);
}

/// Deletes the topic of what the cloud publishes while the cloud is stopped, which makes it anew.
pub fn knowledge_made_anew(year: &mut Year) {
    year.say("the topic of knowledge is made anew");
    year.members.stop("cloud");
    year.fleet.cloud.delete_topic(&year.fleet.knowledge());
    year.members.start("cloud");
    year.members.go_on(&["cloud"]);
}
