//! Memory, open descriptors and start-up time over the year, by its tenths.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::{descriptors, status_bytes};

/// How often processes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What a figure of the last tenth may be of the one before it.
const MOST: f64 = 1.10;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Memory, MiB.
    Memory,
    /// Number of open descriptors.
    Descriptors,
    /// Seconds from a start until the state is read.
    Start,
}

#[derive(Default)]
struct Book {
    running: BTreeMap<&'static str, u32>,
    /// When and what, by figure and process.
    seen: BTreeMap<(Figure, &'static str), Vec<(f64, f64)>>,
}

/// Figures of all processes.
pub struct Vitals {
    began: Instant,
    book: Mutex<Book>,
}

impl Vitals {
    /// Begins to look at processes, on a thread that ends with the process.
    pub fn start() -> Arc<Vitals> {
        let vitals = Arc::new(Vitals {
            began: Instant::now(),
            book: Mutex::default(),
        });
        let seen = Arc::downgrade(&vitals);
        std::thread::spawn(move || {
            while let Some(vitals) = seen.upgrade() {
                vitals.look();
                drop(vitals);
                std::thread::sleep(LOOK);
            }
        });
        vitals
    }

    /// Sets which process of this name is looked at.
    pub fn watch(&self, name: &'static str, process: Option<u32>) {
        let running = &mut self.book.lock().expect("the book").running;
        match process {
            Some(process) => running.insert(name, process),
            None => running.remove(name),
        };
    }

    /// Notes a figure.
    pub fn note(&self, name: &'static str, figure: Figure, value: f64) {
        let mut book = self.book.lock().expect("the book");
        let seen = book.seen.entry((figure, name)).or_default();
        seen.push((self.began.elapsed().as_secs_f64(), value));
    }

    fn look(&self) {
        let running = self.book.lock().expect("the book").running.clone();
        for (name, process) in running {
            let memory = status_bytes(process, "VmRSS");
            // It may have ended by now.
            if memory > 0 {
                self.note(name, Figure::Memory, memory as f64 / f64::from(1 << 20));
                let open = descriptors(process) as f64;
                self.note(name, Figure::Descriptors, open);
            }
        }
    }

    /// The medians of the tenths of the year that was `length` seconds long, a line for each
    /// figure of each process; and what grows: figures whose last tenth is above the one before it.
    pub fn tenths(&self, length: f64) -> (String, Vec<String>) {
        let (mut table, mut grown) = (String::new(), Vec::new());
        for ((figure, name), seen) in &self.book.lock().expect("the book").seen {
            let tenths: Vec<Option<f64>> = (0..10)
                .map(|tenth| {
                    let is_in = |second: f64| (second / length * 10.0) as usize == tenth;
                    let of = seen.iter().filter(|(second, _)| is_in(*second));
                    median(of.map(|(_, value)| *value).collect())
                })
                .collect();
            let shown: Vec<String> = tenths
                .iter()
                .map(|value| value.map_or("-".to_string(), |value| format!("{value:.2}")))
                .collect();
            let _ = write!(table, "{figure:?} of {name}: {}", shown.join(" "));
            if let (Some(before), Some(last)) = (tenths[8], tenths[9]) {
                let ratio = last / before;
                let _ = write!(table, "; the last is {ratio:.3} of the one before");
                // Figures go up and down as RocksDB compacts; what leaks is at its highest.
                let highest = tenths[..9].iter().flatten().copied().fold(0.0, f64::max);
                if ratio > MOST && last > highest {
                    grown.push(format!(
                        "{figure:?} of {name} grows: {last:.2} in the last tenth of the year, \
                         {before:.2} in the tenth before"
                    ));
                }
            }
            table.push('\n');
        }
        (table, grown)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
