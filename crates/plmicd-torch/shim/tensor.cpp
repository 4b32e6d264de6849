// Gradients: what tch lacks of autograd's interface.
#include "shim.h"

#include <torch/csrc/autograd/autograd.h>

extern "C" {

char *plmicd_set_grad(tensor parameter, tensor gradient) {
  return guarded([&] { parameter->mutable_grad() = *gradient; });
}

char *plmicd_backward(tensor root, tensor gradient) {
  return guarded([&] { torch::autograd::backward({*root}, {*gradient}); });
}
}
