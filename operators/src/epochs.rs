//! Records held back until their epoch is complete.

use std::collections::BTreeMap;

use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

use crate::data::Epoch;

/// Whether no record of `epoch` can arrive any more.
pub(crate) fn passed(frontier: &MutableAntichain<Epoch>, epoch: Epoch) -> bool {
    !frontier.less_equal(&epoch)
}

/// Records by epoch, each epoch with the capability to answer in it.
///
/// An operator that must see an epoch whole, or epochs in order, stashes what arrives and works on
/// what [`Stash::next`] gives back.
pub(crate) struct Stash<D> {
    epochs: BTreeMap<Epoch, (Capability<Epoch>, Vec<D>)>,
}

impl<D> Stash<D> {
    pub(crate) fn new() -> Self {
        Stash {
            epochs: BTreeMap::new(),
        }
    }

    /// Holds records that arrived with `capability`, to be answered on output `port`.
    pub(crate) fn hold(
        &mut self,
        capability: &InputCapability<Epoch>,
        port: usize,
        records: impl IntoIterator<Item = D>,
    ) {
        // The stamps of this dataflow are single epochs, so there always is a least one.
        if let Some(epoch) = capability.least() {
            self.hold_at(*epoch, || capability.delayed(epoch, port), records);
        }
    }

    /// Holds records that arrived with `capability`, to be answered one epoch later.
    pub(crate) fn hold_next(
        &mut self,
        capability: &InputCapability<Epoch>,
        port: usize,
        records: impl IntoIterator<Item = D>,
    ) {
        if let Some(epoch) = capability.least() {
            let later = || capability.delayed(&epoch.next(), port);
            self.hold_at(*epoch, later, records);
        }
    }

    /// Sees to it that an epoch comes even if nothing arrives in it.
    pub(crate) fn open(&mut self, capability: Capability<Epoch>) {
        self.hold_at(*capability.time(), || capability, []);
    }

    fn hold_at(
        &mut self,
        epoch: Epoch,
        capability: impl FnOnce() -> Capability<Epoch>,
        records: impl IntoIterator<Item = D>,
    ) {
        self.epochs
            .entry(epoch)
            .or_insert_with(|| (capability(), Vec::new()))
            .1
            .extend(records);
    }

    /// Takes the earliest epoch if it is complete. One at a time, so that an operator that fails at
    /// one epoch still holds the capabilities of those after it.
    pub(crate) fn next(
        &mut self,
        frontier: &MutableAntichain<Epoch>,
    ) -> Option<(Epoch, Capability<Epoch>, Vec<D>)> {
        let entry = self.epochs.first_entry()?;
        passed(frontier, *entry.key()).then(|| {
            let (epoch, (capability, records)) = entry.remove_entry();
            (epoch, capability, records)
        })
    }

    /// Gives an epoch back that could not be worked on.
    pub(crate) fn put_back(
        &mut self,
        epoch: Epoch,
        capability: Capability<Epoch>,
        records: Vec<D>,
    ) {
        self.epochs.insert(epoch, (capability, records));
    }
}

/// What is told over a feedback edge, by the epoch from which on it holds. Without capabilities: nothing is answered to it.
pub(crate) struct Told<D> {
    epochs: BTreeMap<Epoch, Vec<D>>,
}

impl<D> Told<D> {
    pub(crate) fn new() -> Self {
        Told {
            epochs: BTreeMap::new(),
        }
    }

    /// Keeps what arrived until its epoch.
    pub(crate) fn hear(&mut self, capability: &InputCapability<Epoch>, arrived: &mut Vec<D>) {
        if let Some(epoch) = capability.least() {
            self.epochs.entry(*epoch).or_default().append(arrived);
        }
    }

    /// Takes what holds up to `epoch`, epoch by epoch.
    pub(crate) fn take_until(&mut self, epoch: Epoch) -> impl Iterator<Item = Vec<D>> + use<D> {
        let later = self.epochs.split_off(&epoch.next());
        std::mem::replace(&mut self.epochs, later).into_values()
    }
}
