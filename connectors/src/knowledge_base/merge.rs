//! Totals of statistics as RocksDB merges: a commit writes a difference without reading the total.

use differential_dataflow::difference::Semigroup;
use perennial_operators::TaskDifference;
use rocksdb::{MergeOperands, Options};

/// Sets the merge operator of the statistics. Every program that opens a store must set it.
pub fn set_sums(options: &mut Options) {
    options.set_merge_operator_associative("sum of statistics", sum);
}

/// The sum of a total and differences; none, which RocksDB reports as damage, if one cannot be
/// decoded.
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
