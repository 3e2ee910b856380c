//! Hashes that draw samples at random, yet the same on every worker and in every run.
//!
//! A sample is identified by its sequence number: its place in the stream, from 0.

/// Increment of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether a sample is held back from training, so that every model can be judged on it fairly.
///
/// `share`, from 0 to 1, is the expected share of held-back samples. The draw is independent of
/// [`priority`], so a task's reservoir, which keeps the lowest priorities, holds that share too.
pub fn is_held_back(sequence: u64, share: f64) -> bool {
    priority(!sequence) as f64 / u64::MAX as f64 <= share
}

/// Priority of a sample in a draw: the lowest ones are kept.
///
/// It is a bijective hash of the sequence number (SplitMix64's finalizer), so no two samples share
/// a priority, and [`sequence_of`] inverts it.
///
/// ```
/// use perennial_operators::{priority, sequence_of};
///
/// assert_ne!(priority(7), priority(8));
/// assert_eq!(sequence_of(priority(7)), 7);
/// ```
pub fn priority(sequence: u64) -> u64 {
    let mut hash = sequence.wrapping_add(STEP);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Sequence number of the sample with this priority: the inverse of [`priority`].
pub fn sequence_of(priority: u64) -> u64 {
    let mut hash = priority ^ (priority >> 31) ^ (priority >> 62);
    hash = hash.wrapping_mul(0x3196_42b2_d24d_8ec3);
    hash ^= (hash >> 27) ^ (hash >> 54);
    hash = hash.wrapping_mul(0x96de_1b17_3f11_9089);
    hash ^= (hash >> 30) ^ (hash >> 60);
    hash.wrapping_sub(STEP)
}

/// Hash of a sample's id, compared in place of the id. It is the same in every run.
///
/// Among a million ids, two share a hash with a probability of 1 in 37 million.
pub fn id_number(id: &str) -> u64 {
    // FNV-1a with the finalizer of SplitMix64, as in `TaskId::child`.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id.as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
