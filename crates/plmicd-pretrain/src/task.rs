//! Pretraining as the trainer sees it.

use std::collections::BTreeMap;

use plmicd_nn::{MaskedBatch, MaskedLm};
use plmicd_torch::upload;
use plmicd_train::{BatchSource, Cause, Observer, Parameter, Task, TrainError, seed};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::dev;
use crate::masking::Masking;
use crate::sequences::SequenceSet;

/// Takes sequences out of a set. What is hidden in them is decided where the step's seed is known: in the task.
pub(crate) struct SequenceSource<'a>(pub &'a SequenceSet);

impl BatchSource for SequenceSource<'_> {
    type Batch = Vec<Vec<i64>>;

    fn lengths(&self) -> Vec<u32> {
        self.0.lengths()
    }

    fn batch(&self, examples: &[usize]) -> Result<Self::Batch, Cause> {
        Ok(examples.iter().map(|&index| self.0.sequence(index)).collect())
    }
}

/// The model, and the dev sequences that judge it.
pub(crate) struct PretrainTask<'a> {
    pub model: MaskedLm,
    pub masking: &'a Masking,
    pub pad: i64,
    /// Absent where the last epoch is kept and there is no dev split.
    pub dev: Option<&'a SequenceSet>,
    pub seed: u64,
}

impl Task for PretrainTask<'_> {
    type Batch = Vec<Vec<i64>>;

    fn parameters(&self) -> Vec<Parameter> {
        let parameters = self.model.parameters().into_iter();
        parameters
            .map(|p| Parameter { name: p.name, tensor: p.tensor, decay: p.decay, is_head: p.is_head })
            .collect()
    }

    fn train_step(&mut self, sequences: Self::Batch, scale: f64, seed: u64) -> Result<Tensor, Cause> {
        let mut random = seed::generator(seed, "masking", &[]);
        let batch = masked_batch(sequences, self.pad, self.model.device(), |_, sequence| {
            self.masking.hide(sequence, &mut random)
        });
        Ok(self.model.train_step(&batch, scale, seed)?)
    }

    fn evaluate(&mut self, observer: &dyn Observer) -> Result<BTreeMap<String, f64>, TrainError> {
        match self.dev {
            Some(set) => dev::evaluate(self, set, observer),
            None => Ok(BTreeMap::new()),
        }
    }
}

impl PretrainTask<'_> {
    /// The generator that hides tokens of a dev sequence: the same ones after every epoch.
    pub fn dev_random(&self, sequence: usize) -> ChaCha8Rng {
        seed::generator(self.seed, "dev masking", &[sequence as u64])
    }
}

/// Hides tokens of sequences (by their number in the batch) and pads them to the longest one.
pub(crate) fn masked_batch(
    sequences: Vec<Vec<i64>>,
    pad: i64,
    device: Device,
    mut hide: impl FnMut(usize, &mut [i64]) -> Vec<crate::masking::Hidden>,
) -> MaskedBatch {
    let width = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(sequences.len() * width);
    let mut mask = Vec::with_capacity(sequences.len() * width);
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    let rows = sequences.len();
    for (row, mut sequence) in sequences.into_iter().enumerate() {
        for hidden in hide(row, &mut sequence) {
            positions.push((row * width + hidden.place) as i64);
            targets.push(hidden.token);
        }
        let length = sequence.len();
        ids.extend(sequence);
        ids.resize((row + 1) * width, pad);
        mask.resize(row * width + length, 1i64);
        mask.resize((row + 1) * width, 0);
    }
    let shape = [rows as i64, width as i64];
    MaskedBatch {
        ids: upload(&ids, &shape, device),
        mask: upload(&mask, &shape, device),
        positions: upload(&positions, &[-1], device),
        targets: upload(&targets, &[-1], device),
    }
}
