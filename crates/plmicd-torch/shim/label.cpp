// Label attention between its matrix products, for a block of labels of one note: one pass over the scores forward, one
// backward. A row (a label) stays in cache while it is read twice.
#include "shim.h"
#include "simd.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

namespace {

using simd::Floats;
using simd::kLanes;

// Rows handled by one thread at a time, at least.
constexpr int64_t kRows = 4;

template <typename E>
PLMICD_INLINE Floats some(const E *from, int64_t count, float rest) {
  return count == kLanes ? simd::load(from) : simd::load_some(from, count, rest);
}

// scores[row] = sum softmax(s) * p; log_sums[row] = log sum exp(s).
template <typename E>
PLMICD_INLINE void scores_body(const E *queries, const E *products, int64_t first, int64_t last, int64_t tokens,
                               float *scores, float *log_sums) {
  const float lowest = -std::numeric_limits<float>::infinity();
  for (int64_t row = first; row < last; ++row) {
    const E *s = queries + row * tokens;
    const E *p = products + row * tokens;
    Floats most = simd::all(lowest);
    for (int64_t j = 0; j < tokens; j += kLanes) {
      most = simd::larger(most, some(s + j, std::min(kLanes, tokens - j), lowest));
    }
    const float shift = simd::largest(most);
    Floats total = simd::all(0.0f), weighted = simd::all(0.0f);
    for (int64_t j = 0; j < tokens; j += kLanes) {
      const int64_t count = std::min(kLanes, tokens - j);
      const Floats weight = simd::exp(some(s + j, count, lowest) - shift);
      total += weight;
      weighted += weight * some(p + j, count, 0.0f);
    }
    const float sum = simd::sum(total);
    scores[row] = simd::sum(weighted) / sum;
    log_sums[row] = shift + std::log(sum);
  }
}

PLMICD_CLONES void scores_of(const float *queries, const float *products, int64_t first, int64_t last,
                             int64_t tokens, float *scores, float *log_sums) {
  scores_body(queries, products, first, last, tokens, scores, log_sums);
}

PLMICD_CLONES void scores_of(const uint16_t *queries, const uint16_t *products, int64_t first, int64_t last,
                             int64_t tokens, float *scores, float *log_sums) {
  scores_body(queries, products, first, last, tokens, scores, log_sums);
}

// In place: p becomes dP = g A, s becomes dS = dP (p - score), with A = exp(s - log_sum).
template <typename E>
PLMICD_INLINE void gradients_body(E *queries, E *products, int64_t first, int64_t last, int64_t tokens,
                                  const float *scores, const float *log_sums, const float *grads) {
  for (int64_t row = first; row < last; ++row) {
    E *s = queries + row * tokens;
    E *p = products + row * tokens;
    const float shift = log_sums[row], score = scores[row], grad = grads[row];
    for (int64_t j = 0; j < tokens; j += kLanes) {
      const int64_t count = std::min(kLanes, tokens - j);
      const Floats product = some(p + j, count, 0.0f);
      const Floats own = simd::exp(some(s + j, count, 0.0f) - shift) * grad;
      if (count == kLanes) {
        simd::store(p + j, own);
        simd::store(s + j, own * (product - score));
      } else {
        simd::store_some(p + j, own, count);
        simd::store_some(s + j, own * (product - score), count);
      }
    }
  }
}

PLMICD_CLONES void gradients_of(float *queries, float *products, int64_t first, int64_t last, int64_t tokens,
                                const float *scores, const float *log_sums, const float *grads) {
  gradients_body(queries, products, first, last, tokens, scores, log_sums, grads);
}

PLMICD_CLONES void gradients_of(uint16_t *queries, uint16_t *products, int64_t first, int64_t last,
                                int64_t tokens, const float *scores, const float *log_sums, const float *grads) {
  gradients_body(queries, products, first, last, tokens, scores, log_sums, grads);
}

void check_block(const at::Tensor &queries, const at::Tensor &products) {
  TORCH_CHECK(queries.is_cpu() && queries.dim() == 2 && queries.is_contiguous() && products.is_contiguous() &&
                  queries.sizes() == products.sizes() && queries.scalar_type() == products.scalar_type(),
              "expected two contiguous matrices of one shape on the CPU");
  TORCH_CHECK(queries.scalar_type() == at::kFloat || queries.scalar_type() == at::kBFloat16,
              "expected float or bfloat16");
}

}  // namespace

extern "C" {

char *plmicd_label_scores(tensor queries, tensor products, tensor *scores, tensor *log_sums) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    check_block(*queries, *products);
    const int64_t labels = queries->size(0), tokens = queries->size(1);
    at::Tensor score = at::empty({labels}, at::kFloat), log_sum = at::empty({labels}, at::kFloat);
    float *to = score.mutable_data_ptr<float>(), *sums = log_sum.mutable_data_ptr<float>();
    at::parallel_for(0, labels, kRows, [&](int64_t begin, int64_t end) {
      if (queries->scalar_type() == at::kFloat) {
        scores_of(queries->const_data_ptr<float>(), products->const_data_ptr<float>(), begin, end, tokens, to,
                  sums);
      } else {
        scores_of(static_cast<const uint16_t *>(queries->const_data_ptr()),
                  static_cast<const uint16_t *>(products->const_data_ptr()), begin, end, tokens, to, sums);
      }
    });
    *scores = new at::Tensor(score);
    *log_sums = new at::Tensor(log_sum);
  });
}

char *plmicd_label_gradients(tensor queries, tensor products, tensor scores, tensor log_sums, tensor grads) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    check_block(*queries, *products);
    const int64_t labels = queries->size(0), tokens = queries->size(1);
    for (const tensor row : {scores, log_sums, grads}) {
      TORCH_CHECK(row->scalar_type() == at::kFloat && row->is_contiguous() && row->numel() == labels,
                  "expected one float per label");
    }
    const float *score = scores->const_data_ptr<float>(), *sums = log_sums->const_data_ptr<float>();
    const float *grad = grads->const_data_ptr<float>();
    at::parallel_for(0, labels, kRows, [&](int64_t begin, int64_t end) {
      if (queries->scalar_type() == at::kFloat) {
        gradients_of(queries->mutable_data_ptr<float>(), products->mutable_data_ptr<float>(), begin, end,
                     tokens, score, sums, grad);
      } else {
        gradients_of(static_cast<uint16_t *>(queries->mutable_data_ptr()),
                     static_cast<uint16_t *>(products->mutable_data_ptr()), begin, end, tokens, score, sums,
                     grad);
      }
    });
  });
}
}
