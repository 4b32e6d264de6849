//! A bidirectional LSTM over the words of notes (Hochreiter and Schmidhuber 1997; as in LAAT, section 3.2).

use tch::{Kind, Tensor};

use crate::parameters::{Init, ParameterStore};

use super::batch::Grid;

/// One layer, both directions, with PyTorch's names and order of gates.
///
/// Each direction is a pass of its own over notes side by side; the second reads every note from its own end. So no note
/// is touched by the padding of another, as with PyTorch's packed sequences, and libtorch may use its fastest kernel.
#[derive(Debug)]
pub(crate) struct BiLstm {
    forward: [Tensor; 4],
    backward: [Tensor; 4],
    hidden_size: i64,
}

impl BiLstm {
    pub fn new(store: &mut ParameterStore, path: &str, inputs: i64, hidden_size: i64) -> BiLstm {
        let init = Init::Uniform(1.0 / (hidden_size as f64).sqrt());
        let mut direction = |suffix: &str| {
            let mut add = |name: &str, shape: &[i64]| {
                store.add(&format!("{path}.{name}_l0{suffix}"), shape, init, false)
            };
            [
                add("weight_ih", &[4 * hidden_size, inputs]),
                add("weight_hh", &[4 * hidden_size, hidden_size]),
                add("bias_ih", &[4 * hidden_size]),
                add("bias_hh", &[4 * hidden_size]),
            ]
        };
        BiLstm { forward: direction(""), backward: direction("_reverse"), hidden_size }
    }

    /// Embeddings [R,E] of notes in a row to states [R,2H], forwards then backwards; zero where there are no words.
    /// `training` keeps what a backward pass needs.
    pub fn states(&self, embedded: &Tensor, grid: &Grid, training: bool) -> Tensor {
        let forward = self.pass(embedded, &grid.forward, grid.steps, &self.forward, training);
        let backward = self.pass(embedded, &grid.backward, grid.steps, &self.backward, training);
        let states = Tensor::cat(
            &[forward.index_select(0, &grid.from_forward), backward.index_select(0, &grid.from_backward)],
            1,
        );
        match &grid.words {
            Some(words) => states * words,
            None => states,
        }
    }

    /// One direction: the words at `places` [T*B] of a row to states [T*B,H].
    fn pass(
        &self,
        embedded: &Tensor,
        places: &Tensor,
        steps: i64,
        weights: &[Tensor; 4],
        training: bool,
    ) -> Tensor {
        let size = embedded.size()[1];
        let x = embedded.index_select(0, places).view([steps, -1, size]);
        let start = Tensor::zeros([1, x.size()[1], self.hidden_size], (Kind::Float, x.device()));
        let weights: Vec<&Tensor> = weights.iter().collect();
        let (states, _, _) = x.lstm(&[&start, &start], &weights, true, 1, 0.0, training, false, false);
        states.reshape([-1, self.hidden_size])
    }
}
