//! Fine-tuning as the trainer sees it.

use std::collections::BTreeMap;

use plmicd_nn::{IcdModel, SpecialTokens};
use plmicd_train::{Cause, EvaluationSigns, NamedTensor, Observer, Parameter, Task, TrainError};
use tch::Tensor;

use crate::dev;
use crate::notes::NoteSet;
use crate::source::NoteBatch;

/// The model, and the dev notes that judge it.
pub(crate) struct FinetuneTask<'a> {
    pub model: IcdModel,
    /// Absent where the last epoch is kept and there is no dev split.
    pub dev: Option<&'a NoteSet>,
    pub specials: SpecialTokens,
    /// What the last evaluation told of the model's health.
    pub signs: Option<EvaluationSigns>,
}

impl Task for FinetuneTask<'_> {
    type Batch = NoteBatch;

    fn parameters(&self) -> Vec<Parameter> {
        let parameters = self.model.parameters().into_iter();
        parameters
            .map(|p| Parameter { name: p.name, tensor: p.tensor, decay: p.decay, is_head: p.is_head })
            .collect()
    }

    fn buffers(&self) -> Vec<NamedTensor> {
        let buffers = self.model.buffers().into_iter();
        buffers.map(|(name, tensor)| NamedTensor { name, tensor }).collect()
    }

    fn train_step(&mut self, batch: NoteBatch, scale: f64, seed: u64) -> Result<Tensor, Cause> {
        Ok(self.model.train_step(&batch.notes, &batch.truth, scale, seed)?)
    }

    fn evaluate(&mut self, observer: &dyn Observer) -> Result<BTreeMap<String, f64>, TrainError> {
        match self.dev {
            Some(notes) => {
                let (figures, signs) = dev::evaluate(&self.model, notes, &self.specials, observer)?;
                self.signs = Some(signs);
                Ok(figures)
            }
            None => Ok(BTreeMap::new()),
        }
    }

    fn evaluation_signs(&self) -> Option<EvaluationSigns> {
        self.signs
    }

    fn largest_logit(&self, batch: &NoteBatch) -> Option<f64> {
        self.model.logits(&batch.notes).ok()?.abs().max().f_double_value(&[]).ok()
    }
}
