//! DR-CAML (Mullenbach et al. 2018, section 2.3): a second convolution reads the codes' descriptions, and the output
//! vectors of a note's true codes are drawn towards what it makes of them.

use plmicd_torch::upload;
use tch::{Kind, Tensor};

use crate::parameters::{Init, ParameterStore};
use crate::{NnError, Padding};

use super::convolution::Convolution;

/// The description encoder: embeddings, convolution, tanh, maximum over words, linear.
#[derive(Debug)]
pub(crate) struct DescriptionEncoder {
    embeddings: Tensor,
    conv: Convolution,
    weight: Tensor,
    bias: Tensor,
    pad: i64,
    padding: Padding,
}

impl DescriptionEncoder {
    pub fn new(
        store: &mut ParameterStore,
        vocab_size: i64,
        embedding_size: i64,
        maps: i64,
        kernel: i64,
        pad: i64,
        padding: Padding,
        embeddings: Init,
    ) -> DescriptionEncoder {
        let bound = 1.0 / (maps as f64).sqrt();
        DescriptionEncoder {
            embeddings: store.add(
                "descriptions.embeddings.weight",
                &[vocab_size, embedding_size],
                embeddings,
                false,
            ),
            conv: Convolution::new(store, "descriptions.conv", embedding_size, maps, kernel),
            weight: store.add("descriptions.linear.weight", &[maps, maps], Init::Xavier, true),
            bias: store.add("descriptions.linear.bias", &[maps], Init::Uniform(bound), true),
            pad,
            padding,
        }
    }

    /// With given weights; published padding.
    #[cfg(test)]
    pub fn from_weights(embeddings: Tensor, conv: Convolution, weight: Tensor, bias: Tensor) -> Self {
        DescriptionEncoder { embeddings, conv, weight, bias, pad: 0, padding: Padding::Attend }
    }

    /// The embeddings [V,E], sharing their memory.
    pub fn embeddings(&self) -> &Tensor {
        &self.embeddings
    }

    /// Vectors [n,F] of descriptions given as word ids. With [`Padding::Attend`] the maximum is also taken over the
    /// padding up to the longest of them, as published; otherwise over each one's own words.
    pub fn vectors(&self, descriptions: &[&[i32]]) -> Tensor {
        let longest = descriptions.iter().map(|words| words.len()).max().unwrap_or(0).max(1);
        let states = longest as i64 + self.conv.extra();
        let mut ids = vec![self.pad; longest * descriptions.len()];
        let mut beyond = vec![false; states as usize * descriptions.len()];
        for (index, words) in descriptions.iter().enumerate() {
            let row = &mut ids[index * longest..][..longest];
            row.iter_mut().zip(*words).for_each(|(id, &word)| *id = i64::from(word));
            let own = words.len() + self.conv.extra() as usize;
            beyond[index * states as usize..][..states as usize][own..].fill(true);
        }
        let device = self.embeddings.device();
        let shape = [descriptions.len() as i64, longest as i64];
        let ids = upload(&ids, &shape, device);
        let embedded = Tensor::embedding(&self.embeddings, &ids, self.pad, false, false);
        let mut states_of = self.conv.forward(&embedded.transpose(1, 2)).tanh();
        if self.padding == Padding::Mask {
            let beyond = upload(&beyond, &[shape[0], 1, states], device);
            // tanh is never below -1.
            states_of = states_of.masked_fill(&beyond, -2.0);
        }
        states_of.amax(-1, false).linear(&self.weight, Some(&self.bias))
    }

    /// The description term [] of the loss for the true labels of each note, with `outputs` [Y,F]: the mean over notes of
    /// `weight / F` times the squared distances of the labels' output vectors from their descriptions' vectors.
    /// Labels without a description are left out.
    pub fn term(
        &self,
        outputs: &Tensor,
        notes: &[Vec<i64>],
        descriptions: &[Vec<i32>],
        weight: f64,
    ) -> Result<Option<Tensor>, NnError> {
        let described =
            |label: &i64| descriptions.get(*label as usize).is_some_and(|words| !words.is_empty());
        let notes: Vec<Vec<i64>> =
            notes.iter().map(|labels| labels.iter().copied().filter(described).collect()).collect();
        let words = |labels: &[i64]| -> Vec<&[i32]> {
            labels.iter().map(|&label| descriptions[label as usize].as_slice()).collect()
        };
        let squares = |labels: &[i64], vectors: &Tensor| {
            let rows = outputs.index_select(0, &upload(labels, &[-1], outputs.device()));
            (rows - vectors).square()
        };
        let count = notes.len().max(1) as f64;
        let factor = weight / (outputs.size()[1] as f64 * count);
        let sum = match self.padding {
            Padding::Attend => {
                let with_labels = notes.iter().filter(|labels| !labels.is_empty());
                let terms: Vec<Tensor> = with_labels
                    .map(|labels| squares(labels, &self.vectors(&words(labels))).sum(Kind::Float))
                    .collect();
                if terms.is_empty() {
                    return Ok(None);
                }
                Tensor::stack(&terms, 0).sum(Kind::Float)
            }
            Padding::Mask => {
                // Each description once, however many notes have its label.
                let mut labels: Vec<i64> = notes.concat();
                labels.sort_unstable();
                let mut counts: Vec<(i64, f32)> = Vec::new();
                for label in labels {
                    match counts.last_mut() {
                        Some((last, count)) if *last == label => *count += 1.0,
                        _ => counts.push((label, 1.0)),
                    }
                }
                if counts.is_empty() {
                    return Ok(None);
                }
                let (labels, counts): (Vec<i64>, Vec<f32>) = counts.into_iter().unzip();
                let per_label =
                    squares(&labels, &self.vectors(&words(&labels))).sum_dim_intlist(1, false, Kind::Float);
                (per_label * upload(&counts, &[-1], outputs.device())).sum(Kind::Float)
            }
        };
        Ok(Some(sum * factor))
    }
}
