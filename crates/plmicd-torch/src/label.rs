use tch::{Kind, Tensor};

use crate::TorchError;
use crate::ffi;

/// Label attention between its matrix products, on the CPU. `queries` `S` and `products` `P` [L,T] are the fp32
/// products of a block of L labels with T tokens. Gives `sum(softmax(S) * P)` and `log sum exp S`, each [L] fp32.
pub fn label_scores(queries: &Tensor, products: &Tensor) -> Result<(Tensor, Tensor), TorchError> {
    let (mut scores, mut log_sums) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: both tensors are live and the shim checks their shape, kind and layout; on success it hands over two new
    // tensors, which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_label_scores(
            ffi::raw(queries),
            ffi::raw(products),
            &mut scores,
            &mut log_sums,
        ))?;
        Ok((Tensor::from_ptr(scores), Tensor::from_ptr(log_sums)))
    }
}

/// The backward pass of [`label_scores`], from its results and the gradient `grads` [L] of the scores: the gradients of
/// `S` and `P` as operands of matrix products of this kind. In fp32 they take the place of `queries` and `products`.
pub fn label_gradients(
    queries: Tensor,
    products: Tensor,
    scores: &Tensor,
    log_sums: &Tensor,
    grads: &Tensor,
    kind: Kind,
) -> Result<(Tensor, Tensor), TorchError> {
    let (mut by_query, mut by_product) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: all tensors are live and the shim checks their shape, kind and layout; on success it hands over two new
    // tensors, which tch frees.
    unsafe {
        ffi::check(ffi::plmicd_label_gradients(
            ffi::raw(&queries),
            ffi::raw(&products),
            ffi::raw(scores),
            ffi::raw(log_sums),
            ffi::raw(grads),
            i32::from(kind == Kind::BFloat16),
            &mut by_query,
            &mut by_product,
        ))?;
        Ok((Tensor::from_ptr(by_query), Tensor::from_ptr(by_product)))
    }
}
