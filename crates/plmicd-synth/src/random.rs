//! Random numbers by counters: every draw belongs to (seed, purpose, index), so that any admission can be
//! made on any thread, in any order, any number of times, and always comes out the same.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. The discriminants are part of the output: never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// Sex, birth, number of admissions and chronic conditions of a subject.
    Subject = 1,
    /// Codes, dates and flags of an admission.
    Admission = 2,
    /// The main discharge report.
    Report = 3,
    /// A second report of the same admission.
    SecondReport = 4,
    /// The addendum.
    Addendum = 5,
    /// Identifiers and split lists.
    Ids = 6,
    /// Simulation that scales the code frequencies.
    Calibration = 7,
    /// Rows of the code tables (duplicates, empty cells).
    CodeRows = 8,
    /// How often a subject is admitted.
    Visits = 9,
    /// Notes of other categories: this plus the category's place in its table.
    OtherNotes = 100,
}

/// One stream of random numbers.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `purpose` and `index` under `seed`.
    pub(crate) fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self::with_offset(seed, purpose, 0, index)
    }

    /// As [`Stream::new`], for one of several kinds of the same purpose.
    pub(crate) fn with_offset(seed: u64, purpose: Purpose, offset: u64, index: u64) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64 + offset).to_le_bytes());
        key[16..24].copy_from_slice(&index.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A uniform 32-bit number.
    pub(crate) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `0..n`; `n` must not be 0. The bias (below n / 2^32) does not matter here.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0);
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as usize) as i64
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.bits()) / 4_294_967_296.0
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// An index drawn in proportion to `weights` (not all zero).
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut at = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            at -= weight;
            if at < 0.0 {
                return index;
            }
        }
        weights.iter().rposition(|w| *w > 0.0).unwrap_or(0)
    }

    /// An index drawn from cumulative weights (ascending, the last one positive).
    pub(crate) fn cumulative(&mut self, sums: &[f64]) -> usize {
        let at = self.unit() * sums.last().copied().unwrap_or(0.0);
        sums.partition_point(|sum| *sum <= at).min(sums.len().saturating_sub(1))
    }

    /// Approximately standard normal (sum of twelve uniforms).
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Poisson with this mean (small means).
    pub(crate) fn poisson(&mut self, mean: f64) -> usize {
        let limit = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// Puts `items` in random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

/// A fixed one-to-one mapping of `0..size` onto itself, so that identifiers do not follow the order of
/// generation and still need no table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    factor: u64,
    shift: u64,
    size: u64,
}

impl Permutation {
    /// A mapping drawn from `stream`.
    pub(crate) fn new(size: u64, stream: &mut Stream) -> Self {
        let size = size.max(1);
        let mut factor = ((size as f64 * 0.618) as u64 + u64::from(stream.bits()) % size).max(1) % size;
        while gcd(factor, size) != 1 {
            factor += 1;
        }
        Self { factor, shift: u64::from(stream.bits()) % size, size }
    }

    /// Where `index` (below the size) goes.
    pub(crate) fn at(&self, index: u64) -> u64 {
        ((u128::from(self.factor) * u128::from(index) + u128::from(self.shift)) % u128::from(self.size))
            as u64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_hit_every_place_once() {
        for size in [1, 2, 3, 10, 97, 1000] {
            let permutation = Permutation::new(size, &mut Stream::new(5, Purpose::Ids, size));
            let mut seen: Vec<u64> = (0..size).map(|i| permutation.at(i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..size).collect::<Vec<_>>());
        }
    }

    #[test]
    fn streams_differ_by_every_part_of_their_name() {
        let first = |seed, purpose, index| Stream::new(seed, purpose, index).bits();
        let one = first(1, Purpose::Report, 0);
        assert_eq!(one, first(1, Purpose::Report, 0));
        assert_ne!(one, first(2, Purpose::Report, 0));
        assert_ne!(one, first(1, Purpose::Addendum, 0));
        assert_ne!(one, first(1, Purpose::Report, 1));
    }

    #[test]
    fn draws_have_the_expected_means() {
        let mut stream = Stream::new(1, Purpose::Ids, 0);
        let poisson = (0..20_000).map(|_| stream.poisson(2.5)).sum::<usize>() as f64 / 20_000.0;
        assert!((poisson - 2.5).abs() < 0.05, "{poisson}");
        let normal = (0..20_000).map(|_| stream.normal().powi(2)).sum::<f64>() / 20_000.0;
        assert!((normal - 1.0).abs() < 0.05, "{normal}");
    }
}
