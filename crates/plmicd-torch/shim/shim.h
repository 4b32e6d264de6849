// The C face of the shim. Every function returns null on success, or a message that the caller
// frees with plmicd_free. Tensors are tch's: pointers to at::Tensor, never owned here.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

#include <ATen/core/Tensor.h>

using tensor = at::Tensor *;

extern "C" {
// Settings of one AdamW step; mirrored by `RawAdamW` in src/optimizer.rs.
struct plmicd_adamw_step {
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  double weight_decay;
  int64_t step;  // 1 for the first
  int32_t variant;  // 0: PyTorch's, 1: Transformers 4.5's
  int32_t fused;    // libtorch's kernel, as always on a GPU, also on the CPU
};
}

// Runs `body`, turning an exception into a message.
template <typename F>
char *guarded(F &&body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}
