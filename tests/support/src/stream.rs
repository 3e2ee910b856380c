//! Streams of samples made from a seed, as CSV, and the config that reads them.

use std::fmt::Write;

/// The classes of the label, in order.
pub const CLASSES: [&str; 3] = ["low", "mid", "high"];

/// A small, fast, seeded random number generator (SplitMix64).
pub struct Chance(u64);

impl Chance {
    /// Makes a generator; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Puts things into random order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for place in (1..things.len()).rev() {
            things.swap(place, self.below(place as u64 + 1) as usize);
        }
    }

    /// A number between 0 and 1.
    pub fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A sample as it stands in the file.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its id.
    pub id: String,
    /// Its event time, Unix seconds.
    pub time: i64,
    /// Its site.
    pub site: String,
    /// Its season.
    pub season: &'static str,
    /// Its numeric features `a`, `b` and `c`; none where the cell is empty.
    pub numbers: [Option<f64>; 3],
    /// Its categorical feature.
    pub mode: &'static str,
    /// Its class; none where the cell is empty.
    pub label: Option<usize>,
}

impl Sample {
    /// The sample as a line of CSV, without its end.
    pub fn line(&self) -> String {
        let mut line = format!("{},{},{},{}", self.id, self.time, self.site, self.season);
        for number in self.numbers {
            let _ = match number {
                Some(number) => write!(line, ",{number:.3}"),
                None => write!(line, ","),
            };
        }
        let label = self.label.map_or("", |label| CLASSES[label]);
        let _ = write!(line, ",{},{label}", self.mode);
        line
    }

    /// The sample as a line of JSON, without its end.
    pub fn json(&self) -> String {
        let [a, b, c] = self.numbers;
        let label = self.label.map(|label| CLASSES[label]);
        serde_json::json!({
            "id": self.id, "time": self.time, "site": self.site, "season": self.season,
            "a": a, "b": b, "c": c, "mode": self.mode, "label": label,
        })
        .to_string()
    }

    /// The name of the finest task that it belongs to.
    pub fn task(&self) -> String {
        format!("season={} > site={}", self.season, self.site)
    }

    /// The features as the program counts them: 32-bit floats, none where missing.
    pub fn features(&self) -> [Option<f32>; 4] {
        let [a, b, c] = self
            .numbers
            .map(|number| number.map(|number| number as f32));
        let mode = ["fan", "ac"].iter().position(|mode| *mode == self.mode);
        [a, b, c, mode.map(|mode| mode as f32)]
    }
}

/// The header of the file.
pub const HEADER: &str = "id,time,site,season,a,b,c,mode,label";

/// Samples of six sites in two seasons. The meaning of `a` and `b` for the label depends on the
/// season and turns round in the middle of the stream. A share of the labels is missing.
pub fn samples(seed: u64, count: usize, unlabelled: f64) -> Vec<Sample> {
    let mut chance = Chance::new(seed);
    (0..count)
        .map(|number| {
            let site = chance.below(6);
            let season = if site < 3 { "dry" } else { "wet" };
            let mut cell = |scale: f64| (chance.share() * 2.0 - 1.0) * scale;
            let numbers = [cell(1.0), cell(10.0), cell(1000.0)];
            let numbers = numbers.map(|number| (number * 1000.0).round() / 1000.0);
            let turned = if number < count / 2 { 1.0 } else { -1.0 };
            let along = if season == "dry" { 1.0 } else { -1.0 };
            let score = turned * (numbers[0] + along * numbers[1] / 10.0) + chance.share() * 0.4;
            let label = if score < -0.3 {
                0
            } else {
                1 + usize::from(score > 0.5)
            };
            Sample {
                id: format!("r{number}"),
                time: 1_700_000_000 + number as i64 * 60,
                site: format!("s{site}"),
                season,
                numbers: numbers.map(|number| (chance.share() >= 0.03).then_some(number)),
                mode: ["fan", "ac", "none"][chance.below(3) as usize],
                label: (chance.share() >= unlabelled).then_some(label),
            }
        })
        .collect()
}

/// A stream without an end, whose concept turns round after every `turn` samples.
pub struct Endless {
    chance: Chance,
    turn: usize,
    is_turned: bool,
    /// Share of the samples without a label.
    unlabelled: f64,
    /// Number of samples so far.
    count: usize,
}

impl Endless {
    /// Makes a stream; the same seed gives the same samples.
    pub fn new(seed: u64, turn: usize, unlabelled: f64) -> Endless {
        Endless {
            chance: Chance::new(seed),
            turn,
            is_turned: false,
            unlabelled,
            count: 0,
        }
    }

    /// Turns the concept round at once.
    pub fn turn_round(&mut self) {
        self.is_turned = !self.is_turned;
    }

    /// Extends the stream.
    pub fn samples(&mut self, count: usize) -> Vec<Sample> {
        let mut samples = samples(self.chance.draw(), 2 * count, self.unlabelled);
        // The two halves have different concepts.
        if (self.count / self.turn % 2 == 1) != self.is_turned {
            samples.drain(..count);
        }
        samples.truncate(count);
        for (sample, number) in samples.iter_mut().zip(self.count..) {
            sample.id = format!("r{number}");
            sample.time = 1_700_000_000 + number as i64;
            // Multiples of a power of two, whose sums are exact in any order.
            let exact = |number: f64| (number * 1024.0).round() / 1024.0;
            sample.numbers = sample.numbers.map(|number| number.map(exact));
        }
        self.count += count;
        samples
    }
}

/// The CSV file of these samples.
pub fn csv(samples: &[Sample]) -> String {
    csv_of(samples.iter().map(Sample::line))
}

/// The CSV file of these lines.
pub fn csv_of(lines: impl Iterator<Item = String>) -> String {
    let mut text = format!("{HEADER}\n");
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The lines of the samples with bad lines among them, and the number of bad lines: features that
/// are no number, duplicate ids, unknown classes, missing times, lines of the wrong width.
pub fn with_bad_lines(samples: &[Sample], seed: u64) -> (Vec<String>, usize) {
    let mut chance = Chance::new(seed);
    let mut lines = Vec::new();
    let mut bad = 0;
    for (number, sample) in samples.iter().enumerate() {
        lines.push(sample.line());
        if chance.below(25) > 0 {
            continue;
        }
        bad += 1;
        lines.push(match chance.below(5) {
            0 => format!("x{number},1,s0,dry,warm,1,1,fan,low"),
            1 => format!("{},1,s0,dry,1,1,1,fan,low", sample.id),
            2 => format!("x{number},1,s0,dry,1,1,1,fan,lukewarm"),
            3 => format!("x{number},,s0,dry,1,1,1,fan,low"),
            _ => format!("x{number},1,s0,dry"),
        });
    }
    (lines, bad)
}

/// The columns and the tasks, as a part of a config.
pub const SCHEMA: &str = "schema:
  id: id
  time: time
  site: site
  attributes: [season]
  features: [a, b, c, {column: mode, values: [fan, ac]}]
  label: {column: label, classes: [low, mid, high]}
tasks:
  path: [[season], [site]]
";

/// The training of small models, as a part of a config.
pub const TRAINING: &str = "memory:
  samples_per_task: 200
training:
  min_samples: 100
  trees: {rounds: 8, max_depth: 3}
";

/// The config that reads `file`; `delay` is the content of `labels.delay`.
pub fn config(file: &str, delay: &str) -> String {
    format!(
        "name: stream
source:
  path: {file}
{SCHEMA}bootstrap:
  records: 800
labels:
  delay: {{{delay}}}
epoch:
  records: 128
{TRAINING}triggers:
  when: ['new_samples >= 600']
commit:
  epochs: 4
report:
  baselines: [frozen]
"
    )
}
