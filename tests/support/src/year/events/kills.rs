//! Kills of processes and of the broker at any moment.

use std::time::Duration;

use super::super::Year;
use super::super::config::EDGES;
use crate::kafka::SESSION;

/// Kills an edge or the cloud.
pub fn member(year: &mut Year) {
    let names = ["south", "west", "cloud", "north"];
    // One lives long, so that what grows in a process shows.
    let is_late = year.seconds > 0 && year.began.elapsed().as_secs() > year.seconds / 2;
    let among = if is_late { 3 } else { 4 };
    let name = names[year.chance.below(among) as usize];
    year.rest(1000);
    year.say(&format!("{name} is killed"));
    year.members.kill(name);
    year.rest(500);
    year.members.start(name);
    year.members.go_on(&[name]);
}

/// Kills the broker.
pub fn broker(year: &mut Year) {
    year.say("the broker is killed");
    let pause = SESSION + Duration::from_millis(500 + year.chance.below(1000));
    year.fleet.cloud.crash(pause);
    year.members.go_on(&EDGES);
    year.members.go_on(&["cloud"]);
}
