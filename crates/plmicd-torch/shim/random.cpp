// Random numbers that depend on a given seed alone, never on libtorch's generator of the process: whatever
// other threads draw, the same seed gives the same bytes.
#include "shim.h"
#include "simd.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

constexpr int64_t kGrain = 1 << 14;

// Both loops: elements are counted from `first`, the number of the tensor's first element.
PLMICD_CLONES void drop_float(const float *x, float *y, int64_t first, int64_t begin, int64_t end,
                              uint32_t threshold, float scale, uint32_t low, uint32_t high) {
  for (int64_t i = begin; i < end; ++i) {
    const float kept = x[i - first] * scale;
    y[i - first] = simd::mixed(static_cast<uint32_t>(i), low, high) >= threshold ? kept : 0.0f;
  }
}

// bfloat16 is the upper half of a float; rounded to nearest even, as libtorch does.
PLMICD_CLONES void drop_bfloat16(const uint16_t *x, uint16_t *y, int64_t first, int64_t begin, int64_t end,
                                 uint32_t threshold, float scale, uint32_t low, uint32_t high) {
  for (int64_t i = begin; i < end; ++i) {
    const uint32_t bits = static_cast<uint32_t>(x[i - first]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    value *= scale;
    uint32_t out;
    std::memcpy(&out, &value, sizeof out);
    out = (out + 0x7fffu + ((out >> 16) & 1u)) >> 16;
    y[i - first] = simd::mixed(static_cast<uint32_t>(i), low, high) >= threshold ? static_cast<uint16_t>(out) : 0;
  }
}

// Zeroes a share `p` of the elements and scales the others by 1 / (1 - p). Which ones depends on the seed
// and an element's number alone, counted from `first`.
at::Tensor drop_cpu(const at::Tensor &input, double p, uint64_t seed, int64_t first) {
  const at::Tensor x = input.contiguous();
  at::Tensor y = at::empty_like(x);
  const auto threshold = static_cast<uint32_t>(p * 4294967296.0);
  const auto scale = static_cast<float>(1.0 / (1.0 - p));
  at::parallel_for(first, first + x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    // One stretch of 2^32 indices after the other; each has its own upper half.
    while (begin < end) {
      const int64_t stretch = begin >> 32;
      const int64_t stop = std::min(end, (stretch + 1) << 32);
      const auto low = static_cast<uint32_t>(seed);
      const auto high = static_cast<uint32_t>(seed >> 32) + static_cast<uint32_t>(stretch) * 0x632be59bu;
      if (x.scalar_type() == at::kBFloat16) {
        drop_bfloat16(static_cast<const uint16_t *>(x.const_data_ptr()),
                      static_cast<uint16_t *>(y.mutable_data_ptr()), first, begin, stop, threshold, scale,
                      low, high);
      } else {
        drop_float(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), first, begin, stop, threshold,
                   scale, low, high);
      }
      begin = stop;
    }
  });
  return y;
}

// On the CPU: the backward pass draws the same mask again instead of keeping it.
struct Dropout : public torch::autograd::Function<Dropout> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &x, double p,
                            int64_t seed, int64_t first) {
    context->saved_data["p"] = p;
    context->saved_data["seed"] = seed;
    context->saved_data["first"] = first;
    return drop_cpu(x, p, static_cast<uint64_t>(seed), first);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list gradients) {
    const at::Tensor out = drop_cpu(gradients[0], context->saved_data["p"].toDouble(),
                                    static_cast<uint64_t>(context->saved_data["seed"].toInt()),
                                    context->saved_data["first"].toInt());
    return {out, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

void seed_generator(const at::Device &device, uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seed);
}

}  // namespace

extern "C" {

// Fills a CPU tensor from a normal distribution.
char *plmicd_fill_normal(tensor out, double mean, double standard_deviation, uint64_t seed) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    out->normal_(mean, standard_deviation, at::detail::createCPUGenerator(seed));
  });
}

// Of the GPU `index`, or of the CPU where it is negative.
char *plmicd_seed_generator(int64_t index, uint64_t seed) {
  return guarded([&] {
    const at::Device device = index < 0 ? at::Device(at::kCPU)
                                        : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    seed_generator(device, seed);
  });
}

char *plmicd_dropout(tensor x, double p, uint64_t seed, int64_t first, tensor *out) {
  return guarded([&] {
    TORCH_CHECK(!x->is_cpu() || x->scalar_type() == at::kFloat || x->scalar_type() == at::kBFloat16,
                "dropout on the CPU takes float or bfloat16");
    if (x->is_cpu()) {
      *out = new at::Tensor(Dropout::apply(*x, p, static_cast<int64_t>(seed), first));
      return;
    }
    // One kernel, which keeps a byte for each element.
    seed_generator(x->device(), seed);
    *out = new at::Tensor(std::get<0>(at::native_dropout(*x, p, true)));
  });
}
}
