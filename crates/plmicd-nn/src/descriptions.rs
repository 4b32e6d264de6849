use tch::{Kind, Tensor};

use crate::segment::{SegmentBatch, SpecialTokens};
use crate::{NnError, Padding, PlmIcd};

/// Descriptions encoded at a time.
const BATCH: usize = 64;

/// How label vectors are made from code descriptions: with `v` the unit vector of the mean token state of a code's
/// description (`centre`: after subtracting the mean of all descriptions' vectors), its query is `query_scale * v`, its output vector `output_scale * v`, its bias `bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DescriptionInit {
    pub centre: bool,
    pub query_scale: f64,
    pub output_scale: f64,
    pub bias: f64,
}

impl Default for DescriptionInit {
    fn default() -> Self {
        DescriptionInit { centre: false, query_scale: 2.0, output_scale: 0.5, bias: -2.5 }
    }
}

/// What [`PlmIcd::init_labels_from_descriptions`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptionReport {
    /// Labels whose vectors come from their description.
    pub described: usize,
    /// Labels without one: their vectors stay as they were, their bias is set all the same.
    pub undescribed: usize,
}

impl PlmIcd {
    /// Sets the label vectors from the token ids (without special tokens) of each label's description, through the
    /// encoder as it is now. One entry per label; none or an empty one leaves that label's vectors alone.
    /// Descriptions longer than a segment are cut. Where all labels share output vector and bias (`attention =
    /// "bert-xml"` and `"cross"`) only the queries are set.
    ///
    /// # Errors
    /// A model without label attention, another number of descriptions than labels, a token outside the vocabulary.
    pub fn init_labels_from_descriptions(
        &self,
        descriptions: &[Option<Vec<i32>>],
        specials: &SpecialTokens,
        init: &DescriptionInit,
    ) -> Result<DescriptionReport, NnError> {
        if descriptions.len() != self.num_labels() {
            return Err(NnError::Invalid(format!(
                "{} descriptions for {} labels",
                descriptions.len(),
                self.num_labels()
            )));
        }
        let Some(vectors) = self.label_vectors() else {
            return Err(NnError::Invalid(
                "the model has no label attention, and so no label vectors to set from descriptions"
                    .to_owned(),
            ));
        };
        let longest = self.config().segment_length;
        let vocab_size = self.encoder().config().vocab_size;
        let mut described: Vec<(usize, Vec<i64>)> = Vec::new();
        for (label, tokens) in descriptions.iter().enumerate() {
            let tokens: Vec<i64> =
                tokens.iter().flatten().take(longest).map(|&token| i64::from(token)).collect();
            if let Some(token) = tokens.iter().find(|&&token| !(0..vocab_size).contains(&token)) {
                return Err(NnError::Invalid(format!(
                    "the description of label {label} has token {token}, but the vocabulary has {vocab_size} tokens"
                )));
            }
            if !tokens.is_empty() {
                described.push((label, tokens));
            }
        }
        // Equal lengths side by side waste no padding; the order has no influence on the vectors.
        described.sort_by_key(|(label, tokens)| (tokens.len(), *label));
        tch::no_grad(|| -> Result<(), NnError> {
            let batches = described.chunks(BATCH).map(|batch| self.description_vectors(batch, specials.pad));
            let batches = batches.collect::<Result<Vec<Tensor>, NnError>>()?;
            if !batches.is_empty() {
                let mut units = Tensor::cat(&batches, 0);
                if init.centre {
                    units = unit(&(&units - units.mean_dim(0, true, Kind::Float)));
                }
                for ((label, _), row) in described.iter().zip(0..) {
                    let (label, vector) = (*label as i64, units.get(row));
                    vectors.queries.get(label).copy_(&(&vector * init.query_scale));
                    if let Some(outputs) = vectors.outputs {
                        outputs.get(label).copy_(&(&vector * init.output_scale));
                    }
                }
            }
            if let Some(biases) = vectors.biases {
                let _ = biases.shallow_clone().fill_(init.bias);
            }
            Ok(())
        })?;
        let described = described.len();
        Ok(DescriptionReport { described, undescribed: descriptions.len() - described })
    }

    /// Unit vectors [B,D] of the mean last-layer states of the descriptions' tokens.
    fn description_vectors(&self, batch: &[(usize, Vec<i64>)], pad: i64) -> Result<Tensor, NnError> {
        let notes: Vec<Vec<i64>> = batch.iter().map(|(_, tokens)| tokens.clone()).collect();
        let longest = notes.iter().map(Vec::len).max().unwrap_or(1);
        let batch = SegmentBatch::new(&notes, longest, pad, Padding::Mask, self.device())?;
        let states =
            self.encoder().forward(&batch.ids, &batch.mask, &plmicd_torch::Dropout::off()).flatten(0, 1);
        let means: Vec<Tensor> = batch
            .spans
            .iter()
            .map(|span| states.narrow(0, span.start, span.length).mean_dim(0, false, Kind::Float))
            .collect();
        Ok(unit(&Tensor::stack(&means, 0)))
    }
}

/// Rows scaled to length 1; a row of zeros (the only description, centred) stays one.
fn unit(rows: &Tensor) -> Tensor {
    rows / rows.linalg_norm(2.0, -1, true, None::<Kind>).clamp_min(f64::from(f32::MIN_POSITIVE))
}
