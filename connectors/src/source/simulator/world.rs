//! The constant part of a simulation: sites, contexts, and how their labels come about.

use std::sync::Arc;

use perennial_operators::Dictionary;

use super::config::{DriftKind, SimulatedLabel, SimulatorConfig};
use super::random::Random;

/// Number of sensors that decide the label; few, as in real data, so that trees find them.
const INFORMATIVE: usize = 6;

/// Spread of the weights of contexts, relative to the weights that all share.
const CONTEXT_SPREAD: f32 = 0.8;

/// Spread of the weights of sites within a context, relative to the same.
const SITE_SPREAD: f32 = 0.6;

/// Spread of the sensors' means between contexts, in standard deviations of a sensor.
const SHIFT: f32 = 0.7;

/// Steps of slow drift between two sudden changes.
const STEPS: u64 = 64;

/// Values of the attribute `season`; further contexts differ by zone.
const SEASONS: [&str; 4] = ["winter", "spring", "summer", "autumn"];

/// Seeds of the random streams, distinct from each other and from the samples'.
const SITES: u64 = 0x5173;
const CONTEXTS: u64 = 0xc0_47e7;
const COMMON: u64 = 0xc0_3303;

/// Sites and contexts. A weight table has for each class, or for the number, a bias and then a
/// weight for each informative sensor.
#[derive(Debug)]
pub(super) struct World {
    pub(super) dictionaries: Arc<Vec<Dictionary>>,
    contexts: Vec<Context>,
    /// The context of each site.
    context_of: Vec<u32>,
    /// The weight tables of all sites, one behind the other.
    sites: Vec<f32>,
    informative: usize,
    early: u32,
}

/// Sites whose labels depend on their sensors in similar ways.
#[derive(Debug)]
struct Context {
    /// Drift rotates the weights from the first table towards the second, and beyond.
    tables: [Vec<f32>; 2],
    /// Means of the sensors.
    means: Vec<f32>,
    /// Speed of its drift, relative to other contexts.
    speed: f64,
}

/// The contexts' weight tables at one step of the drift.
#[derive(Default)]
pub(super) struct Weights {
    step: Option<u64>,
    tables: Vec<f32>,
}

/// Rotation of the weights, in changes, after `periods` periods and the fraction `part` of the
/// next.
fn turned(kind: DriftKind, periods: u64, part: f64) -> f64 {
    match kind {
        DriftKind::Mixed => periods as f64 + 0.5 * (periods as f64 + part),
        DriftKind::Sudden => periods as f64,
        DriftKind::Gradual => periods as f64 + (2.0 * part - 1.0).max(0.0),
        DriftKind::Recurring => (periods % 2) as f64,
    }
}

impl World {
    pub(super) fn new(config: &SimulatorConfig) -> World {
        let informative = config.features.min(INFORMATIVE);
        let table = config.scores() * (informative + 1);
        let late = ((f64::from(config.sites) * config.late_sites) as u32).min(config.sites - 1);
        let early = config.sites - late;
        let contexts = (0..config.contexts)
            .map(|c| Context::new(config, table, c))
            .collect();
        let mut sites = Vec::with_capacity(table * config.sites as usize);
        for site in 0..config.sites {
            let mut random = Random::of(config.seed ^ SITES, site.into());
            sites.extend((0..table).map(|_| random.normal().0 * SITE_SPREAD));
        }
        World {
            dictionaries: Arc::new(dictionaries(config)),
            contexts,
            context_of: (0..config.sites)
                .map(|site| context_of(config, early, site))
                .collect(),
            sites,
            informative,
            early,
        }
    }

    /// The site of a sample: a random one of the sites that have joined.
    pub(super) fn site(&self, config: &SimulatorConfig, sequence: u64, random: &mut Random) -> u32 {
        let late = u64::from(config.sites - self.early);
        let start = config.joining();
        let joined = match sequence.checked_sub(start) {
            None => 0,
            Some(_) if start == 0 => late,
            Some(since) => (since.saturating_mul(late) / start)
                .saturating_add(1)
                .min(late),
        };
        random.below(self.early + joined as u32)
    }

    /// The attribute codes of a site: itself, season and zone.
    pub(super) fn codes(&self, site: u32) -> [u32; 3] {
        let context = self.context_of[site as usize];
        let seasons = SEASONS.len() as u32;
        [site, context % seasons, context / seasons]
    }

    /// Rotates the contexts' weights to their drift at a sample.
    pub(super) fn turn(&self, config: &SimulatorConfig, sequence: u64, weights: &mut Weights) {
        let pace = (config.drift.every / STEPS).max(1);
        let step = sequence / pace;
        if weights.step == Some(step) {
            return;
        }
        weights.step = Some(step);
        weights.tables.clear();
        // A function of the step's first sample alone, so that every range of samples has the same.
        let turns = step * pace / config.drift.every;
        let slow = (step * pace % config.drift.every) as f64 / config.drift.every as f64;
        for context in &self.contexts {
            let angle =
                config.drift.strength * context.speed * turned(config.drift.kind, turns, slow);
            let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
            let [from, to] = &context.tables;
            weights
                .tables
                .extend(from.iter().zip(to).map(|(a, b)| a * cos + b * sin));
        }
    }

    /// Appends the sensors of a sample and returns its label: the class with the highest score, or
    /// the score of a number.
    pub(super) fn sample(
        &self,
        config: &SimulatorConfig,
        site: u32,
        weights: &Weights,
        random: &mut Random,
        features: &mut Vec<f32>,
    ) -> f32 {
        let table = config.scores() * (self.informative + 1);
        let context = self.context_of[site as usize] as usize;
        let of_context = &weights.tables[context * table..][..table];
        let of_site = &self.sites[site as usize * table..][..table];
        let missing = (config.missing * 65_536.0) as u32;
        let mut values = [0.0; INFORMATIVE];
        for (sensor, mean) in self.contexts[context].means.iter().enumerate() {
            let (normal, bits) = random.normal();
            if let Some(value) = values.get_mut(sensor) {
                *value = normal;
            }
            features.push(if bits < missing {
                f32::NAN
            } else {
                mean + normal
            });
        }
        let width = self.informative + 1;
        let mut best = (f32::NEG_INFINITY, 0);
        for (class, (a, b)) in of_context
            .chunks_exact(width)
            .zip(of_site.chunks_exact(width))
            .enumerate()
        {
            let mut score = a[0] + b[0] + config.noise * random.normal().0;
            for (value, (a, b)) in values.iter().zip(a[1..].iter().zip(&b[1..])) {
                score += value * (a + b);
            }
            if score > best.0 {
                best = (score, class);
            }
        }
        match config.label {
            SimulatedLabel::Classes => best.1 as f32,
            SimulatedLabel::Number => best.0,
        }
    }
}

impl Context {
    fn new(config: &SimulatorConfig, table: usize, context: u32) -> Context {
        let mut random = Random::of(config.seed ^ CONTEXTS, context.into());
        let mut normals = |count: usize, spread: f32| -> Vec<f32> {
            (0..count).map(|_| random.normal().0 * spread).collect()
        };
        let mut tables = [
            normals(table, CONTEXT_SPREAD),
            normals(table, CONTEXT_SPREAD),
        ];
        let means = normals(config.features, SHIFT);
        let mut common = Random::of(config.seed ^ COMMON, 0);
        for weight in tables.iter_mut().flatten() {
            *weight += common.normal().0;
        }
        let speed = 1.0 + f64::from(random.normal().0) / 6.0;
        Context {
            tables,
            means,
            speed,
        }
    }
}

/// The context of a site. Only late sites have the last contexts; they have all others too.
fn context_of(config: &SimulatorConfig, early: u32, site: u32) -> u32 {
    if site >= early {
        return config.contexts - 1 - (site - early) % config.contexts;
    }
    let reserved = (f64::from(config.contexts) * config.late_sites) as u32;
    site % (config.contexts - reserved.min(config.contexts - 1))
}

/// All values of the three attributes.
fn dictionaries(config: &SimulatorConfig) -> Vec<Dictionary> {
    let columns = [(); 3].map(|()| Dictionary::default());
    for site in 0..config.sites {
        columns[0].push(&format!("site-{site:04}"));
    }
    for season in SEASONS {
        columns[1].push(season);
    }
    for zone in 0..config.contexts.div_ceil(SEASONS.len() as u32) {
        columns[2].push(&format!("zone-{zone}"));
    }
    columns.into()
}
