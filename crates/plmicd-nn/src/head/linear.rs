//! The same pass where the logit is linear in the average, as LAAT's and CAML's is: `<O, A H> + b` equals
//! `rowsum(A * (O H^T)) + b`, so that nothing larger than labels of a block by tokens is made. With `P = O H^T` and
//! `dP = g A`: `dS = dP * (P - rowsum(A * P))`.
//!
//! For segments with logits of their own; label attention over a whole note has a pass of its own.

use tch::Tensor;

use super::pooled::{Note, Pass, against, flat};

/// Weights of a logit that is linear in the average.
pub(super) struct Linear<'a> {
    /// `O` [Y,D].
    pub outputs: &'a Tensor,
    /// `b` [Y].
    pub bias: &'a Tensor,
}

/// `A` and `P` [S,L,C] of a block of queries [L,K] and outputs [L,D], and the logits without bias [S,L]; all fp32.
pub(super) fn scores(
    queries: &Tensor,
    outputs: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Option<&Tensor>,
) -> (Tensor, Tensor, Tensor) {
    let mut products = against(queries, keys);
    if let Some(mask) = mask {
        products += mask;
    }
    let attention = products.softmax(-1, None);
    let products = against(outputs, values);
    let scores = (&attention * &products).sum_dim_intlist(-1, false, None);
    (attention, products, scores)
}

impl Pass<'_> {
    /// One block of labels of one note; returns the sum of its losses. `gradients` are those of the linear weights.
    pub fn linear_block(
        &self,
        note: &Note,
        linear: &Linear<'_>,
        gradients: [&Tensor; 2],
        start: i64,
        length: i64,
    ) -> Tensor {
        let block = |tensor: &Tensor| tensor.narrow(0, start, length);
        let low = |tensor: &Tensor| self.head.precision().operand(tensor);
        tch::no_grad(|| {
            let (queries, outputs) = (low(&block(self.head.queries())), low(&block(linear.outputs)));
            let (mut attention, mut products, scores) =
                scores(&queries, &outputs, &note.keys, &note.values, note.mask.as_ref());
            let (highest, segment) = scores.max_dim(0, true);
            let logits = highest.squeeze_dim(0) + block(linear.bias);
            let targets = block(&note.targets);
            let grad_logits = self.loss.derivative(&logits, &targets) * self.scale;
            let [grad_outputs, grad_bias] = gradients;
            let _ = block(grad_bias).g_add_(&grad_logits);
            // Only the segment with the highest logit of a label takes its gradient.
            let by_segment = scores.zeros_like().scatter(0, &segment, &grad_logits.unsqueeze(0));
            let grad_products = attention.g_mul_(&by_segment.unsqueeze(-1));
            let grad_scores = products.g_sub_(&scores.unsqueeze(-1)).g_mul_(&grad_products);
            let (grad_products, grad_scores) = (low(&flat(&grad_products)), low(&flat(&grad_scores)));
            let rows = |tensor: &Tensor| tensor.flatten(0, 1);
            self.add_product(&block(grad_outputs), &grad_products, &rows(&note.values));
            self.add_product(&block(&self.grad_queries), &grad_scores, &rows(&note.keys));
            self.add_product(&rows(&note.grad_values), &grad_products.transpose(0, 1), &outputs);
            self.add_product(&rows(&note.grad_keys), &grad_scores.transpose(0, 1), &queries);
            self.loss.elementwise(&logits, &targets).sum(logits.kind())
        })
    }

    /// `sum += a b`, with `sum` in fp32 whatever the product is computed in.
    pub fn add_product(&self, sum: &Tensor, a: &Tensor, b: &Tensor) {
        plmicd_torch::add_product(sum, a, b).expect("a sum of the product's shape");
    }
}
