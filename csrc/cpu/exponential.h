// e^x and e^x - 1 without branches, so that loops vectorise, to about one unit in the last place.
#pragma once

#include "simd.h"

namespace pydisent {

// 2^n for an integer n whose power is a normal number.
PYDISENT_INLINE float power_of_two(float n) {
  return bit_cast<float>((bit_cast<uint32_t>(n + 12582912.0f) << 23) + (127u << 23));
}
PYDISENT_INLINE double power_of_two(double n) {
  return bit_cast<double>((bit_cast<uint64_t>(n + 6755399441055744.0) << 52) + (1023ull << 52));
}

// Adding 1.5 * 2^23 (or 2^52) and subtracting it again rounds to an integer, ties to even.
PYDISENT_INLINE float round_to_integer(float x) { return (x + 12582912.0f) - 12582912.0f; }
PYDISENT_INLINE double round_to_integer(double x) {
  return (x + 6755399441055744.0) - 6755399441055744.0;
}

// x - n ln 2, with ln 2 in two parts
PYDISENT_INLINE float reduced(float x, float n) {
  return (x - n * 0.693359375f) + n * 2.12194440e-4f;
}
PYDISENT_INLINE double reduced(double x, double n) {
  return (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
}

// e^r - 1 for |r| <= ln(2) / 2
PYDISENT_INLINE float small_exponential(float r) {
  float p = 1.0f / 40320;
  p = p * r + 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  return r + r * r * p;
}
PYDISENT_INLINE double small_exponential(double r) {
  double p = 1.0 / 87178291200;
  p = p * r + 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  return r + r * r * p;
}

// e^x = (1 + q) a b with powers of two a and b, which are in range where their product is not.
template <class T>
struct Exponential {
  T q, a, b, inverse_b;
};

template <class T>
PYDISENT_INLINE Exponential<T> split_exponential(T x) {
  constexpr bool wide = sizeof(T) == 8;
  constexpr T low = wide ? -746 : -104, high = wide ? 711 : 90;
  x = x < low ? low : (x > high ? high : x);
  const T n = round_to_integer(x * static_cast<T>(1.4426950408889634));
  const T half = round_to_integer(n * static_cast<T>(0.5)), rest = n - half;
  return {small_exponential(reduced(x, n)), power_of_two(half), power_of_two(rest),
          power_of_two(-rest)};
}

template <class T>
PYDISENT_INLINE T exponential(T x) {
  const Exponential<T> e = split_exponential(x);
  return (e.q * e.a + e.a) * e.b;
}

// e^x - 1, whose digits survive around x = 0
template <class T>
PYDISENT_INLINE T exponential_minus_one(T x) {
  const Exponential<T> e = split_exponential(x);
  return (e.q * e.a + (e.a - e.inverse_b)) * e.b;
}

}  // namespace pydisent
