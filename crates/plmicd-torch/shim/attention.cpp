// Multi-head self-attention of segments on the CPU, forward and backward, from one matrix of queries, keys and values.
// Scores live for one head of one segment at a time, in cache; weights and what was dropped are computed anew in the
// backward pass.
#include "blas.h"
#include "layer.h"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using simd::Floats;
using simd::kLanes;

// c = alpha a b, row-major with leading dimensions.
void product(int a_as, int b_as, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
             const float *b, int64_t ldb, float *c, int64_t ldc) {
  // Fortran's columns are our rows: c^T = b^T a^T.
  const char *a_code = a_as == kPlain ? "N" : "T", *b_code = b_as == kPlain ? "N" : "T";
  const int rows = static_cast<int>(m), columns = static_cast<int>(n), inner = static_cast<int>(k);
  const int a_stride = static_cast<int>(lda), b_stride = static_cast<int>(ldb), c_stride = static_cast<int>(ldc);
  const float zero = 0.0f;
  sgemm_(b_code, a_code, &columns, &rows, &inner, &alpha, b, &b_stride, a, &a_stride, &zero, c, &c_stride);
}

void product(int a_as, int b_as, int64_t m, int64_t n, int64_t k, float alpha, const uint16_t *a, int64_t lda,
             const uint16_t *b, int64_t ldb, float *c, int64_t ldc) {
  cblas_gemm_bf16bf16f32(kRowMajor, a_as, b_as, m, n, k, alpha, a, lda, b, ldb, 0.0f, c, ldc);
}

// Rows of scores -> attention weights, in place. `mask` is added to the scores where it is given.
PLMICD_CLONES void softmax(float *scores, const float *mask, int64_t rows, int64_t length) {
  const int64_t whole = length / kLanes * kLanes, rest = length - whole;
  const float lowest = -std::numeric_limits<float>::infinity();
  for (int64_t row = 0; row < rows; ++row) {
    float *s = scores + row * length;
    Floats most = simd::all(lowest);
    for (int64_t j = 0; j < whole; j += kLanes) {
      Floats value = simd::load(s + j);
      if (mask != nullptr) {
        value += simd::load(mask + j);
        simd::store(s + j, value);
      }
      most = simd::larger(most, value);
    }
    if (rest > 0) {
      Floats value = simd::load_some(s + whole, rest, lowest);
      if (mask != nullptr) {
        value += simd::load_some(mask + whole, rest, 0.0f);
        simd::store_some(s + whole, value, rest);
      }
      most = simd::larger(most, value);
    }
    const float shift = simd::largest(most);
    Floats total = simd::all(0.0f);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats value = simd::exp(simd::load(s + j) - shift);
      total += value;
      simd::store(s + j, value);
    }
    if (rest > 0) {
      const Floats value = simd::exp(simd::load_some(s + whole, rest, lowest) - shift);
      total += value;
      simd::store_some(s + whole, value, rest);
    }
    const float scale = 1.0f / simd::sum(total);
    for (int64_t j = 0; j < whole; j += kLanes) simd::store(s + j, simd::load(s + j) * scale);
    for (int64_t j = whole; j < length; ++j) s[j] *= scale;
  }
}

// out = dropped(in); both [count], in fp32 or bf16.
template <typename Out>
PLMICD_INLINE void drop_body(const float *in, Out *out, int64_t count, const Dropping &drop) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    simd::store(out + i, simd::load(in + i) * kept(drop, static_cast<uint32_t>(i)));
  }
  if (i < count) {
    const Floats value = simd::load_some(in + i, count - i, 0.0f) * kept(drop, static_cast<uint32_t>(i));
    simd::store_some(out + i, value, count - i);
  }
}

PLMICD_CLONES void drop_into(const float *in, float *out, int64_t count, const Dropping &drop) {
  drop_body(in, out, count, drop);
}

PLMICD_CLONES void drop_into(const float *in, uint16_t *out, int64_t count, const Dropping &drop) {
  drop_body(in, out, count, drop);
}

// The gradient of the scores from the weights and the gradient of the dropped weights:
// dS = P * (keep * dPd - sum(P * keep * dPd)).
template <typename Out>
PLMICD_INLINE void score_gradient_body(const float *weights, const float *grad, Out *out, int64_t rows,
                                       int64_t length, const Dropping &drop) {
  const int64_t whole = length / kLanes * kLanes, rest = length - whole;
  for (int64_t row = 0; row < rows; ++row) {
    const float *p = weights + row * length;
    const float *g = grad + row * length;
    Out *o = out + row * length;
    const auto first = static_cast<uint32_t>(row * length);
    Floats total = simd::all(0.0f);
    for (int64_t j = 0; j < whole; j += kLanes) {
      total += simd::load(p + j) * simd::load(g + j) * kept(drop, first + static_cast<uint32_t>(j));
    }
    if (rest > 0) {
      total += simd::load_some(p + whole, rest, 0.0f) * simd::load_some(g + whole, rest, 0.0f) *
               kept(drop, first + static_cast<uint32_t>(whole));
    }
    const float mean = simd::sum(total);
    for (int64_t j = 0; j < whole; j += kLanes) {
      const Floats own = simd::load(g + j) * kept(drop, first + static_cast<uint32_t>(j));
      simd::store(o + j, simd::load(p + j) * (own - mean));
    }
    if (rest > 0) {
      const Floats own =
          simd::load_some(g + whole, rest, 0.0f) * kept(drop, first + static_cast<uint32_t>(whole));
      simd::store_some(o + whole, simd::load_some(p + whole, rest, 0.0f) * (own - mean), rest);
    }
  }
}

PLMICD_CLONES void score_gradient(const float *weights, const float *grad, float *out, int64_t rows,
                                  int64_t length, const Dropping &drop) {
  score_gradient_body(weights, grad, out, rows, length, drop);
}

PLMICD_CLONES void score_gradient(const float *weights, const float *grad, uint16_t *out, int64_t rows,
                                  int64_t length, const Dropping &drop) {
  score_gradient_body(weights, grad, out, rows, length, drop);
}

// A block of a matrix copied together and converted.
template <typename In, typename Out>
PLMICD_INLINE void copy_body(const In *from, int64_t from_stride, Out *to, int64_t to_stride, int64_t rows,
                             int64_t columns) {
  for (int64_t row = 0; row < rows; ++row) {
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) {
      simd::store(to + row * to_stride + j, simd::load(from + row * from_stride + j));
    }
    for (; j < columns; ++j) {
      simd::store_one(to + row * to_stride + j, simd::load_one(from + row * from_stride + j));
    }
  }
}

PLMICD_CLONES void widen(const uint16_t *from, int64_t from_stride, float *to, int64_t to_stride, int64_t rows,
                         int64_t columns) {
  copy_body(from, from_stride, to, to_stride, rows, columns);
}

PLMICD_CLONES void narrow(const float *from, int64_t from_stride, uint16_t *to, int64_t to_stride, int64_t rows,
                          int64_t columns) {
  copy_body(from, from_stride, to, to_stride, rows, columns);
}

// What one call works on: rows of [queries | keys | values], in segments.
struct Work {
  std::vector<int64_t> bounds;
  int64_t heads, width, size;  // width = heads * size
  float scale;
  double p;
  uint64_t seed;
  int64_t first_segment;
  const float *mask;  // one value per row, or null

  int64_t tasks() const { return (static_cast<int64_t>(bounds.size()) - 1) * heads; }

  int64_t longest() const {
    int64_t most = 0;
    for (size_t i = 0; i + 1 < bounds.size(); ++i) most = std::max(most, bounds[i + 1] - bounds[i]);
    return most;
  }

  Dropping drop(int64_t segment, int64_t head) const {
    return Dropping(p, seed).part(static_cast<uint64_t>((first_segment + segment) * heads + head));
  }
};

// fp32, or bf16 widened to fp32 for the products: what a CPU without bf16 products does best.
template <typename E>
struct WideHead {
  const Work &work;
  int64_t longest;
  std::unique_ptr<float[]> memory;
  float *scores, *dropped, *q, *k, *v, *in, *dq, *dk, *dv;

  explicit WideHead(const Work &w) : work(w), longest(w.longest()) {
    const int64_t square = longest * longest, tile = longest * w.size;
    memory.reset(new float[2 * square + 7 * tile]);
    float *next = memory.get();
    scores = next, dropped = scores + square, q = dropped + square, k = q + tile, v = k + tile, in = v + tile;
    dq = in + tile, dk = dq + tile, dv = dk + tile;
  }

  static constexpr bool kIsWide = std::is_same_v<E, float>;

  // The tile as fp32 and its stride.
  const float *wide(const E *from, int64_t stride, float *buffer, int64_t rows, int64_t *out_stride) const {
    if constexpr (kIsWide) {
      *out_stride = stride;
      return from;
    } else {
      widen(from, stride, buffer, work.size, rows, work.size);
      *out_stride = work.size;
      return buffer;
    }
  }

  void forward(const E *qkv, E *out, int64_t segment, int64_t head) const {
    const int64_t row = work.bounds[segment], n = work.bounds[segment + 1] - row, d = work.size;
    const int64_t stride = 3 * work.width;
    const E *base = qkv + row * stride + head * d;
    int64_t sq, sk, sv;
    const float *qf = wide(base, stride, q, n, &sq);
    const float *kf = wide(base + work.width, stride, k, n, &sk);
    const float *vf = wide(base + 2 * work.width, stride, v, n, &sv);
    product(kPlain, kTransposed, n, n, d, work.scale, qf, sq, kf, sk, scores, n);
    softmax(scores, work.mask == nullptr ? nullptr : work.mask + row, n, n);
    if (work.p > 0.0) drop_into(scores, scores, n * n, work.drop(segment, head));
    E *to = out + row * work.width + head * d;
    if constexpr (kIsWide) {
      product(kPlain, kPlain, n, d, n, 1.0f, scores, n, vf, sv, to, work.width);
    } else {
      product(kPlain, kPlain, n, d, n, 1.0f, scores, n, vf, sv, in, d);
      narrow(in, d, to, work.width, n, d);
    }
  }

  void backward(const E *qkv, const E *grad, E *grad_qkv, int64_t segment, int64_t head) const {
    const int64_t row = work.bounds[segment], n = work.bounds[segment + 1] - row, d = work.size;
    const int64_t stride = 3 * work.width;
    const E *base = qkv + row * stride + head * d;
    E *to = grad_qkv + row * stride + head * d;
    int64_t sq, sk, sv, sg;
    const float *qf = wide(base, stride, q, n, &sq);
    const float *kf = wide(base + work.width, stride, k, n, &sk);
    const float *vf = wide(base + 2 * work.width, stride, v, n, &sv);
    const float *g = wide(grad + row * work.width + head * d, work.width, in, n, &sg);
    const Dropping drop = work.drop(segment, head);
    product(kPlain, kTransposed, n, n, d, work.scale, qf, sq, kf, sk, scores, n);
    softmax(scores, work.mask == nullptr ? nullptr : work.mask + row, n, n);
    const float *weights = scores;
    if (work.p > 0.0) {
      drop_into(scores, dropped, n * n, drop);
      weights = dropped;
    }
    const auto store = [&](int a_as, const float *a, int64_t lda, const float *b, int64_t ldb, float alpha,
                           float *buffer, E *place) {
      if constexpr (kIsWide) {
        product(a_as, kPlain, n, d, n, alpha, a, lda, b, ldb, place, stride);
      } else {
        product(a_as, kPlain, n, d, n, alpha, a, lda, b, ldb, buffer, d);
        narrow(buffer, d, place, stride, n, d);
      }
    };
    store(kTransposed, weights, n, g, sg, 1.0f, dv, to + 2 * work.width);
    product(kPlain, kTransposed, n, n, d, 1.0f, g, sg, vf, sv, dropped, n);
    score_gradient(scores, dropped, dropped, n, n, drop);
    store(kPlain, dropped, n, kf, sk, work.scale, dq, to);
    store(kTransposed, dropped, n, qf, sq, work.scale, dk, to + work.width);
  }
};

// bf16 products with fp32 sums, where the CPU has them.
struct NarrowHead {
  const Work &work;
  std::unique_ptr<float[]> memory;
  std::unique_ptr<uint16_t[]> low;
  float *scores, *grads, *tile;

  explicit NarrowHead(const Work &w) : work(w) {
    const int64_t n = w.longest(), square = n * n;
    memory.reset(new float[2 * square + n * w.size]);
    low.reset(new uint16_t[square]);
    scores = memory.get(), grads = scores + square, tile = grads + square;
  }

  void forward(const uint16_t *qkv, uint16_t *out, int64_t segment, int64_t head) const {
    const int64_t row = work.bounds[segment], n = work.bounds[segment + 1] - row, d = work.size;
    const int64_t stride = 3 * work.width;
    const uint16_t *base = qkv + row * stride + head * d;
    product(kPlain, kTransposed, n, n, d, work.scale, base, stride, base + work.width, stride, scores, n);
    softmax(scores, work.mask == nullptr ? nullptr : work.mask + row, n, n);
    drop_into(scores, low.get(), n * n, work.drop(segment, head));
    product(kPlain, kPlain, n, d, n, 1.0f, low.get(), n, base + 2 * work.width, stride, tile, d);
    narrow(tile, d, out + row * work.width + head * d, work.width, n, d);
  }

  void backward(const uint16_t *qkv, const uint16_t *grad, uint16_t *grad_qkv, int64_t segment,
                int64_t head) const {
    const int64_t row = work.bounds[segment], n = work.bounds[segment + 1] - row, d = work.size;
    const int64_t stride = 3 * work.width;
    const uint16_t *base = qkv + row * stride + head * d;
    const uint16_t *g = grad + row * work.width + head * d;
    uint16_t *to = grad_qkv + row * stride + head * d;
    const Dropping drop = work.drop(segment, head);
    product(kPlain, kTransposed, n, n, d, work.scale, base, stride, base + work.width, stride, scores, n);
    softmax(scores, work.mask == nullptr ? nullptr : work.mask + row, n, n);
    drop_into(scores, low.get(), n * n, drop);
    product(kTransposed, kPlain, n, d, n, 1.0f, low.get(), n, g, work.width, tile, d);
    narrow(tile, d, to + 2 * work.width, stride, n, d);
    product(kPlain, kTransposed, n, n, d, 1.0f, g, work.width, base + 2 * work.width, stride, grads, n);
    score_gradient(scores, grads, low.get(), n, n, drop);
    product(kPlain, kPlain, n, d, n, work.scale, low.get(), n, base + work.width, stride, tile, d);
    narrow(tile, d, to, stride, n, d);
    product(kTransposed, kPlain, n, d, n, work.scale, low.get(), n, base, stride, tile, d);
    narrow(tile, d, to + work.width, stride, n, d);
  }
};

template <typename Head, typename E>
void run_forward(const Work &work, const E *qkv, E *out) {
  at::parallel_for(0, work.tasks(), 1, [&](int64_t begin, int64_t end) {
    const Head head(work);
    for (int64_t task = begin; task < end; ++task) head.forward(qkv, out, task / work.heads, task % work.heads);
  });
}

template <typename Head, typename E>
void run_backward(const Work &work, const E *qkv, const E *grad, E *grad_qkv) {
  at::parallel_for(0, work.tasks(), 1, [&](int64_t begin, int64_t end) {
    const Head head(work);
    for (int64_t task = begin; task < end; ++task) {
      head.backward(qkv, grad, grad_qkv, task / work.heads, task % work.heads);
    }
  });
}

// Undefined where nothing is hidden, which autograd's inputs may not be.
struct Mask {
  at::Tensor values;
};

struct Attention : public torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &qkv,
                            const plmicd_attention_call &call, const Mask &hidden) {
    const at::Tensor &mask = hidden.values;
    const Work work = read(call, qkv, mask);
    at::Tensor out = at::empty({qkv.size(0), work.width}, qkv.options());
    if (qkv.scalar_type() == at::kFloat) {
      run_forward<WideHead<float>>(work, qkv.const_data_ptr<float>(), out.mutable_data_ptr<float>());
    } else if (call.narrow_products) {
      run_forward<NarrowHead>(work, low(qkv), low(out));
    } else {
      run_forward<WideHead<uint16_t>>(work, low(qkv), low(out));
    }
    context->save_for_backward({qkv, mask});
    const std::vector<int64_t> settings{call.heads, call.first_segment, static_cast<int64_t>(call.seed),
                                        call.narrow_products};
    context->saved_data["bounds"] = work.bounds;
    context->saved_data["settings"] = settings;
    context->saved_data["p"] = call.p;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &qkv = saved[0];
    const auto bounds = context->saved_data["bounds"].toIntVector();
    const auto settings = context->saved_data["settings"].toIntVector();
    const plmicd_attention_call call{bounds.data(),
                                     static_cast<int64_t>(bounds.size()) - 1,
                                     settings[0],
                                     context->saved_data["p"].toDouble(),
                                     static_cast<uint64_t>(settings[2]),
                                     settings[1],
                                     static_cast<int32_t>(settings[3])};
    const Work work = read(call, qkv, saved[1]);
    const at::Tensor grad = gradients[0].contiguous();
    at::Tensor grad_qkv = at::empty_like(qkv);
    if (qkv.scalar_type() == at::kFloat) {
      run_backward<WideHead<float>>(work, qkv.const_data_ptr<float>(), grad.const_data_ptr<float>(),
                                    grad_qkv.mutable_data_ptr<float>());
    } else if (call.narrow_products) {
      run_backward<NarrowHead>(work, low(qkv), low(grad), low(grad_qkv));
    } else {
      run_backward<WideHead<uint16_t>>(work, low(qkv), low(grad), low(grad_qkv));
    }
    return {grad_qkv, at::Tensor(), at::Tensor()};
  }

 private:
  static const uint16_t *low(const at::Tensor &tensor) {
    return static_cast<const uint16_t *>(tensor.const_data_ptr());
  }
  static uint16_t *low(at::Tensor &tensor) { return static_cast<uint16_t *>(tensor.mutable_data_ptr()); }

  static Work read(const plmicd_attention_call &call, const at::Tensor &qkv, const at::Tensor &mask) {
    const int64_t width = qkv.size(1) / 3, size = width / call.heads;
    return Work{std::vector<int64_t>(call.bounds, call.bounds + call.segments + 1),
                call.heads,
                width,
                size,
                static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))),
                call.p,
                call.seed,
                call.first_segment,
                mask.defined() ? mask.const_data_ptr<float>() : nullptr};
  }
};

}  // namespace

extern "C" {

int32_t plmicd_has_fused_attention() { return sgemm_ != nullptr && cblas_gemm_bf16bf16f32 != nullptr; }

char *plmicd_attention(tensor qkv, tensor mask, const plmicd_attention_call *call, tensor *out) {
  return guarded([&] {
    TORCH_CHECK(qkv->is_cpu() && qkv->is_contiguous() && qkv->dim() == 2, "expected contiguous rows on the CPU");
    TORCH_CHECK(qkv->scalar_type() == at::kFloat || qkv->scalar_type() == at::kBFloat16,
                "expected float or bfloat16");
    TORCH_CHECK(qkv->size(1) % (3 * call->heads) == 0, "expected three widths of whole heads");
    TORCH_CHECK(call->bounds[0] == 0 && call->bounds[call->segments] == qkv->size(0),
                "the segments do not cover the rows");
    for (int64_t i = 0; i < call->segments; ++i) {
      TORCH_CHECK(call->bounds[i] < call->bounds[i + 1], "a segment without rows");
    }
    const Mask hidden{mask == nullptr ? at::Tensor() : mask->contiguous()};
    TORCH_CHECK(!hidden.values.defined() ||
                    (hidden.values.scalar_type() == at::kFloat && hidden.values.numel() == qkv->size(0)),
                "expected one float of mask per row");
    *out = new at::Tensor(Attention::apply(*qkv, *call, hidden));
  });
}
}
