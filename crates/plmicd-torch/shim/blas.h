// The BLAS and the vector functions inside libtorch: these are null where it has others than MKL's.
#pragma once

#include <cstdint>

extern "C" {
__attribute__((weak)) void sgemm_(const char *, const char *, const int *, const int *, const int *, const float *,
                                  const float *, const int *, const float *, const int *, const float *, float *,
                                  const int *);
__attribute__((weak)) void cblas_gemm_bf16bf16f32(int, int, int, int, int, int, float, const uint16_t *, int,
                                                  const uint16_t *, int, float, float *, int);
__attribute__((weak)) void vmsTanh(int, const float *, float *, long long);
}

// What CBLAS calls the order of a matrix and whether it is transposed.
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

// VML_HA: the accuracy libtorch asks for.
constexpr long long kHighAccuracy = 2;
