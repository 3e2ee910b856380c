//! Totals of statistics, which RocksDB adds up: a commit writes what it adds, and need not know what is there.

use differential_dataflow::difference::Semigroup;
use perennial_operators::TaskDifference;
use rocksdb::{MergeOperands, Options};

/// Sets how what was written of a key of the statistics becomes its value. Whoever opens a store must set it.
pub fn set_sums(options: &mut Options) {
    options.set_merge_operator_associative("sum of statistics", sum);
}

/// The sum of what is there and what was added; none, which RocksDB takes for damage, if it cannot be read.
fn sum(_key: &[u8], existing: Option<&[u8]>, added: &MergeOperands) -> Option<Vec<u8>> {
    let mut sum = match existing {
        Some(bytes) => postcard::from_bytes(bytes).ok()?,
        None => TaskDifference::default(),
    };
    for bytes in added {
        let difference: TaskDifference = postcard::from_bytes(bytes).ok()?;
        sum.plus_equals(&difference);
    }
    postcard::to_stdvec(&sum).ok()
}
