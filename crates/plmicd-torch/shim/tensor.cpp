// What tch lacks of tensors: parts of autograd's interface, and copies that nobody waits for.
#include "shim.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

extern "C" {

char *plmicd_set_grad(tensor parameter, tensor gradient) {
  return guarded([&] { parameter->mutable_grad() = *gradient; });
}

// From pinned memory, when the GPU comes to it; libtorch keeps that memory until then. tch's `pin_memory` has to be given a
// device, of which libtorch warns.
char *plmicd_to_gpu(tensor x, int64_t index, tensor *out) {
  return guarded([&] {
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    *out = new at::Tensor(x->pin_memory().to(device, x->scalar_type(), /*non_blocking=*/true, /*copy=*/false));
  });
}

char *plmicd_backward(tensor root, tensor gradient) {
  return guarded([&] { torch::autograd::backward({*root}, {*gradient}); });
}
}
