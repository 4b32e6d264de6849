// What the fused parts of a transformer layer are called with. Mirrored in src/layer.rs.
#pragma once

#include "shim.h"
#include "simd.h"

extern "C" {
// One call of self-attention.
struct plmicd_attention_call {
  const int64_t *bounds;  // segments + 1 row numbers: segment i has the rows from bounds[i] to bounds[i + 1]
  int64_t segments;
  int64_t heads;
  double p;  // dropout of the attention weights
  uint64_t seed;
  int64_t first_segment;  // number of the first segment in the batch, for what is dropped
  int32_t narrow_products;  // multiply bf16 as such, not widened to fp32
};

// Projections of the same rows, side by side.
struct plmicd_projections {
  int64_t count;
  tensor *weights;  // fp32, [outputs, inputs] each
  tensor *biases;  // fp32, or null
  tensor low_weight;  // all weights one above the other in bf16, where the rows are bf16
  tensor low_bias;  // or null
};

// Two projections with GELU between them; the second without bias.
struct plmicd_feed_forward {
  tensor first;
  tensor bias;
  tensor second;
  tensor first_low;  // where the rows are bf16
  tensor second_low;
};

// LayerNorm(residual + dropout(x + bias)).
struct plmicd_norm_call {
  tensor bias;
  tensor gamma;
  tensor beta;
  double epsilon;
  double p;
  uint64_t seed;
  int64_t first_row;  // number of the first row in the batch, for what is dropped
  int32_t low;  // also give the result in bf16
};
}
