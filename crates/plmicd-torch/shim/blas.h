// The BLAS inside libtorch: these are null where it has another.
#pragma once

#include <cstdint>

extern "C" {
__attribute__((weak)) void sgemm_(const char *, const char *, const int *, const int *, const int *, const float *,
                                  const float *, const int *, const float *, const int *, const float *, float *,
                                  const int *);
__attribute__((weak)) void cblas_gemm_bf16bf16f32(int, int, int, int, int, int, float, const uint16_t *, int,
                                                  const uint16_t *, int, float, float *, int);
}

// What CBLAS calls the order of a matrix and whether it is transposed.
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
