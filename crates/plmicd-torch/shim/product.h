// Matrix products in fp32 and products that are added to a sum in fp32, whatever is multiplied.
#pragma once

#include "shim.h"

// `sum += a b` on matrices; `sum` fp32, `a` and `b` both fp32 or both bf16.
void add_product(const at::Tensor &sum, const at::Tensor &a, const at::Tensor &b);

// `a b` in fp32, contiguous.
at::Tensor wide_product(const at::Tensor &a, const at::Tensor &b);
