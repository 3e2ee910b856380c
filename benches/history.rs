//! Seconds that a training takes with once, ten times and a hundred times the history, the new samples being equal: those of
//! the base task, and its share of a run.
fn main() {}
