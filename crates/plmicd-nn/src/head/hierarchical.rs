use plmicd_torch::{Dropout, upload};
use tch::{Device, Kind, Tensor};

use crate::config::{EncoderConfig, MaskConstant, ModelConfig};
use crate::encoder::{Compute, Layer};
use crate::layers::Linear;
use crate::parameters::ParameterStore;
use crate::precision::Precision;
use crate::segment::SegmentBatch;

/// Layers of the transformer over segments.
const LAYERS: i64 = 2;

/// HIER-BERT's upper part: a transformer over the segments' first-token states with sinusoidal positions, the highest
/// value of each dimension over segments, dropout, a dense layer and tanh.
///
/// The paper's own is not published. This is the design of the hierarchical transformers for long documents of Dai et
/// al. 2022: two layers as wide as the encoder's, segments counted from 1, position 0 for segments of padding.
#[derive(Debug)]
pub(crate) struct SegmentTransformer {
    layers: Vec<Layer>,
    dense: Linear,
    dropout: f64,
    mask_constant: MaskConstant,
    compute: Compute,
}

impl SegmentTransformer {
    pub fn new(store: &mut ParameterStore, encoder: &EncoderConfig, config: &ModelConfig) -> Self {
        SegmentTransformer {
            layers: (0..LAYERS)
                .map(|index| Layer::new(store, &format!("segment_encoder.layer.{index}"), encoder))
                .collect(),
            dense: Linear::new(store, "segment_encoder.dense", encoder.hidden_size, encoder.hidden_size),
            dropout: encoder.hidden_dropout_prob,
            mask_constant: config.mask_constant,
            compute: Compute::default(),
        }
    }

    pub fn set_precision(&mut self, precision: Precision) {
        self.compute.precision = precision;
    }

    /// Vectors [B,D] of notes whose segments' first tokens have the states `first` [N,D].
    ///
    /// Segments of padding, which `padding = "attend"` makes, take part like any other.
    pub fn forward(&self, first: &Tensor, batch: &SegmentBatch, dropout: &Dropout) -> Tensor {
        let (size, device) = (first.size()[1], first.device());
        let notes = batch.segments_of_notes();
        let longest = notes.iter().map(|&(_, count)| count).max().unwrap_or(1);
        let rows: Vec<Tensor> = notes
            .iter()
            .map(|&(start, count)| first.narrow(0, start, count).constant_pad_nd([0, 0, 0, longest - count]))
            .collect();
        let states = Tensor::stack(&rows, 0);

        // [B,S] of ones where there is a segment of the note.
        let counts: Vec<i64> = notes.iter().map(|&(_, count)| count).collect();
        let places = Tensor::arange(longest, (Kind::Int64, device));
        let present = places.unsqueeze(0).less_tensor(&upload(&counts, &[-1, 1], device));
        let hidden = present.logical_not();

        let tokens = batch.mask.sum_dim_intlist(1, false, Kind::Int64).not_equal(0i64).to_kind(Kind::Int64);
        let filled: Vec<Tensor> = notes
            .iter()
            .map(|&(start, count)| tokens.narrow(0, start, count).constant_pad_nd([0, longest - count]))
            .collect();
        let positions = (places + 1i64).unsqueeze(0) * Tensor::stack(&filled, 0);
        let states = states + sinusoids(longest + 1, size, device).embedding_of(&positions);
        let states = dropout.apply(&states, self.dropout);

        let mask = hidden.to_kind(Kind::Float) * self.mask_constant.value();
        let mask = mask.unsqueeze(1).unsqueeze(1);
        let states = self
            .layers
            .iter()
            .fold(states, |states, layer| layer.forward(&states, &mask, dropout, self.compute));
        let states = states.masked_fill(&hidden.unsqueeze(-1), f64::NEG_INFINITY);
        let highest = states.max_dim(1, false).0;
        self.dense.forward(&dropout.apply(&highest, self.dropout)).tanh()
    }
}

/// The sinusoidal position table [P,D] of Vaswani et al. 2017, section 3.5: sines in even dimensions, cosines in odd
/// ones.
struct Sinusoids(Tensor);

fn sinusoids(positions: i64, size: i64, device: Device) -> Sinusoids {
    let value = |position: i64, dimension: i64| {
        let rate = 10_000f64.powf(-((dimension / 2 * 2) as f64) / size as f64);
        let angle = position as f64 * rate;
        (if dimension % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
    };
    let values: Vec<f32> = (0..positions)
        .flat_map(|position| (0..size).map(move |dimension| value(position, dimension)))
        .collect();
    Sinusoids(upload(&values, &[positions, size], device))
}

impl Sinusoids {
    /// Rows [..,D] of positions [..].
    fn embedding_of(&self, positions: &Tensor) -> Tensor {
        Tensor::embedding(&self.0, positions, -1, false, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_sines_and_cosines() {
        let table = sinusoids(4, 4, Device::Cpu).0;
        let value = |p, d| f64::from(table.double_value(&[p, d]) as f32);
        assert!(value(0, 0) == 0.0 && value(0, 1) == 1.0);
        assert!((value(3, 0) - 3f64.sin()).abs() < 1e-6 && (value(3, 1) - 3f64.cos()).abs() < 1e-6);
        assert!((value(3, 2) - 0.03f64.sin()).abs() < 1e-6 && (value(3, 3) - 0.03f64.cos()).abs() < 1e-6);
    }
}
