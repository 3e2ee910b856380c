//! Hostile donors: models that are no distributions, and messages under names of nobody.

use std::collections::BTreeSet;

use perennial_connectors::link::{Change, Published};

use super::super::Year;
use crate::fleet::Fleet;
use crate::{forge, onnx};

/// What was sent to deceive the cloud.
#[derive(Default)]
pub struct Hostile {
    base: Option<Published>,
    /// The names of nobody.
    pub strangers: BTreeSet<String>,
}

impl Hostile {
    /// What the cloud has once published about the base task.
    pub fn base(&mut self, fleet: &Fleet) -> &Published {
        self.base.get_or_insert_with(|| forge::base_of(fleet))
    }
}

/// Donates a model that is sure of each class at once, whose loss would be the least.
pub fn deceive(year: &mut Year) {
    year.say("an edge donates a model that is no distribution");
    let base = year.hostile.base(&year.fleet);
    let (features, classes) = (4, 3);
    let sure = onnx::constant(features, &vec![1.0; classes]);
    let donation = forge::donation(base, sure);
    forge::send(&year.fleet, base, "evil", "evil", donation);
    year.members.go_on(&["cloud"]);
}

/// Sends messages under names that the cloud does not know.
pub fn flood(year: &mut Year) {
    year.say("strangers flood the link");
    let base = year.hostile.base(&year.fleet).clone();
    let strangers = &mut year.hostile.strangers;
    let first = strangers.len();
    let names: Vec<String> = (first..first + 20)
        .map(|number| format!("stranger-{number}"))
        .collect();
    let change = Change::default();
    let messages = names
        .iter()
        .map(|name| forge::message(&year.fleet, &base, name, "evil", change.clone()));
    let messages: Vec<_> = messages.collect();
    year.fleet.cloud.produce(&year.fleet.changes(), &messages);
    strangers.extend(names);
    year.members.go_on(&["cloud"]);
}
