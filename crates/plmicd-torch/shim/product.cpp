// Matrix products whose sums stay in fp32: label scores, and what gradients of weights are made of. In bf16 libtorch
// rounds a product to bf16; the BLAS inside it, and cuBLAS, give it as it was summed.
#include "blas.h"
#include "product.h"

#include <limits>

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>
#include <c10/core/GradMode.h>

namespace {

// How BLAS reads a matrix that lies in memory row by row or column by column.
struct Operand {
  int as;
  int64_t stride;
  const uint16_t *values;
};

bool fits(int64_t number) { return number <= std::numeric_limits<int>::max(); }

bool read(const at::Tensor &matrix, Operand *out) {
  const auto *values = static_cast<const uint16_t *>(matrix.const_data_ptr());
  if (matrix.stride(1) == 1 && matrix.stride(0) >= matrix.size(1)) {
    *out = {kPlain, matrix.stride(0), values};
  } else if (matrix.stride(0) == 1 && matrix.stride(1) >= matrix.size(0)) {
    *out = {kTransposed, matrix.stride(1), values};
  } else {
    return false;
  }
  return fits(out->stride);
}

// Elsewhere the operands are widened first, which says the same and is faster there.
bool multiplies_bf16() {
  static const bool answer = [] {
    const auto capabilities = at::cpu::get_cpu_capabilities();
    const auto has = [&](const char *name) {
      const auto found = capabilities.find(name);
      return found != capabilities.end() && found->second.isBool() && found->second.toBool();
    };
    return cblas_gemm_bf16bf16f32 != nullptr && (has("avx512_bf16") || has("amx_bf16"));
  }();
  return answer;
}

// `sum = keep sum + a b` in bf16 by BLAS, where it can.
bool by_blas(const at::Tensor &sum, float keep, const at::Tensor &a, const at::Tensor &b) {
  Operand left, right;
  if (!multiplies_bf16() || sum.numel() == 0 || a.size(1) == 0) return false;
  if (sum.stride(1) != 1 || sum.stride(0) < sum.size(1) || !fits(sum.stride(0))) return false;
  if (!read(a, &left) || !read(b, &right)) return false;
  cblas_gemm_bf16bf16f32(kRowMajor, left.as, right.as, static_cast<int>(sum.size(0)),
                         static_cast<int>(sum.size(1)), static_cast<int>(a.size(1)), 1.0f, left.values,
                         static_cast<int>(left.stride), right.values, static_cast<int>(right.stride), keep,
                         sum.mutable_data_ptr<float>(), static_cast<int>(sum.stride(0)));
  return true;
}

// Whether both are bf16, and a product in fp32 is wanted.
bool is_widening(at::ScalarType out, const at::Tensor &a, const at::Tensor &b) {
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && a.scalar_type() == b.scalar_type(),
              "expected two matrices of one kind that can be multiplied");
  return out == at::kFloat && a.scalar_type() == at::kBFloat16;
}

}  // namespace

void add_product(const at::Tensor &sum, const at::Tensor &a, const at::Tensor &b) {
  const bool widens = is_widening(sum.scalar_type(), a, b);
  TORCH_CHECK(sum.dim() == 2 && sum.size(0) == a.size(0) && sum.size(1) == b.size(1),
              "expected a sum of the product's shape");
  if (!widens) {
    sum.addmm_(a, b);
  } else if (!sum.is_cpu()) {
    sum.add_(at::mm(a, b, at::kFloat));
  } else if (!by_blas(sum, 1.0f, a, b)) {
    sum.addmm_(a.to(at::kFloat), b.to(at::kFloat));
  }
}

at::Tensor wide_product(const at::Tensor &a, const at::Tensor &b) {
  if (!is_widening(at::kFloat, a, b)) return at::mm(a, b);
  if (!a.is_cpu()) return at::mm(a, b, at::kFloat);
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options().dtype(at::kFloat));
  return by_blas(out, 0.0f, a, b) ? out : at::mm(a.to(at::kFloat), b.to(at::kFloat));
}

extern "C" {

char *plmicd_add_product(tensor sum, tensor a, tensor b) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    add_product(*sum, *a, *b);
  });
}

char *plmicd_wide_product(tensor a, tensor b, tensor *out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *out = new at::Tensor(wide_product(*a, *b));
  });
}
}
