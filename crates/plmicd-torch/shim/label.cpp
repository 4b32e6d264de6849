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

PLMICD_INLINE Floats some(const float *from, int64_t count, float rest) {
  return count == kLanes ? simd::load(from) : simd::load_some(from, count, rest);
}

// scores[row] = sum softmax(s) * p; log_sums[row] = log sum exp(s).
PLMICD_CLONES void scores_of(const float *queries, const float *products, int64_t first, int64_t last,
                             int64_t tokens, float *scores, float *log_sums) {
  const float lowest = -std::numeric_limits<float>::infinity();
  for (int64_t row = first; row < last; ++row) {
    const float *s = queries + row * tokens;
    const float *p = products + row * tokens;
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

// dP = g A and dS = dP (p - score), with A = exp(s - log_sum); they may lie where p and s do.
template <typename E>
PLMICD_INLINE void gradients_body(const float *queries, const float *products, int64_t first, int64_t last,
                                  int64_t tokens, const float *scores, const float *log_sums, const float *grads,
                                  E *grad_queries, E *grad_products) {
  for (int64_t row = first; row < last; ++row) {
    const int64_t at = row * tokens;
    const float shift = log_sums[row], score = scores[row], grad = grads[row];
    for (int64_t j = at; j < at + tokens; j += kLanes) {
      const int64_t count = std::min(kLanes, at + tokens - j);
      const Floats product = some(products + j, count, 0.0f);
      const Floats own = simd::exp(some(queries + j, count, 0.0f) - shift) * grad;
      if (count == kLanes) {
        simd::store(grad_products + j, own);
        simd::store(grad_queries + j, own * (product - score));
      } else {
        simd::store_some(grad_products + j, own, count);
        simd::store_some(grad_queries + j, own * (product - score), count);
      }
    }
  }
}

PLMICD_CLONES void gradients_of(const float *queries, const float *products, int64_t first, int64_t last,
                                int64_t tokens, const float *scores, const float *log_sums, const float *grads,
                                float *grad_queries, float *grad_products) {
  gradients_body(queries, products, first, last, tokens, scores, log_sums, grads, grad_queries, grad_products);
}

PLMICD_CLONES void gradients_of(const float *queries, const float *products, int64_t first, int64_t last,
                                int64_t tokens, const float *scores, const float *log_sums, const float *grads,
                                uint16_t *grad_queries, uint16_t *grad_products) {
  gradients_body(queries, products, first, last, tokens, scores, log_sums, grads, grad_queries, grad_products);
}

void check_block(const at::Tensor &queries, const at::Tensor &products) {
  TORCH_CHECK(queries.is_cpu() && queries.dim() == 2 && queries.is_contiguous() && products.is_contiguous() &&
                  queries.sizes() == products.sizes() && queries.scalar_type() == at::kFloat &&
                  products.scalar_type() == at::kFloat,
              "expected two contiguous matrices of floats of one shape on the CPU");
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
      scores_of(queries->const_data_ptr<float>(), products->const_data_ptr<float>(), begin, end, tokens, to, sums);
    });
    *scores = new at::Tensor(score);
    *log_sums = new at::Tensor(log_sum);
  });
}

// In place where the gradients are wanted as floats, else in bf16.
char *plmicd_label_gradients(tensor queries, tensor products, tensor scores, tensor log_sums, tensor grads,
                             int32_t low, tensor *grad_queries, tensor *grad_products) {
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
    at::Tensor by_query = *queries, by_product = *products;
    if (low != 0) {
      by_query = at::empty(queries->sizes(), at::kBFloat16);
      by_product = at::empty(queries->sizes(), at::kBFloat16);
    }
    void *to_queries = by_query.mutable_data_ptr(), *to_products = by_product.mutable_data_ptr();
    const float *s = queries->const_data_ptr<float>(), *p = products->const_data_ptr<float>();
    at::parallel_for(0, labels, kRows, [&](int64_t begin, int64_t end) {
      if (low != 0) {
        gradients_of(s, p, begin, end, tokens, score, sums, grad, static_cast<uint16_t *>(to_queries),
                     static_cast<uint16_t *>(to_products));
      } else {
        gradients_of(s, p, begin, end, tokens, score, sums, grad, static_cast<float *>(to_queries),
                     static_cast<float *>(to_products));
      }
    });
    *grad_queries = new at::Tensor(by_query);
    *grad_products = new at::Tensor(by_product);
  });
}
}
