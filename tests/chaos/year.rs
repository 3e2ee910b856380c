//! A year of a fleet, in minutes.

use support::{given, year};

/// The seed, unless the environment gives one.
const SEED: u64 = 20_261_231;

#[test]
fn fleet_outlives_a_year() {
    let seed = given("PERENNIAL_YEAR_SEED", SEED);
    let outcome = year::live(seed, given("PERENNIAL_YEAR_SECONDS", 0));
    println!("{}", outcome.counts);
}
