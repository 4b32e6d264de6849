//! Convolutions over the words of a note: CAML's (Mullenbach et al. 2018, section 2.1) and MultiResCNN's (Li and Yu
//! 2020, sections 3.2 and 3.3).

use plmicd_torch::Dropout;
use tch::{Device, Kind, Tensor};

use crate::parameters::{Init, ParameterStore};
use crate::segment::Span;

use super::batch::WordBatch;

/// A convolution over words, padded with half its width on both sides: as many states as words where the width is odd,
/// one more where it is even, as published.
#[derive(Debug)]
pub(crate) struct Convolution {
    /// [F,E,K].
    weight: Tensor,
    /// [F].
    bias: Option<Tensor>,
}

impl Convolution {
    pub fn new(store: &mut ParameterStore, path: &str, inputs: i64, maps: i64, kernel: i64) -> Convolution {
        // PyTorch's start of a convolution's bias.
        let bound = 1.0 / ((inputs * kernel) as f64).sqrt();
        let weight = store.add(&format!("{path}.weight"), &[maps, inputs, kernel], Init::Xavier, false);
        let bias = Some(store.add(&format!("{path}.bias"), &[maps], Init::Uniform(bound), false));
        Convolution { weight, bias }
    }

    pub fn without_bias(
        store: &mut ParameterStore,
        path: &str,
        inputs: i64,
        maps: i64,
        kernel: i64,
    ) -> Convolution {
        let weight = store.add(&format!("{path}.weight"), &[maps, inputs, kernel], Init::Xavier, false);
        Convolution { weight, bias: None }
    }

    /// With given weights: `weight` [F,E,K], `bias` [F].
    #[cfg(test)]
    pub fn from_weights(weight: Tensor, bias: Option<Tensor>) -> Convolution {
        Convolution { weight, bias }
    }

    /// Width in words, K.
    pub fn kernel(&self) -> i64 {
        self.weight.size()[2]
    }

    /// States one beyond a note's words: 1 where the width is even.
    pub fn extra(&self) -> i64 {
        1 - self.kernel() % 2
    }

    /// [B,E,T] to [B,F,T], or [B,F,T+1] where the width is even.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv1d(&self.weight, self.bias.as_ref(), 1, self.kernel() / 2, 1, 1)
    }
}

/// Normalises each map over all words of a batch (Ioffe and Szegedy 2015), and keeps running means for inference.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    name: String,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    /// Share of a batch's statistics in the running ones, and what keeps the root from 0: PyTorch's.
    const MOMENTUM: f64 = 0.1;
    const EPSILON: f64 = 1e-5;

    pub fn new(store: &mut ParameterStore, path: &str, maps: i64, device: Device) -> BatchNorm {
        BatchNorm {
            name: path.to_owned(),
            weight: store.add_with_decay(&format!("{path}.weight"), &[maps], Init::Ones, false, false),
            bias: store.add(&format!("{path}.bias"), &[maps], Init::Zeros, false),
            running_mean: Tensor::zeros([maps], (Kind::Float, device)),
            running_var: Tensor::ones([maps], (Kind::Float, device)),
        }
    }

    /// The running statistics by name, sharing their memory with the layer.
    pub fn buffers(&self) -> [(String, Tensor); 2] {
        [
            (format!("{}.running_mean", self.name), self.running_mean.shallow_clone()),
            (format!("{}.running_var", self.name), self.running_var.shallow_clone()),
        ]
    }

    /// [N,F] to [N,F]; in training by the statistics of these rows, which also move the running ones. A single row moves
    /// nothing: it has no variance, and 0 / 0 would stay in the running one for ever.
    pub fn forward(&self, rows: &Tensor, training: bool) -> Tensor {
        let moves = !training || rows.size()[0] > 1;
        rows.batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.running_mean).filter(|_| moves),
            Some(&self.running_var).filter(|_| moves),
            training,
            Self::MOMENTUM,
            Self::EPSILON,
            false,
        )
    }
}

/// `conv, norm, tanh, conv, norm`, plus the input through `conv` of width 1 and `norm`; tanh, dropout.
#[derive(Debug)]
pub(crate) struct ResidualBlock {
    first: Convolution,
    first_norm: BatchNorm,
    second: Convolution,
    second_norm: BatchNorm,
    shortcut: Convolution,
    shortcut_norm: BatchNorm,
}

impl ResidualBlock {
    pub fn new(
        store: &mut ParameterStore,
        path: &str,
        inputs: i64,
        maps: i64,
        kernel: i64,
        device: Device,
    ) -> ResidualBlock {
        let mut conv = |part: &str, inputs, kernel| {
            Convolution::without_bias(store, &format!("{path}.{part}"), inputs, maps, kernel)
        };
        let (first, second) = (conv("left.0", inputs, kernel), conv("left.3", maps, kernel));
        let shortcut = conv("shortcut.0", inputs, 1);
        let mut norm = |part: &str| BatchNorm::new(store, &format!("{path}.{part}"), maps, device);
        ResidualBlock {
            first,
            first_norm: norm("left.1"),
            second,
            second_norm: norm("left.4"),
            shortcut,
            shortcut_norm: norm("shortcut.1"),
        }
    }

    /// With the published names of weights.
    #[cfg(test)]
    pub fn from_weights(weight: impl Fn(&str) -> Tensor) -> ResidualBlock {
        let conv = |part: &str| Convolution::from_weights(weight(&format!("{part}.weight")), None);
        let norm = |part: &str| BatchNorm {
            name: part.to_owned(),
            weight: weight(&format!("{part}.weight")),
            bias: weight(&format!("{part}.bias")),
            running_mean: weight(&format!("{part}.running_mean")),
            running_var: weight(&format!("{part}.running_var")),
        };
        ResidualBlock {
            first: conv("left.0"),
            first_norm: norm("left.1"),
            second: conv("left.3"),
            second_norm: norm("left.4"),
            shortcut: conv("shortcut.0"),
            shortcut_norm: norm("shortcut.1"),
        }
    }

    pub fn buffers(&self) -> impl Iterator<Item = (String, Tensor)> {
        [&self.first_norm, &self.second_norm, &self.shortcut_norm].into_iter().flat_map(BatchNorm::buffers)
    }

    /// [1,E,R] to [1,F,R], where what lies outside the notes (`inside` [N]) is zero before and after.
    pub fn forward(&self, x: &Tensor, inside: &Tensor, training: bool) -> Tensor {
        let left = norm_inside(&self.first.forward(x), inside, &self.first_norm, training).tanh();
        let left = norm_inside(&self.second.forward(&left), inside, &self.second_norm, training);
        let right = norm_inside(&self.shortcut.forward(x), inside, &self.shortcut_norm, training);
        (left + right).tanh()
    }
}

/// Normalises the states [1,F,R] of notes; the others become zero.
fn norm_inside(x: &Tensor, inside: &Tensor, norm: &BatchNorm, training: bool) -> Tensor {
    let rows = x.squeeze_dim(0).transpose(0, 1);
    let normed = norm.forward(&rows.index_select(0, inside), training);
    rows.zeros_like().index_copy(0, inside, &normed).transpose(0, 1).unsqueeze(0)
}

/// One width of MultiResCNN: a convolution that keeps the width of the embeddings, tanh, a residual block.
#[derive(Debug)]
pub(crate) struct Branch {
    conv: Convolution,
    block: ResidualBlock,
}

impl Branch {
    pub fn new(
        store: &mut ParameterStore,
        path: &str,
        inputs: i64,
        maps: i64,
        kernel: i64,
        device: Device,
    ) -> Branch {
        Branch {
            conv: Convolution::new(store, &format!("{path}.conv"), inputs, inputs, kernel),
            block: ResidualBlock::new(store, &format!("{path}.block"), inputs, maps, kernel, device),
        }
    }

    pub fn buffers(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.block.buffers()
    }

    /// Embeddings [R,E] to states [R,F].
    pub fn forward(
        &self,
        embedded: &Tensor,
        batch: &WordBatch,
        p: f64,
        dropout: &Dropout,
        training: bool,
    ) -> Tensor {
        let x = embedded.transpose(0, 1).unsqueeze(0);
        let x = self.conv.forward(&x).tanh().squeeze_dim(0).transpose(0, 1);
        // What the first convolution makes of the zeros around notes is not zero.
        let x = x.zeros_like().index_copy(0, &batch.inside, &x.index_select(0, &batch.inside));
        let x = self.block.forward(&x.transpose(0, 1).unsqueeze(0), &batch.inside, training);
        dropout.apply(&x.squeeze_dim(0).transpose(0, 1), p)
    }
}

/// CAML's states [R',F] of the embeddings [R,E] of a batch, and where each note's lie.
pub(crate) fn convolved(conv: &Convolution, embedded: &Tensor, batch: &WordBatch) -> (Tensor, Vec<Span>) {
    let states = conv.forward(&embedded.transpose(0, 1).unsqueeze(0)).tanh();
    let span = |note: &Span| Span { start: note.start, length: note.length + conv.extra() };
    (states.squeeze_dim(0).transpose(0, 1), batch.notes.iter().map(span).collect())
}
