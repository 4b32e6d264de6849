//! How much of the states may be kept for the backward pass.

use plmicd_nn::PlmIcd;
use plmicd_pipeline::StageContext;
use plmicd_torch::available_memory;

/// Bytes for each trained value: weight, gradient, AdamW's two moments, the best epoch's copy.
const BYTES_PER_VALUE: u64 = 20;
/// libtorch itself, the notes, and what lives between operations.
const REST: u64 = 1 << 29;
/// Of memory that is free, what is left to others.
const LEFT_FREE: u64 = 10;

/// Bounds what the model keeps by the setting `memory`, or by what is free.
pub(crate) fn bound(model: &mut PlmIcd, context: &StageContext<'_>) {
    let values: u64 = model.parameters().iter().map(|parameter| parameter.tensor.numel() as u64).sum();
    let fixed = values * BYTES_PER_VALUE + REST + model.head_bytes();
    let (least, longest) = (model.least_kept_bytes(), model.kept_bytes_of(model.config().max_length));
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let most = match context.runtime().memory.bytes() {
        Some(named) => {
            if named < fixed + least {
                context.warn(format!(
                    "memory = {:.1} is less than the {:.1} GiB that weights, gradients, optimizer and the states of one \
                     part of a batch take: keeping as little as possible",
                    gib(named),
                    gib(fixed + least)
                ));
            }
            Some(named)
        }
        // The weights are there already, but for the CPU's sake that is left out.
        None => available_memory(model.device()).map(|free| free - free / LEFT_FREE),
    };
    let kept = most.map(|most| most.saturating_sub(fixed));
    model.set_kept_bytes(kept);
    if let Some(kept) = kept.filter(|&kept| kept < longest) {
        context.note(format!(
            "memory: {:.1} GiB for encoder states; a note of {} tokens has {:.1} GiB, and what does not fit is computed \
             twice",
            gib(kept),
            model.config().max_length,
            gib(longest)
        ));
    }
}
