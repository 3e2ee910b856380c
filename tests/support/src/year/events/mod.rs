//! What happens within a year, each kind in a file of its own.

pub mod backups;
pub mod clocks;
pub mod donors;
pub mod drift;
pub mod files;
pub mod keys;
pub mod kills;
pub mod outages;
pub mod poison;

use super::Year;

/// A kind of event, and what it does.
pub type Event = (&'static str, fn(&mut Year));

/// All events, the usual ones more than once.
pub const DECK: [Event; 21] = [
    ("kill", kills::member),
    ("kill", kills::member),
    ("kill", kills::member),
    ("kill of the broker", kills::broker),
    ("outage of the link", outages::link),
    ("outage of Kafka", outages::kafka),
    ("retention", outages::retention),
    ("topics made anew", outages::topics_made_anew),
    ("retention of the link", outages::changes_expire),
    ("link's topic made anew", outages::knowledge_made_anew),
    ("clocks", clocks::of_gateways),
    ("poison", poison::values),
    ("rotation of files", files::rotate),
    ("rotation of files", files::rotate),
    ("backup", backups::of_edge),
    ("backup", backups::of_cloud),
    ("wrong backup", backups::of_another_time),
    ("rotation of keys", keys::rotate),
    ("donors", donors::deceive),
    ("strangers", donors::flood),
    ("drift", drift::turn_round),
];
