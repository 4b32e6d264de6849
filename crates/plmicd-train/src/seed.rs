//! Randomness by counters: everything random in a run derives from its seed, a purpose and indices, so that
//! a resumed run draws exactly what the uninterrupted one would have drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// 32 bytes that depend on nothing but the arguments.
fn digest(seed: u64, purpose: &str, counters: &[u64]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"plmicd seed 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for counter in counters {
        hasher.update(&counter.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// A seed for another generator (libtorch's), from the run's seed, a purpose and counters.
///
/// The top bit is clear: libtorch takes a signed integer.
pub fn derive(seed: u64, purpose: &str, counters: &[u64]) -> u64 {
    let bytes = digest(seed, purpose, counters);
    let word: [u8; 8] = std::array::from_fn(|i| bytes[i]);
    u64::from_le_bytes(word) >> 1
}

/// A generator of its own for one purpose and place of a run.
pub fn generator(seed: u64, purpose: &str, counters: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(digest(seed, purpose, counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_by_every_part_and_repeat() {
        let base = derive(1, "dropout", &[2, 3]);
        assert_eq!(base, derive(1, "dropout", &[2, 3]));
        assert!(i64::try_from(base).is_ok());
        for other in [
            derive(2, "dropout", &[2, 3]),
            derive(1, "sampler", &[2, 3]),
            derive(1, "dropout", &[3, 2]),
            derive(1, "dropout", &[2]),
        ] {
            assert_ne!(base, other);
        }
    }
}
