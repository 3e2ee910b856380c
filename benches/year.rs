//! A year of a fleet in an hour: a cloud and three edges with all that happens to them, and a
//! recount. Memory, open descriptors and start-up time must not grow.
//!
//! `make year`. `PERENNIAL_YEAR_SECONDS` sets how long, `PERENNIAL_YEAR_SEED` what happens when.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use support::{given, year};

fn main() -> Result<(), String> {
    let seed = given("PERENNIAL_YEAR_SEED", 1);
    let outcome = year::live(seed, given("PERENNIAL_YEAR_SECONDS", 3600));
    println!("{}", outcome.counts);
    println!("Medians of the tenths of the year:\n{}", outcome.tenths);
    if outcome.grown.is_empty() {
        return Ok(());
    }
    Err(outcome.grown.join("\n"))
}
