// Branch-free conversions between storage and arithmetic types, so that loops vectorise.
#pragma once

#include <cstdint>
#include <cstring>

#include "../include/dtypes.h"

namespace pydisent {

// The type of arithmetic on values stored as S.
template <class S>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};

template <class To, class From>
inline __attribute__((always_inline)) To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}

inline __attribute__((always_inline)) float widen(float x) { return x; }
inline __attribute__((always_inline)) double widen(double x) { return x; }

inline __attribute__((always_inline)) float widen(BFloat16 x) {
  return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

inline __attribute__((always_inline)) float widen(Half x) {
  const uint32_t bits = x.bits & 0x7fffu, sign = (x.bits & 0x8000u) << 16;
  const uint32_t normal = (bits << 13) + 0x38000000u;  // rebias the exponent
  // No intermediate float is subnormal, as training may flush those to zero.
  const float subnormal = bit_cast<float>(bits | 0x3f000000u) - 0.5f;
  const uint32_t special = bits >= 0x7c00u ? 0x7f800000u : 0u;
  const uint32_t magnitude = bits < 0x0400u ? bit_cast<uint32_t>(subnormal) : normal;
  return bit_cast<float>(magnitude | special | sign);
}

template <class S>
S narrow(double x);
template <class S>
S narrow(float x);

template <>
inline __attribute__((always_inline)) float narrow<float>(float x) {
  return x;
}
template <>
inline __attribute__((always_inline)) double narrow<double>(double x) {
  return x;
}
template <>
inline __attribute__((always_inline)) float narrow<float>(double x) {
  return static_cast<float>(x);
}

template <>
inline __attribute__((always_inline)) BFloat16 narrow<BFloat16>(float x) {
  const uint32_t u = bit_cast<uint32_t>(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;  // to nearest, ties to even
  const uint32_t nan = (u & 0x7fffffffu) > 0x7f800000u ? 1u : 0u;
  return BFloat16{static_cast<uint16_t>(nan ? 0x7fc0u : rounded)};
}

template <>
inline __attribute__((always_inline)) Half narrow<Half>(float x) {
  const uint32_t u = bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, f = u & 0x7fffffffu;
  const uint32_t normal = (f - 0x38000000u + 0xfffu + ((f >> 13) & 1u)) >> 13;
  // Adding 0.5 aligns a subnormal's bits with the float's last place, and rounds.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(f) + 0.5f) - 0x3f000000u;
  const uint32_t large = f > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t magnitude = f >= 0x47800000u ? large : (f < 0x38800000u ? subnormal : normal);
  return Half{static_cast<uint16_t>(magnitude | sign)};
}

template <>
inline __attribute__((always_inline)) BFloat16 narrow<BFloat16>(double x) {
  return narrow<BFloat16>(static_cast<float>(x));
}
template <>
inline __attribute__((always_inline)) Half narrow<Half>(double x) {
  return narrow<Half>(static_cast<float>(x));
}

}  // namespace pydisent
