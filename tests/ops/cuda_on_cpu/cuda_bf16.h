#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 h) {
  const uint32_t bits = static_cast<uint32_t>(h.bits) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {  // no NaN
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(x));
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __double2bfloat16(double x) {
  return __float2bfloat16_rn(static_cast<float>(x));
}
