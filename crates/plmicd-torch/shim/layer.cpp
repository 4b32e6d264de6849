// The rest of a transformer layer on the CPU: projections, the feed-forward part, dropout with residual and LayerNorm.
// Each is one node of autograd's graph that adds the gradients of its weights to their `.grad` itself, so that no
// gradient of a weight is made only to be added.
#include "layer.h"
#include "product.h"

#include <cmath>
#include <functional>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using simd::Floats;
using simd::kLanes;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows whose sums over columns are made together: the same bytes whatever the number of threads.
constexpr int64_t kRowBlock = 64;

// Frozen parameters take none.
bool is_trained(const at::Tensor &parameter) { return parameter.requires_grad(); }

at::Tensor grad_of(const at::Tensor &parameter) {
  if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter);
  return parameter.grad();
}

// `.grad += a b`, in fp32 whatever the product is computed in.
void add_to_grad(const at::Tensor &parameter, const at::Tensor &a, const at::Tensor &b) {
  if (is_trained(parameter)) add_product(grad_of(parameter), a, b);
}

// `.grad +=` the sum of partial sums [blocks, columns], in the order of the blocks.
PLMICD_CLONES void add_rows(const float *partial, int64_t blocks, int64_t columns, float *grad) {
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t j = 0; j < columns; ++j) grad[j] += partial[block * columns + j];
  }
}

void add_partial(const float *partial, int64_t blocks, int64_t columns, const at::Tensor &parameter) {
  if (!is_trained(parameter)) return;
  at::Tensor grad = grad_of(parameter);
  add_rows(partial, blocks, columns, grad.mutable_data_ptr<float>());
}

int64_t blocks_of(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }

void for_blocks(int64_t rows, const std::function<void(int64_t block, int64_t first, int64_t last)> &body) {
  at::parallel_for(0, blocks_of(rows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      body(block, block * kRowBlock, std::min(rows, (block + 1) * kRowBlock));
    }
  });
}

template <typename E>
const E *data(const at::Tensor &tensor) {
  return static_cast<const E *>(tensor.const_data_ptr());
}

template <typename E>
E *mutable_data(at::Tensor &tensor) {
  return static_cast<E *>(tensor.mutable_data_ptr());
}

// ---- Sums over rows ----

template <typename E>
PLMICD_INLINE void column_sums_body(const E *x, int64_t rows, int64_t columns, float *sums) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < columns; ++j) sums[j] += simd::load_one(x + row * columns + j);
  }
}

PLMICD_CLONES void column_sums(const float *x, int64_t rows, int64_t columns, float *sums) {
  column_sums_body(x, rows, columns, sums);
}

PLMICD_CLONES void column_sums(const uint16_t *x, int64_t rows, int64_t columns, float *sums) {
  column_sums_body(x, rows, columns, sums);
}

// The sums [columns] over the rows of `x` [rows, columns], in fp32.
at::Tensor sums_over_rows(const at::Tensor &x) {
  const int64_t rows = x.size(0), columns = x.size(1);
  at::Tensor partial = at::zeros({blocks_of(rows), columns}, at::kFloat);
  float *sums = partial.mutable_data_ptr<float>();
  for_blocks(rows, [&](int64_t block, int64_t first, int64_t last) {
    float *own = sums + block * columns;
    if (x.scalar_type() == at::kFloat) {
      column_sums(data<float>(x) + first * columns, last - first, columns, own);
    } else {
      column_sums(data<uint16_t>(x) + first * columns, last - first, columns, own);
    }
  });
  at::Tensor out = at::zeros({columns}, at::kFloat);
  add_rows(sums, blocks_of(rows), columns, out.mutable_data_ptr<float>());
  return out;
}

// ---- Projections ----

// Several projections of the same rows, side by side: out = [x W1^T + b1 | x W2^T + b2 | ...].
struct Projections : public torch::autograd::Function<Projections> {
  // `tie` is the first weight: a node of the graph also where the rows need no gradient.
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &tie,
                            const plmicd_projections &call) {
    std::vector<at::Tensor> weights, biases;
    int64_t width = 0;
    for (int64_t i = 0; i < call.count; ++i) {
      weights.push_back(*call.weights[i]);
      if (call.biases != nullptr) biases.push_back(*call.biases[i]);
      width += weights.back().size(0);
    }
    at::Tensor low, out;
    if (x.scalar_type() == at::kFloat) {
      out = at::empty({x.size(0), width}, x.options());
      int64_t start = 0;
      for (int64_t i = 0; i < call.count; ++i) {
        at::Tensor part = out.narrow(1, start, weights[i].size(0));
        if (biases.empty()) {
          at::mm_out(part, x, weights[i].t());
        } else {
          at::addmm_out(part, biases[i], x, weights[i].t());
        }
        start += weights[i].size(0);
      }
    } else {
      low = *call.low_weight;
      out = call.low_bias == nullptr ? at::linear(x, low) : at::linear(x, low, *call.low_bias);
    }
    context->save_for_backward({x, low});
    context->saved_data["weights"] = weights;
    context->saved_data["biases"] = biases;
    return out;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &low = saved[1];
    const auto weights = context->saved_data["weights"].toTensorVector();
    const auto biases = context->saved_data["biases"].toTensorVector();
    const at::Tensor grad = gradients[0].contiguous();
    at::Tensor grad_x;
    const bool is_wanted = context->needs_input_grad(0);
    if (low.defined() && is_wanted) grad_x = at::mm(grad, low);
    int64_t start = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const at::Tensor part = grad.narrow(1, start, weights[i].size(0));
      if (low.defined() || !is_wanted) {
        // Done, or for nothing.
      } else if (i == 0) {
        grad_x = at::mm(part, weights[i]);
      } else {
        grad_x.addmm_(part, weights[i]);
      }
      add_to_grad(weights[i], part.t(), x);
      start += weights[i].size(0);
    }
    if (!biases.empty()) {
      const at::Tensor sums = sums_over_rows(grad);
      start = 0;
      for (const at::Tensor &bias : biases) {
        if (is_trained(bias)) grad_of(bias).add_(sums.narrow(0, start, bias.size(0)));
        start += bias.size(0);
      }
    }
    return {grad_x, at::Tensor(), at::Tensor()};
  }
};

// ---- GELU between two projections ----

template <typename E>
PLMICD_INLINE void gelu_body(const E *in, const float *bias, E *out, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    const E *x = in + row * columns;
    E *y = out + row * columns;
    int64_t j = 0;
    for (; j < columns; j += kLanes) {
      const int64_t count = std::min(kLanes, columns - j);
      const bool whole = count == kLanes;
      const Floats value = (whole ? simd::load(x + j) : simd::load_some(x + j, count, 0.0f)) +
                           (whole ? simd::load(bias + j) : simd::load_some(bias + j, count, 0.0f));
      Floats distribution, density;
      simd::normal(value, &distribution, &density);
      if (whole) {
        simd::store(y + j, value * distribution);
      } else {
        simd::store_some(y + j, value * distribution, count);
      }
    }
  }
}

PLMICD_CLONES void gelu(const float *in, const float *bias, float *out, int64_t rows, int64_t columns) {
  gelu_body(in, bias, out, rows, columns);
}

PLMICD_CLONES void gelu(const uint16_t *in, const float *bias, uint16_t *out, int64_t rows, int64_t columns) {
  gelu_body(in, bias, out, rows, columns);
}

// From the gradient of the activation, in place: that of its input. Gives the activation again, and sums of the
// gradient over the rows.
template <typename E>
PLMICD_INLINE void gelu_backward_body(const E *in, const float *bias, E *grad, E *activation, int64_t rows,
                                      int64_t columns, float *sums) {
  for (int64_t row = 0; row < rows; ++row) {
    const E *x = in + row * columns;
    E *g = grad + row * columns;
    E *y = activation + row * columns;
    for (int64_t j = 0; j < columns; j += kLanes) {
      const int64_t count = std::min(kLanes, columns - j);
      const bool whole = count == kLanes;
      const Floats value = (whole ? simd::load(x + j) : simd::load_some(x + j, count, 0.0f)) +
                           (whole ? simd::load(bias + j) : simd::load_some(bias + j, count, 0.0f));
      Floats distribution, density;
      simd::normal(value, &distribution, &density);
      const Floats incoming = whole ? simd::load(g + j) : simd::load_some(g + j, count, 0.0f);
      const Floats own = incoming * (distribution + value * density);
      if (whole) {
        simd::store(y + j, value * distribution);
        simd::store(g + j, own);
        simd::store(sums + j, simd::load(sums + j) + own);
      } else {
        simd::store_some(y + j, value * distribution, count);
        simd::store_some(g + j, own, count);
        simd::store_some(sums + j, simd::load_some(sums + j, count, 0.0f) + own, count);
      }
    }
  }
}

PLMICD_CLONES void gelu_backward(const float *in, const float *bias, float *grad, float *activation,
                                 int64_t rows, int64_t columns, float *sums) {
  gelu_backward_body(in, bias, grad, activation, rows, columns, sums);
}

PLMICD_CLONES void gelu_backward(const uint16_t *in, const float *bias, uint16_t *grad, uint16_t *activation,
                                 int64_t rows, int64_t columns, float *sums) {
  gelu_backward_body(in, bias, grad, activation, rows, columns, sums);
}

// gelu(x W1^T + b1) W2^T, without the second bias. Keeps x W1^T and computes the activation anew in the backward pass,
// where it costs nothing beside its derivative.
struct FeedForward : public torch::autograd::Function<FeedForward> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &tie,
                            const plmicd_feed_forward &call, bool keep) {
    const bool is_wide = x.scalar_type() == at::kFloat;
    const at::Tensor first = is_wide ? *call.first : *call.first_low;
    const at::Tensor second = is_wide ? *call.second : *call.second_low;
    at::Tensor before = at::mm(x, first.t());
    at::Tensor activation = keep ? at::empty_like(before) : before;
    const float *bias = data<float>(*call.bias);
    const int64_t columns = before.size(1);
    for_blocks(before.size(0), [&](int64_t, int64_t begin, int64_t end) {
      if (is_wide) {
        gelu(data<float>(before) + begin * columns, bias, mutable_data<float>(activation) + begin * columns,
             end - begin, columns);
      } else {
        gelu(data<uint16_t>(before) + begin * columns, bias,
             mutable_data<uint16_t>(activation) + begin * columns, end - begin, columns);
      }
    });
    const at::Tensor out = at::mm(activation, second.t());
    if (keep) {
      context->save_for_backward({x, before, first, second});
      context->saved_data["weights"] = std::vector<at::Tensor>{*call.first, *call.bias, *call.second};
    }
    return out;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &before = saved[1], &first = saved[2], &second = saved[3];
    const auto weights = context->saved_data["weights"].toTensorVector();
    const at::Tensor grad = gradients[0].contiguous();
    at::Tensor inner = at::mm(grad, second);
    at::Tensor activation = at::empty_like(before);
    const float *bias = data<float>(weights[1]);
    const int64_t rows = before.size(0), columns = before.size(1);
    at::Tensor partial = at::zeros({blocks_of(rows), columns}, at::kFloat);
    float *sums = partial.mutable_data_ptr<float>();
    for_blocks(rows, [&](int64_t block, int64_t begin, int64_t end) {
      const int64_t at = begin * columns;
      if (before.scalar_type() == at::kFloat) {
        gelu_backward(data<float>(before) + at, bias, mutable_data<float>(inner) + at,
                      mutable_data<float>(activation) + at, end - begin, columns, sums + block * columns);
      } else {
        gelu_backward(data<uint16_t>(before) + at, bias, mutable_data<uint16_t>(inner) + at,
                      mutable_data<uint16_t>(activation) + at, end - begin, columns, sums + block * columns);
      }
    });
    add_partial(sums, blocks_of(rows), columns, weights[1]);
    add_to_grad(weights[2], grad.t(), activation);
    add_to_grad(weights[0], inner.t(), x);
    const at::Tensor grad_x = context->needs_input_grad(0) ? at::mm(inner, first) : at::Tensor();
    return {grad_x, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// ---- Dropout, residual, LayerNorm ----

// sum = residual + dropped(x + bias); out = LayerNorm(sum) * gamma + beta. `statistics` takes mean and 1 / deviation.
template <typename E>
PLMICD_INLINE void norm_body(const E *in, const float *bias, const float *residual, const float *gamma,
                             const float *beta, int64_t first, int64_t last, int64_t columns, float epsilon,
                             const Dropping &drop, int64_t first_row, float *sums, float *out, uint16_t *low,
                             float *statistics) {
  const int64_t whole = columns / kLanes * kLanes;
  for (int64_t row = first; row < last; ++row) {
    const E *x = in + row * columns;
    const float *r = residual + row * columns;
    float *s = sums + row * columns;
    const Dropping own = drop.part(static_cast<uint64_t>(first_row + row));
    Floats total = simd::all(0.0f);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats value = (simd::load(x + j) + simd::load(bias + j)) * kept(own, static_cast<uint32_t>(j)) +
                           simd::load(r + j);
      simd::store(s + j, value);
      total += value;
    }
    if (whole < columns) {
      const int64_t count = columns - whole;
      const Floats value =
          (simd::load_some(x + whole, count, 0.0f) + simd::load_some(bias + whole, count, 0.0f)) *
              kept(own, static_cast<uint32_t>(whole)) +
          simd::load_some(r + whole, count, 0.0f);
      simd::store_some(s + whole, value, count);
      total += simd::load_some(s + whole, count, 0.0f);
    }
    const float mean = simd::sum(total) / static_cast<float>(columns);
    Floats squares = simd::all(0.0f);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats off = simd::load(s + j) - mean;
      squares += off * off;
    }
    if (whole < columns) {
      const Floats off = simd::load_some(s + whole, columns - whole, mean) - mean;
      squares += off * off;
    }
    const float inverse = 1.0f / std::sqrt(simd::sum(squares) / static_cast<float>(columns) + epsilon);
    statistics[2 * row] = mean;
    statistics[2 * row + 1] = inverse;
    float *y = out + row * columns;
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats value =
          (simd::load(s + j) - mean) * inverse * simd::load(gamma + j) + simd::load(beta + j);
      simd::store(y + j, value);
      if (low != nullptr) simd::store(low + row * columns + j, value);
    }
    for (int64_t j = whole; j < columns; ++j) {
      const float value = (s[j] - mean) * inverse * gamma[j] + beta[j];
      y[j] = value;
      if (low != nullptr) simd::store_one(low + row * columns + j, value);
    }
  }
}

PLMICD_CLONES void norm(const float *in, const float *bias, const float *residual, const float *gamma,
                        const float *beta, int64_t first, int64_t last, int64_t columns, float epsilon,
                        const Dropping &drop, int64_t first_row, float *sums, float *out, uint16_t *low,
                        float *statistics) {
  norm_body(in, bias, residual, gamma, beta, first, last, columns, epsilon, drop, first_row, sums, out, low,
            statistics);
}

PLMICD_CLONES void norm(const uint16_t *in, const float *bias, const float *residual, const float *gamma,
                        const float *beta, int64_t first, int64_t last, int64_t columns, float epsilon,
                        const Dropping &drop, int64_t first_row, float *sums, float *out, uint16_t *low,
                        float *statistics) {
  norm_body(in, bias, residual, gamma, beta, first, last, columns, epsilon, drop, first_row, sums, out, low,
            statistics);
}

// From the gradients of the result (fp32, bf16 or both): those of the residual and of the dropped input, and sums over
// the rows for gamma, beta and bias. Columns beyond the last whole vector are handled one at a time.
template <typename E>
PLMICD_INLINE void norm_backward_body(const float *sums, const float *statistics, const float *gamma,
                                      const float *grad, const uint16_t *grad_low, int64_t first, int64_t last,
                                      int64_t columns, const Dropping &drop, int64_t first_row,
                                      float *grad_residual, E *grad_in, float *gamma_sums, float *beta_sums,
                                      float *bias_sums) {
  const int64_t whole = columns / kLanes * kLanes, rest = columns - whole;
  for (int64_t row = first; row < last; ++row) {
    const int64_t at = row * columns;
    const float mean = statistics[2 * row], inverse = statistics[2 * row + 1];
    const Dropping own = drop.part(static_cast<uint64_t>(first_row + row));
    const auto incoming = [&](int64_t j, int64_t count) __attribute__((always_inline)) {
      Floats value = simd::all(0.0f);
      if (count == kLanes) {
        if (grad != nullptr) value += simd::load(grad + at + j);
        if (grad_low != nullptr) value += simd::load(grad_low + at + j);
      } else {
        if (grad != nullptr) value += simd::load_some(grad + at + j, count, 0.0f);
        if (grad_low != nullptr) value += simd::load_some(grad_low + at + j, count, 0.0f);
      }
      return value;
    };
    Floats total = simd::all(0.0f), products = simd::all(0.0f);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats g = incoming(j, kLanes);
      const Floats normal = (simd::load(sums + at + j) - mean) * inverse;
      simd::store(gamma_sums + j, simd::load(gamma_sums + j) + g * normal);
      simd::store(beta_sums + j, simd::load(beta_sums + j) + g);
      const Floats scaled = g * simd::load(gamma + j);
      total += scaled;
      products += scaled * normal;
    }
    if (rest > 0) {
      const Floats g = incoming(whole, rest);
      const Floats normal = (simd::load_some(sums + at + whole, rest, mean) - mean) * inverse;
      simd::store_some(gamma_sums + whole, simd::load_some(gamma_sums + whole, rest, 0.0f) + g * normal, rest);
      simd::store_some(beta_sums + whole, simd::load_some(beta_sums + whole, rest, 0.0f) + g, rest);
      const Floats scaled = g * simd::load_some(gamma + whole, rest, 0.0f);
      total += scaled;
      products += scaled * normal;
    }
    const float mean_total = simd::sum(total) / static_cast<float>(columns);
    const float mean_product = simd::sum(products) / static_cast<float>(columns);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats normal = (simd::load(sums + at + j) - mean) * inverse;
      const Floats scaled = incoming(j, kLanes) * simd::load(gamma + j);
      const Floats own_grad = (scaled - mean_total - normal * mean_product) * inverse;
      const Floats dropped = own_grad * kept(own, static_cast<uint32_t>(j));
      simd::store(grad_residual + at + j, own_grad);
      simd::store(grad_in + at + j, dropped);
      simd::store(bias_sums + j, simd::load(bias_sums + j) + dropped);
    }
    if (rest > 0) {
      const Floats normal = (simd::load_some(sums + at + whole, rest, mean) - mean) * inverse;
      const Floats scaled = incoming(whole, rest) * simd::load_some(gamma + whole, rest, 0.0f);
      const Floats own_grad = (scaled - mean_total - normal * mean_product) * inverse;
      const Floats dropped = own_grad * kept(own, static_cast<uint32_t>(whole));
      simd::store_some(grad_residual + at + whole, own_grad, rest);
      simd::store_some(grad_in + at + whole, dropped, rest);
      simd::store_some(bias_sums + whole, simd::load_some(bias_sums + whole, rest, 0.0f) + dropped, rest);
    }
  }
}

PLMICD_CLONES void norm_backward(const float *sums, const float *statistics, const float *gamma,
                                 const float *grad, const uint16_t *grad_low, int64_t first, int64_t last,
                                 int64_t columns, const Dropping &drop, int64_t first_row, float *grad_residual,
                                 float *grad_in, float *gamma_sums, float *beta_sums, float *bias_sums) {
  norm_backward_body(sums, statistics, gamma, grad, grad_low, first, last, columns, drop, first_row,
                     grad_residual, grad_in, gamma_sums, beta_sums, bias_sums);
}

PLMICD_CLONES void norm_backward(const float *sums, const float *statistics, const float *gamma,
                                 const float *grad, const uint16_t *grad_low, int64_t first, int64_t last,
                                 int64_t columns, const Dropping &drop, int64_t first_row, float *grad_residual,
                                 uint16_t *grad_in, float *gamma_sums, float *beta_sums, float *bias_sums) {
  norm_backward_body(sums, statistics, gamma, grad, grad_low, first, last, columns, drop, first_row,
                     grad_residual, grad_in, gamma_sums, beta_sums, bias_sums);
}

struct Norm : public torch::autograd::Function<Norm> {
  static variable_list forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &residual,
                               const at::Tensor &tie, const plmicd_norm_call &call, bool keep) {
    const int64_t rows = x.size(0), columns = x.size(1);
    at::Tensor out = at::empty_like(residual);
    // Where nothing is kept the sums may lie where the result will.
    at::Tensor sums = keep ? at::empty_like(residual) : out;
    at::Tensor statistics = at::empty({rows, 2}, residual.options());
    at::Tensor low;
    if (call.low != 0) low = at::empty(residual.sizes(), residual.options().dtype(at::kBFloat16));
    const float *bias = data<float>(*call.bias), *gamma = data<float>(*call.gamma);
    const float *beta = data<float>(*call.beta), *r = data<float>(residual);
    float *s = mutable_data<float>(sums), *y = mutable_data<float>(out);
    float *stats = mutable_data<float>(statistics);
    uint16_t *narrow = low.defined() ? mutable_data<uint16_t>(low) : nullptr;
    const Dropping drop(call.p, call.seed);
    const auto epsilon = static_cast<float>(call.epsilon);
    for_blocks(rows, [&](int64_t, int64_t first, int64_t last) {
      if (x.scalar_type() == at::kFloat) {
        norm(data<float>(x), bias, r, gamma, beta, first, last, columns, epsilon, drop, call.first_row, s, y,
             narrow, stats);
      } else {
        norm(data<uint16_t>(x), bias, r, gamma, beta, first, last, columns, epsilon, drop, call.first_row, s,
             y, narrow, stats);
      }
    });
    if (keep) {
      context->save_for_backward({sums, statistics});
      context->saved_data["weights"] = std::vector<at::Tensor>{*call.bias, *call.gamma, *call.beta};
      context->saved_data["drop"] =
          std::vector<int64_t>{static_cast<int64_t>(call.seed), call.first_row};
      context->saved_data["p"] = call.p;
      context->saved_data["wide"] = x.scalar_type() == at::kFloat;
      context->set_materialize_grads(false);
    }
    return low.defined() ? variable_list{out, low} : variable_list{out};
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &sums = saved[0], &statistics = saved[1];
    const auto weights = context->saved_data["weights"].toTensorVector();
    const auto settings = context->saved_data["drop"].toIntVector();
    const Dropping drop(context->saved_data["p"].toDouble(), static_cast<uint64_t>(settings[0]));
    const bool is_wide = context->saved_data["wide"].toBool();
    at::Tensor grad, grad_low;
    if (gradients[0].defined()) grad = gradients[0].contiguous();
    if (gradients.size() > 1 && gradients[1].defined()) grad_low = gradients[1].contiguous();
    const int64_t rows = sums.size(0), columns = sums.size(1), blocks = blocks_of(rows);
    at::Tensor grad_residual = at::empty_like(sums);
    at::Tensor grad_x = at::empty(sums.sizes(), sums.options().dtype(is_wide ? at::kFloat : at::kBFloat16));
    at::Tensor partial = at::zeros({3, blocks, columns}, at::kFloat);
    float *gamma_sums = partial.mutable_data_ptr<float>();
    float *beta_sums = gamma_sums + blocks * columns, *bias_sums = beta_sums + blocks * columns;
    const float *g = grad.defined() ? data<float>(grad) : nullptr;
    const uint16_t *gl = grad_low.defined() ? data<uint16_t>(grad_low) : nullptr;
    const float *gamma = data<float>(weights[1]), *s = data<float>(sums), *stats = data<float>(statistics);
    for_blocks(rows, [&](int64_t block, int64_t first, int64_t last) {
      float *own[3] = {gamma_sums + block * columns, beta_sums + block * columns, bias_sums + block * columns};
      if (is_wide) {
        norm_backward(s, stats, gamma, g, gl, first, last, columns, drop, settings[1],
                      mutable_data<float>(grad_residual), mutable_data<float>(grad_x), own[0], own[1], own[2]);
      } else {
        norm_backward(s, stats, gamma, g, gl, first, last, columns, drop, settings[1],
                      mutable_data<float>(grad_residual), mutable_data<uint16_t>(grad_x), own[0], own[1],
                      own[2]);
      }
    });
    const at::Tensor *parameters[3] = {&weights[1], &weights[2], &weights[0]};
    for (int i = 0; i < 3; ++i) {
      add_partial(gamma_sums + i * blocks * columns, blocks, columns, *parameters[i]);
    }
    return {grad_x, grad_residual, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

extern "C" {

char *plmicd_projections_of(tensor x, const plmicd_projections *call, tensor *out) {
  return guarded([&] { *out = new at::Tensor(Projections::apply(*x, *call->weights[0], *call)); });
}

char *plmicd_feed_forward_of(tensor x, const plmicd_feed_forward *call, tensor *out) {
  return guarded([&] {
    const bool keep = at::GradMode::is_enabled() && (x->requires_grad() || call->first->requires_grad());
    *out = new at::Tensor(FeedForward::apply(*x, *call->first, *call, keep));
  });
}

char *plmicd_norm_of(tensor x, tensor residual, const plmicd_norm_call *call, tensor *out, tensor *low) {
  return guarded([&] {
    TORCH_CHECK(residual->scalar_type() == at::kFloat && residual->sizes() == x->sizes(),
                "expected a residual in fp32 of the input's shape");
    const bool keep = at::GradMode::is_enabled() &&
                      (x->requires_grad() || residual->requires_grad() || call->gamma->requires_grad());
    const auto results = Norm::apply(*x, *residual, *call->gamma, *call, keep);
    *out = new at::Tensor(results[0]);
    if (call->low != 0) *low = new at::Tensor(results[1]);
  });
}
}
