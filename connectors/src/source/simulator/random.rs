//! Random numbers as a function of a seed and a counter (SplitMix64).

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The standard deviation of the sum of three uniform 16-bit numbers, inverted.
const SCALE: f32 = 1.0 / 32_768.0;

/// The random numbers of one sample, site or context.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of index `index` under a seed.
    pub(super) fn of(seed: u64, index: u64) -> Random {
        Random(mix(mix(seed.wrapping_add(STEP)) ^ index.wrapping_mul(STEP)))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u32
    }

    /// An approximately normal number (mean 0, standard deviation 1, within ±3), and 16 independent
    /// bits.
    pub(super) fn normal(&mut self) -> (f32, u32) {
        let bits = self.bits();
        // The sum of three uniform numbers has a variance of 3/12 of their range squared.
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff);
        ((sum as f32 - 98_302.5) * SCALE, (bits >> 48) as u32)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
