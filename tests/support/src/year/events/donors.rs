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
    for _ in 0..10 {
        let name = format!("stranger-{}", year.hostile.strangers.len());
        let base = year.hostile.base(&year.fleet);
        forge::send(&year.fleet, base, &name, "evil", Change::default());
        year.hostile.strangers.insert(name);
    }
    year.members.go_on(&["cloud"]);
}
