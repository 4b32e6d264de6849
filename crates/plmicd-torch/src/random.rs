use std::cell::Cell;

use tch::{Device, Tensor};

use crate::TorchError;
use crate::ffi;

/// Seeds libtorch's generators (CPU and, when loaded, CUDA). Global state: everything drawn afterwards
/// depends on it.
pub fn manual_seed(seed: u64) {
    tch::manual_seed(seed.cast_signed());
}

/// Seeds libtorch's generator of one device.
fn seed_generator(device: Device, seed: u64) -> Result<(), TorchError> {
    let index = match device {
        Device::Cuda(index) => index as i64,
        _ => -1,
    };
    // SAFETY: no pointers are passed.
    unsafe { ffi::check(ffi::plmicd_seed_generator(index, seed)) }
}

/// Fills the CPU tensor `out` from a normal distribution; what is drawn depends on `seed` alone.
pub fn fill_normal(out: &Tensor, mean: f64, standard_deviation: f64, seed: u64) -> Result<(), TorchError> {
    if out.device() != Device::Cpu {
        return Err(TorchError::Invalid(format!(
            "random values are drawn on the CPU, not on {:?}",
            out.device()
        )));
    }
    // SAFETY: the pointer comes from a live tensor; libtorch checks its kind and throws.
    unsafe { ffi::check(ffi::plmicd_fill_normal(ffi::raw(out), mean, standard_deviation, seed)) }
}

/// Dropout (Srivastava et al. 2014) with explicit seeds: a stream of masks, one per application, that depends
/// on its seed and the order of the applications alone, not on threads or on what else draws in the process.
#[derive(Debug)]
pub struct Dropout {
    seed: Option<u64>,
    applied: Cell<u64>,
    place: Place,
    /// Whether libtorch drops, from the generator of the process.
    native: bool,
}

/// Where the rows that a forward pass works on lie in the batch they are part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the first row (token).
    pub row: i64,
    /// Number of the first segment.
    pub segment: i64,
}

impl Dropout {
    /// Leaves everything as it is: inference.
    pub fn off() -> Dropout {
        Dropout { seed: None, applied: Cell::new(0), place: Place::default(), native: false }
    }

    /// A stream of masks for one forward pass.
    pub fn seeded(seed: u64) -> Dropout {
        Dropout { seed: Some(seed), applied: Cell::new(0), place: Place::default(), native: false }
    }

    /// The same stream from its start, for a part of the batch that begins at `place`: parts drop what the whole batch
    /// would. [`Dropout::apply`] takes states with a row for each token ([R,D], [N,C,D]) and attention weights [N,H,C,C].
    pub fn part(&self, place: Place) -> Dropout {
        Dropout { seed: self.seed, applied: Cell::new(0), place, native: self.native }
    }

    /// Where this part of the batch begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// libtorch's own dropout, from the generator of the process: to measure against.
    pub fn of_libtorch() -> Dropout {
        Dropout { native: true, ..Dropout::off() }
    }

    /// Whether anything is dropped at all: training.
    pub fn is_on(&self) -> bool {
        self.seed.is_some() || self.native
    }

    /// The seed of the next application, for operations that drop by themselves; `None` in inference.
    pub fn next_seed(&self) -> Option<u64> {
        let seed = self.seed?;
        let index = self.applied.replace(self.applied.get() + 1);
        Some(derive_seed(seed, "dropout", index))
    }

    /// The share that an operation of libtorch's on this part has to drop by itself, with the generator of its device,
    /// which is given a seed for it: `p`, or 0 in inference.
    pub fn share_in_operation(&self, p: f64, device: Device) -> f64 {
        match self.next_seed() {
            Some(seed) if p > 0.0 => {
                let own = derive_seed(seed, "part", self.place.segment.unsigned_abs());
                seed_generator(device, own).expect("the device of a tensor has a generator");
                p
            }
            _ => 0.0,
        }
    }

    /// `x` with a share `p` of its elements zeroed and the others scaled by 1 / (1 - p); differentiable. On the
    /// CPU the mask is drawn anew in the backward pass rather than kept.
    pub fn apply(&self, x: &Tensor, p: f64) -> Tensor {
        self.apply_in_windows(x, p, 1)
    }

    /// [`Dropout::apply`] to the attention weights [N*W,H,C,K] of segments of W windows each.
    pub fn apply_in_windows(&self, x: &Tensor, p: f64, windows: i64) -> Tensor {
        if self.native {
            return x.dropout(p, true);
        }
        match self.next_seed() {
            Some(seed) if p > 0.0 => {
                let size = x.size();
                let first = match size.as_slice() {
                    [_, heads, rows, columns] => self.place.segment * windows * heads * rows * columns,
                    _ => self.place.row * size.last().copied().unwrap_or(1),
                };
                // A GPU's generator counts for itself.
                let seed = match x.device() {
                    Device::Cpu => seed,
                    _ => derive_seed(seed, "part", first.unsigned_abs()),
                };
                dropout(x, p, seed, first).expect("x is a float or bfloat16 tensor")
            }
            _ => x.shallow_clone(),
        }
    }
}

fn dropout(x: &Tensor, p: f64, seed: u64, first: i64) -> Result<Tensor, TorchError> {
    let mut out = std::ptr::null_mut();
    // SAFETY: `x` is live; on success the shim hands over one new tensor, which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_dropout(ffi::raw(x), p, seed, first, &mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// A seed for one purpose and index, from the configured seed: distinct purposes and indices give
/// unrelated streams, and nothing depends on what was drawn before.
pub fn derive_seed(seed: u64, purpose: &str, index: u64) -> u64 {
    // FNV-1a over the purpose, then SplitMix64's finalizer after each word.
    let purpose = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    [seed, purpose, index].into_iter().fold(0, |state, word| mix(state ^ word))
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn seeds_differ_by_seed_purpose_and_index() {
        let mut seen = BTreeSet::new();
        for seed in 0..10 {
            for purpose in ["init", "dropout"] {
                for index in 0..100 {
                    seen.insert(derive_seed(seed, purpose, index));
                }
            }
        }
        assert_eq!(seen.len(), 2000);
    }

    #[test]
    fn parts_drop_what_the_whole_would() {
        let draw = |sizes: &[i64], place, windows| {
            let x = Tensor::ones(sizes, (tch::Kind::Float, Device::Cpu));
            Dropout::seeded(3).part(place).apply_in_windows(&x, 0.5, windows)
        };
        let place = Place { row: 2 * 7, segment: 2 };
        let (whole, part) = (draw(&[5 * 7, 9], Place::default(), 1), draw(&[3 * 7, 9], place, 1));
        assert!(part.equal(&whole.narrow(0, 2 * 7, 3 * 7)));
        for windows in [1, 4] {
            let whole = draw(&[5 * windows, 2, 3, 9], Place::default(), windows);
            let part = draw(&[3 * windows, 2, 3, 9], place, windows);
            assert!(part.equal(&whole.narrow(0, 2 * windows, 3 * windows)), "{windows}");
        }
    }

    #[test]
    fn dropout_depends_on_its_seed_alone_and_keeps_the_mean() {
        let x = Tensor::ones([300, 1001], (tch::Kind::Float, Device::Cpu));
        for kind in [tch::Kind::Float, tch::Kind::BFloat16] {
            let x = x.to_kind(kind);
            let stream = Dropout::seeded(3);
            let (first, second) = (stream.apply(&x, 0.1), stream.apply(&x, 0.1));
            assert!(!first.equal(&second));
            assert!(first.equal(&Dropout::seeded(3).apply(&x, 0.1)));
            let dropped =
                f64::try_from(first.eq(0.0).to_kind(tch::Kind::Double).mean(tch::Kind::Double)).unwrap();
            // Five standard deviations of the share of 300,300 draws.
            assert!((dropped - 0.1).abs() < 0.0028, "{dropped}");
            let kept = f64::try_from(first.max()).unwrap();
            assert!((kept - 1.0 / 0.9).abs() < 0.005, "{kept}");
            // Neighbours are dropped independently.
            let gone = first.eq(0.0).to_kind(tch::Kind::Double).flatten(0, 1);
            let pairs = gone.narrow(0, 0, 300_299) * gone.narrow(0, 1, 300_299);
            let both = f64::try_from(pairs.mean(tch::Kind::Double)).unwrap();
            assert!((both - 0.01).abs() < 0.001, "{both}");
            assert!(Dropout::off().apply(&x, 0.1).equal(&x));
        }
    }

    #[test]
    fn the_gradient_of_dropout_takes_the_same_mask() {
        let x = Tensor::ones([64, 513], (tch::Kind::Float, Device::Cpu)).set_requires_grad(true);
        let y = Dropout::seeded(9).apply(&x, 0.25);
        y.sum(tch::Kind::Float).backward();
        assert!(x.grad().equal(&y));
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let ours = Tensor::empty([50], (tch::Kind::Float, Device::Cpu));
        fill_normal(&ours, 0.0, 0.02, 7).unwrap();
        let again = Tensor::empty([50], (tch::Kind::Float, Device::Cpu));
        fill_normal(&again, 0.0, 0.02, 7).unwrap();
        assert!(ours.equal(&again));
    }
}
