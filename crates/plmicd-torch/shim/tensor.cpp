// What tch lacks of tensors: parts of autograd's interface, and copies that nobody waits for.
#include "shim.h"

#include <memory>
#include <optional>

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
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

// A copy on the CPU of what a tensor holds once its device comes to this point of its queue.
struct plmicd_fetch {
  at::Tensor values;
  std::optional<c10::Event> arrived;
};

char *plmicd_fetch_begin(tensor x, plmicd_fetch **out) {
  return guarded([&] {
    const c10::NoGradGuard no_grad;
    auto fetch = std::make_unique<plmicd_fetch>();
    if (x->is_cpu()) {
      fetch->values = x->detach();
    } else {
      const c10::DeviceGuard on(x->device());
      const c10::impl::VirtualGuardImpl device(x->device().type());
      fetch->values = at::empty(x->sizes(), x->options().device(at::kCPU).pinned_memory(true));
      fetch->values.copy_(*x, /*non_blocking=*/true);
      fetch->arrived.emplace(x->device().type());
      fetch->arrived->record(device.getStream(x->device()));
    }
    *out = fetch.release();
  });
}

// Waits for the copy alone, not for what was queued after it.
char *plmicd_fetch_end(plmicd_fetch *fetch, tensor *out) {
  return guarded([&] {
    if (fetch->arrived) fetch->arrived->synchronize();
    *out = new at::Tensor(fetch->values);
  });
}

void plmicd_fetch_free(plmicd_fetch *fetch) { delete fetch; }

char *plmicd_backward(tensor root, tensor gradient) {
  return guarded([&] { torch::autograd::backward({*root}, {*gradient}); });
}
}
