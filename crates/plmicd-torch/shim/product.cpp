// Matrix products that are added to a sum in fp32: what gradients of weights are made of. In bf16 libtorch gives a
// product only as another bf16 matrix, to be widened and added; the BLAS inside it adds as it multiplies, and without
// rounding the product.
#include "product.h"

#include <limits>

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>
#include <c10/core/GradMode.h>

// From the BLAS inside libtorch; null where it has another.
extern "C" __attribute__((weak)) void cblas_gemm_bf16bf16f32(int, int, int, int, int, int, float, const uint16_t *, int,
                                                             const uint16_t *, int, float, float *, int);

namespace {

constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

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

// Elsewhere BLAS would widen both matrices at every call.
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

bool added_by_blas(const at::Tensor &sum, const at::Tensor &a, const at::Tensor &b) {
  Operand left, right;
  if (!sum.is_cpu() || !multiplies_bf16() || sum.numel() == 0 || a.size(1) == 0) return false;
  if (sum.stride(1) != 1 || sum.stride(0) < sum.size(1) || !fits(sum.stride(0))) return false;
  if (!read(a, &left) || !read(b, &right)) return false;
  cblas_gemm_bf16bf16f32(kRowMajor, left.as, right.as, static_cast<int>(sum.size(0)),
                         static_cast<int>(sum.size(1)), static_cast<int>(a.size(1)), 1.0f, left.values,
                         static_cast<int>(left.stride), right.values, static_cast<int>(right.stride), 1.0f,
                         sum.mutable_data_ptr<float>(), static_cast<int>(sum.stride(0)));
  return true;
}

}  // namespace

void add_product(const at::Tensor &sum, const at::Tensor &a, const at::Tensor &b) {
  TORCH_CHECK(sum.dim() == 2 && a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) &&
                  sum.size(0) == a.size(0) && sum.size(1) == b.size(1),
              "expected matrices that can be multiplied, and a sum of their product's shape");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "expected two matrices of one kind");
  if (a.scalar_type() == sum.scalar_type()) {
    sum.addmm_(a, b);
  } else if (a.scalar_type() != at::kBFloat16 || sum.scalar_type() != at::kFloat || !added_by_blas(sum, a, b)) {
    sum.add_(at::mm(a, b));
  }
}

extern "C" char *plmicd_add_product(tensor sum, tensor a, tensor b) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    add_product(*sum, *a, *b);
  });
}
