// exp by plain arithmetic, so that scalar loops vectorise and vector arguments work as well.
#pragma once

#include <iterator>

#include "simd.h"

namespace pydisent {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  using Bits = uint32_t;
  static constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kInverseLn2 = 1.44269504f;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kLeast = -87.3f;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kSeries[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24,
                                      1.0f / 6,    0.5f,       1.0f,       1.0f};
};

template <>
struct ExpConstants<double> {
  using Bits = uint64_t;
  static constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kInverseLn2 = 1.4426950408889634;
  static constexpr double kLn2High = 6.93147180369123816490e-01;
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLeast = -708.3;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kSeries[] = {1.0 / 6227020800,
                                       1.0 / 479001600,
                                       1.0 / 39916800,
                                       1.0 / 3628800,
                                       1.0 / 362880,
                                       1.0 / 40320,
                                       1.0 / 5040,
                                       1.0 / 720,
                                       1.0 / 120,
                                       1.0 / 24,
                                       1.0 / 6,
                                       0.5,
                                       1.0,
                                       1.0};
};

// kSeries as a polynomial in r, by Horner's rule from the term I of the value p on
template <class T, class X, size_t I = 1>
PYDISENT_INLINE X exp_series(X r, X p) {
  using C = ExpConstants<T>;
  if constexpr (I < std::size(C::kSeries)) return exp_series<T, X, I + 1>(r, p * r + C::kSeries[I]);
  return p;
}

// X is T or a vector of T, U the unsigned integer type of the same shape.
template <class T, class X, class U>
PYDISENT_INLINE X exp_of(X x, T least) {
  using C = ExpConstants<T>;
  const X shifted = x * C::kInverseLn2 + C::kShift, n = shifted - C::kShift;
  const X r = (x - n * C::kLn2High) - n * C::kLn2Low;
  const X series = exp_series<T>(r, X{} + C::kSeries[0]);
  // The integer is in the low bits of shifted.
  const U power = (bit_cast<U>(shifted) << C::kMantissa) +
                  (static_cast<typename C::Bits>(C::kBias) << C::kMantissa);
  return x < least ? X{} : series * bit_cast<X>(power);
}

// exp(x) to about one unit in the last place for x <= 80; 0 for x < least, by default the point
// below which the result would be subnormal; NaN stays NaN.
template <class T>
PYDISENT_INLINE T exp_nonpositive(T x, T least = ExpConstants<T>::kLeast) {
  return exp_of<T, T, typename ExpConstants<T>::Bits>(x, least);
}

template <class T, int W>
PYDISENT_INLINE typename Vector<T, W>::type exp_nonpositive(typename Vector<T, W>::type x,
                                                            T least = ExpConstants<T>::kLeast) {
  // Not aligned to one element: alignment only matters in memory.
  typedef T X __attribute__((vector_size(W * sizeof(T))));
  typedef typename ExpConstants<T>::Bits U __attribute__((vector_size(W * sizeof(T))));
  return exp_of<T, X, U>(x, least);
}

// 2^n for an integer n, if that is a normal number
template <class T>
PYDISENT_INLINE T power_of_two(T n) {
  using C = ExpConstants<T>;
  using U = typename C::Bits;
  return bit_cast<T>((bit_cast<U>(n + C::kShift) << C::kMantissa) +
                     (static_cast<U>(C::kBias) << C::kMantissa));
}

// e^x = (1 + q) a b with powers of two a and b, which are in range even where their product is not.
// x is clamped: beyond the bounds e^x times any normal number is out of range anyway.
template <class T>
struct Exponential {
  T q, a, b, inverse_b;
};

template <class T>
PYDISENT_INLINE Exponential<T> split_exponential(T x) {
  using C = ExpConstants<T>;
  constexpr T low = sizeof(T) == 8 ? -1416 : -174, high = sizeof(T) == 8 ? 1418 : 176;
  x = x < low ? low : (x > high ? high : x);
  const T n = (x * C::kInverseLn2 + C::kShift) - C::kShift;
  const T half = (n * T(0.5) + C::kShift) - C::kShift, rest = n - half;
  const T r = (x - n * C::kLn2High) - n * C::kLn2Low;
  T p = C::kSeries[0];  // (e^r - 1 - r) / r²
  for (size_t i = 1; i + 2 < std::size(C::kSeries); ++i) p = p * r + C::kSeries[i];
  return {r + r * r * p, power_of_two(half), power_of_two(rest), power_of_two(-rest)};
}

// w e^x, even where e^x is out of range; 0 for w = 0, infinite for infinite w
template <class T>
PYDISENT_INLINE T scaled_exponential(T w, T x) {
  const Exponential<T> e = split_exponential(x);
  return (w * (e.q * e.a + e.a)) * e.b;
}

// e^x for any x
template <class T>
PYDISENT_INLINE T exponential(T x) {
  return scaled_exponential(T(1), x);
}

// w (e^x - 1), even where e^x is out of range
template <class T>
PYDISENT_INLINE T scaled_exponential_minus_one(T w, T x) {
  const Exponential<T> e = split_exponential(x);
  return (w * (e.q * e.a + (e.a - e.inverse_b))) * e.b;
}

// v e^x + w (e^2x - 1). For x > 0 it is e^x (v + 2 w sinh x), so that at most one infinity arises,
// from the larger term; for x <= 0 it is a sum of two numbers in range.
template <class T>
PYDISENT_INLINE T exponential_and_square_minus_one(T v, T w, T x) {
  const Exponential<T> e = split_exponential(x);
  const T power = e.q * e.a + e.a, less_one = e.q * e.a + (e.a - e.inverse_b);  // both times 1 / b
  const T twice_sinh = (w * less_one) * e.b + w * (less_one / power);
  const T change = less_one * e.b, square = w * (change * (change + 2));
  const bool grows = x > 0;
  return ((grows ? v + twice_sinh : v) * power) * e.b + (grows ? T(0) : square);
}

}  // namespace pydisent
