//! Rotation of an edge's key, while the cloud runs: two keys at a time, then the new one alone.

use std::time::Duration;

use super::super::Year;
use super::super::config::{Pace, write_cloud, write_edge};
use crate::fleet::Fleet;
use crate::forge;

/// The edge whose key changes.
const EDGE: &str = "south";

/// The keys of the fleet.
pub struct Keys {
    /// The name of the edge's key.
    current: String,
    /// Number of rotations so far.
    rotations: usize,
    /// For the configs, which are written again.
    pace: Pace,
}

impl Keys {
    /// Makes the key of the edge that shares what no edge would, and writes the cloud's config.
    pub fn new(fleet: &Fleet, pace: Pace) -> Keys {
        fleet.keys("evil");
        let keys = Keys {
            current: EDGE.to_string(),
            rotations: 0,
            pace,
        };
        keys.tell(fleet, None);
        keys
    }

    /// Writes the config of the cloud with the current key and the next.
    fn tell(&self, fleet: &Fleet, next: Option<&str>) {
        let next = next.map_or(String::new(), |next| {
            format!(", keys: [{{key: {next}-public.pem}}]")
        });
        let edges = format!(
            "north: north-public.pem, west: west-public.pem, evil: evil-public.pem, \
             {EDGE}: {{key: {}-public.pem{next}}}",
            self.current
        );
        write_cloud(fleet, self.pace, &edges);
    }
}

/// Gives the edge its next key, and revokes the last one.
pub fn rotate(year: &mut Year) {
    year.say(&format!("{EDGE} gets another key"));
    year.keys.rotations += 1;
    let next = format!("{EDGE}-{}", year.keys.rotations);
    year.fleet.keys(&next);
    year.keys.tell(&year.fleet, Some(&next));
    year.members.hang_up("cloud");
    write_edge(&year.fleet, year.keys.pace, EDGE, &next);
    year.members.stop(EDGE);
    year.members.start(EDGE);
    // Until all that the last key has signed has arrived.
    year.settle(EDGE);
    year.sent(EDGE);
    year.gathered_of(EDGE);
    let last = std::mem::replace(&mut year.keys.current, next);
    year.keys.tell(&year.fleet, None);
    year.members.hang_up("cloud");
    // A copy of the cloud's state would read again what nobody can check any more.
    year.backups.forget_cloud();
    year.feed.of(EDGE).is_quiet = false;
    // The cloud looks at its config within a second.
    std::thread::sleep(Duration::from_secs(1));
    if year.keys.rotations == 1 {
        year.say("somebody uses the revoked key");
        let base = year.hostile.base(&year.fleet).clone();
        let change = forge::samples("s1", 0, 10);
        forge::send(&year.fleet, &base, EDGE, &last, change);
        year.members.wait_until("the message waits", |fleet| {
            fleet.log("cloud").contains("waits for its key")
        });
    }
    year.members.go_on(&[EDGE, "cloud"]);
}
