//! Hashes that draw samples: the same sample gets the same number on every worker and in every run.

/// SplitMix64's increment.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether a sample is held back: no model is ever fitted on it, so that every model, early or late,
/// can be judged on it fairly. Independent of [`priority`], so that a task's reservoir holds the
/// given `share` of such samples.
pub fn is_held_back(sequence: u64, share: f64) -> bool {
    priority(!sequence) as f64 / u64::MAX as f64 <= share
}

/// The priority of a sample: a bijective hash (SplitMix64's finalizer) of its sequence number, so
/// that no two samples share one.
pub fn priority(sequence: u64) -> u64 {
    let mut hash = sequence.wrapping_add(STEP);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The sequence number of a sample of that priority.
pub fn sequence_of(priority: u64) -> u64 {
    let mut hash = priority ^ (priority >> 31) ^ (priority >> 62);
    hash = hash.wrapping_mul(0x3196_42b2_d24d_8ec3);
    hash ^= (hash >> 27) ^ (hash >> 54);
    hash = hash.wrapping_mul(0x96de_1b17_3f11_9089);
    hash ^= (hash >> 30) ^ (hash >> 60);
    hash.wrapping_sub(STEP)
}

/// A number that stands for a sample's id where ids are compared: a hash, the same in every run.
/// Among a million ids two share one with a chance of 1 in 37 million.
pub fn id_number(id: &str) -> u64 {
    // FNV-1a with the finalizer of SplitMix64, as for tasks.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id.as_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
