// AdamW and the global gradient norm over flat tensors.
//
// On the CPU: plain loops. Elementwise work gives the same bytes for any number of threads; sums run
// over chunks of fixed size whose partial sums are added in order, so they do too.
// Elsewhere: libtorch's fused kernel, and nothing that waits for the device.
#include "shim.h"
#include "simd.h"

#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/GradMode.h>

namespace {

constexpr int64_t kGrain = 1 << 15;
constexpr int64_t kSumChunk = 1 << 16;
// Elements whose squares a GPU holds at a time.
constexpr int64_t kSquares = 1 << 24;

struct Constants {
  double shrink_before;  // decoupled decay of PyTorch: before the step
  double shrink_after;   // decoupled decay of Transformers 4.5: after the step
  double step_size;
  double root_scale;     // divides sqrt(v) before epsilon is added
};

Constants constants(const plmicd_adamw_step &s) {
  const double correction1 = 1.0 - std::pow(s.beta1, static_cast<double>(s.step));
  const double correction2 = 1.0 - std::pow(s.beta2, static_cast<double>(s.step));
  if (s.variant == 0) {
    return {1.0 - s.learning_rate * s.weight_decay, 1.0, s.learning_rate / correction1, std::sqrt(correction2)};
  }
  return {1.0, 1.0 - s.learning_rate * s.weight_decay,
          s.learning_rate * std::sqrt(correction2) / correction1, 1.0};
}

// The constants of a step in the numbers it is computed in.
template <typename T>
struct Rule {
  T before, after, step_size, root_scale, epsilon, beta1, beta2, rest1, rest2;

  explicit Rule(const plmicd_adamw_step &s) {
    const Constants c = constants(s);
    before = static_cast<T>(c.shrink_before), after = static_cast<T>(c.shrink_after);
    step_size = static_cast<T>(c.step_size), root_scale = static_cast<T>(c.root_scale);
    epsilon = static_cast<T>(s.epsilon);
    beta1 = static_cast<T>(s.beta1), beta2 = static_cast<T>(s.beta2);
    rest1 = static_cast<T>(1.0 - s.beta1), rest2 = static_cast<T>(1.0 - s.beta2);
  }
};

template <typename T>
PLMICD_INLINE void adamw_body(T *__restrict p, const T *__restrict g, T *__restrict m, T *__restrict v, int64_t n,
                              const Rule<T> &rule) {
  const Rule<T> r = rule;
  for (int64_t i = 0; i < n; ++i) {
    const T gradient = g[i];
    const T first = r.beta1 * m[i] + r.rest1 * gradient;
    const T second = r.beta2 * v[i] + r.rest2 * gradient * gradient;
    m[i] = first;
    v[i] = second;
    const T denominator = std::sqrt(second) / r.root_scale + r.epsilon;
    p[i] = (p[i] * r.before - r.step_size * (first / denominator)) * r.after;
  }
}

PLMICD_CLONES void adamw_part(float *p, const float *g, float *m, float *v, int64_t n, const Rule<float> &rule) {
  adamw_body(p, g, m, v, n, rule);
}

PLMICD_CLONES void adamw_part(double *p, const double *g, double *m, double *v, int64_t n,
                              const Rule<double> &rule) {
  adamw_body(p, g, m, v, n, rule);
}

template <typename T>
void adamw_cpu(T *p, const T *g, T *m, T *v, int64_t n, const plmicd_adamw_step &s) {
  const Rule<T> rule(s);
  at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    adamw_part(p + begin, g + begin, m + begin, v + begin, end - begin, rule);
  });
}

// libtorch's kernel for PyTorch's AdamW. Transformers' step is the same one with an epsilon that grows with the
// correction, lr sqrt(c2) / c1 m / (sqrt(v) + eps) = lr / c1 m / (sqrt(v) / sqrt(c2) + eps / sqrt(c2)), and a decay after it.
void adamw_fused(const at::Tensor &p, const at::Tensor &g, const at::Tensor &m, const at::Tensor &v,
                 const at::Tensor &gate, const plmicd_adamw_step &s) {
  const at::Tensor refused = gate.isfinite().logical_not();
  const at::Tensor number = at::full({}, static_cast<double>(s.step), p.options().dtype(at::kFloat));
  const bool is_torch = s.variant == 0;
  const double correction2 = 1.0 - std::pow(s.beta2, static_cast<double>(s.step));
  at::_fused_adamw_({p}, {g}, {m}, {v}, {}, {number}, s.learning_rate, s.beta1, s.beta2,
                    is_torch ? s.weight_decay : 0.0, is_torch ? s.epsilon : s.epsilon / std::sqrt(correction2),
                    /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/std::nullopt, refused.to(at::kFloat));
  if (!is_torch && s.weight_decay != 0.0) {
    const at::Tensor shrink = at::full({}, 1.0 - s.learning_rate * s.weight_decay, gate.options());
    p.mul_(at::where(refused, at::ones_like(shrink), shrink));
  }
}

template <typename T>
double sum_squares_cpu(const T *x, int64_t n) {
  const int64_t chunks = (n + kSumChunk - 1) / kSumChunk;
  std::vector<double> partial(chunks, 0.0);
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t first = chunk * kSumChunk;
      const int64_t last = std::min(first + kSumChunk, n);
      double lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
      int64_t i = first;
      for (; i + 8 <= last; i += 8) {
        for (int lane = 0; lane < 8; ++lane) {
          const double value = static_cast<double>(x[i + lane]);
          lanes[lane] += value * value;
        }
      }
      double sum = 0.0;
      for (double lane : lanes) sum += lane;
      for (; i < last; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      partial[chunk] = sum;
    }
  });
  double total = 0.0;
  for (double part : partial) total += part;
  return total;
}

}  // namespace

extern "C" {

// Does nothing where the scalar `gate` is not finite.
char *plmicd_adamw(tensor p, tensor g, tensor m, tensor v, tensor gate, const plmicd_adamw_step *step) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    if (!p->is_cpu() || step->fused != 0) {
      adamw_fused(*p, *g, *m, *v, *gate, *step);
    } else if (!std::isfinite(gate->item<double>())) {
      return;
    } else if (p->scalar_type() == at::kFloat) {
      adamw_cpu(p->mutable_data_ptr<float>(), g->const_data_ptr<float>(), m->mutable_data_ptr<float>(),
                v->mutable_data_ptr<float>(), p->numel(), *step);
    } else {
      adamw_cpu(p->mutable_data_ptr<double>(), g->const_data_ptr<double>(), m->mutable_data_ptr<double>(),
                v->mutable_data_ptr<double>(), p->numel(), *step);
    }
  });
}

// A scalar in double precision on the tensor's device.
char *plmicd_sum_squares(tensor x, tensor *out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    at::Tensor sum;
    if (!x->is_cpu()) {
      sum = at::zeros({}, x->options().dtype(at::kDouble));
      for (const at::Tensor &part : x->flatten().split(kSquares)) sum += part.to(at::kDouble).square().sum();
    } else if (x->scalar_type() == at::kFloat) {
      sum = at::scalar_tensor(sum_squares_cpu(x->const_data_ptr<float>(), x->numel()), at::kDouble);
    } else {
      sum = at::scalar_tensor(sum_squares_cpu(x->const_data_ptr<double>(), x->numel()), at::kDouble);
    }
    *out = new at::Tensor(sum);
  });
}
}
