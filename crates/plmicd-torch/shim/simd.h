// Eight floats at a time in the compiler's own vectors, and the functions the fused loops are made of. Loops marked
// PLMICD_CLONES are compiled once per instruction set; the loader chooses.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#define PLMICD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PLMICD_CLONES
#endif
#define PLMICD_INLINE static inline __attribute__((always_inline))

namespace simd {

constexpr int64_t kLanes = 8;

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
typedef float FloatsAnywhere __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef uint16_t HalvesAnywhere __attribute__((vector_size(16), aligned(2), may_alias));

PLMICD_INLINE Floats all(float value) { return value - Floats{}; }

PLMICD_INLINE Floats load(const float *from) { return *reinterpret_cast<const FloatsAnywhere *>(from); }

PLMICD_INLINE void store(float *to, Floats value) { *reinterpret_cast<FloatsAnywhere *>(to) = value; }

// bfloat16 is the upper half of a float.
PLMICD_INLINE Floats load(const uint16_t *from) {
  const Halves halves = *reinterpret_cast<const HalvesAnywhere *>(from);
  return reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
}

// Rounded to nearest even, as libtorch does.
PLMICD_INLINE void store(uint16_t *to, Floats value) {
  const Words bits = reinterpret_cast<Words>(value);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *reinterpret_cast<HalvesAnywhere *>(to) = __builtin_convertvector(rounded, Halves);
}

PLMICD_INLINE float load_one(const float *from) { return *from; }

PLMICD_INLINE float load_one(const uint16_t *from) {
  const uint32_t bits = static_cast<uint32_t>(*from) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

PLMICD_INLINE void store_one(float *to, float value) { *to = value; }

PLMICD_INLINE void store_one(uint16_t *to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *to = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// The first `count` lanes; the others are `rest`.
template <typename E>
PLMICD_INLINE Floats load_some(const E *from, int64_t count, float rest) {
  Floats value = all(rest);
  for (int64_t lane = 0; lane < count; ++lane) value[lane] = load_one(from + lane);
  return value;
}

template <typename E>
PLMICD_INLINE void store_some(E *to, Floats value, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) store_one(to + lane, value[lane]);
}

PLMICD_INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// Sums and maxima over the lanes in a fixed order.
PLMICD_INLINE float sum(Floats value) {
  const float pairs[4] = {value[0] + value[4], value[1] + value[5], value[2] + value[6], value[3] + value[7]};
  return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]);
}

PLMICD_INLINE float largest(Floats value) {
  float most = value[0];
  for (int lane = 1; lane < kLanes; ++lane) most = value[lane] > most ? value[lane] : most;
  return most;
}

// e^x to 2 units in the last place for x <= 88; 0 below -87.3.
PLMICD_INLINE Floats exp(Floats x) {
  const Floats floor = all(-87.33f);
  const Ints tiny = x < floor;
  x = tiny ? floor : x;
  // Rounded to the nearest integer by an addition that leaves no room for a fraction.
  const Floats shifted = x * 1.44269504f + 12582912.0f;
  const Floats whole = shifted - 12582912.0f;
  const Floats r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Floats fraction = p * (r * r) + r + 1.0f;
  const Words exponent = (reinterpret_cast<Words>(shifted) << 23) + 0x3f800000u;
  const Floats value = fraction * reinterpret_cast<Floats>(exponent);
  return tiny ? all(0.0f) : value;
}

// Distribution function and density of the standard normal distribution; the former by Abramowitz and Stegun 7.1.26,
// whose error is below 8e-8 here.
PLMICD_INLINE void normal(Floats x, Floats *distribution, Floats *density) {
  const Floats e = exp(x * x * -0.5f);
  const Floats magnitude = x < 0.0f ? -x : x;
  const Floats t = 1.0f / (magnitude * 0.23164190f + 1.0f);
  Floats p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Floats tail = p * t * e * 0.5f;
  *distribution = x < 0.0f ? tail : 1.0f - tail;
  *density = e * 0.39894228f;
}

// 32 well-mixed bits for element `index` of the stream (low, high): two rounds of multiply and shift. One element
// (uint32_t) or several (Words).
template <typename W>
PLMICD_INLINE W mixed(W index, uint32_t low, uint32_t high) {
  W x = index * 0x9e3779b9u + low;
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= high;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

PLMICD_INLINE Words counting_from(uint32_t first) {
  const Words lanes = {0, 1, 2, 3, 4, 5, 6, 7};
  return lanes + first;
}

}  // namespace simd

// What is dropped of a tensor: `seed` chooses the stream, elements count within it. Nothing where `p` is 0.
struct Dropping {
  uint32_t threshold = 0;
  float scale = 1.0f;
  uint32_t low = 0;
  uint32_t high = 0;

  Dropping(double p, uint64_t seed) {
    if (p <= 0.0) return;
    threshold = static_cast<uint32_t>(p * 4294967296.0);
    scale = static_cast<float>(1.0 / (1.0 - p));
    low = static_cast<uint32_t>(seed);
    high = static_cast<uint32_t>(seed >> 32);
  }

  // The stream of one part (a row of states, a head of a segment): parts are independent of one another and of
  // how they are put together.
  Dropping part(uint64_t number) const {
    Dropping own = *this;
    uint64_t word = (static_cast<uint64_t>(high) << 32 | low) + (number + 1) * 0x9e3779b97f4a7c15ull;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ull;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebull;
    word ^= word >> 31;
    own.low = static_cast<uint32_t>(word);
    own.high = static_cast<uint32_t>(word >> 32);
    return own;
  }
};

// 0 or 1 / (1 - p) for the elements from `first` on.
PLMICD_INLINE simd::Floats kept(const Dropping &drop, uint32_t first) {
  const simd::Words bits = simd::mixed(simd::counting_from(first), drop.low, drop.high);
  return bits >= drop.threshold ? simd::all(drop.scale) : simd::all(0.0f);
}
