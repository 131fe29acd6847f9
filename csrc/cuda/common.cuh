// Conversions and reductions shared by the CUDA kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "../include/dtypes.h"

namespace pydisent {

constexpr int kWarp = 32;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(float x, __half& to) { to = __float2half_rn(x); }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16& to) { to = __float2bfloat16_rn(x); }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(double x, float& to) { to = static_cast<float>(x); }
__device__ __forceinline__ void narrow(double x, __half& to) { to = __double2half(x); }
__device__ __forceinline__ void narrow(double x, __nv_bfloat16& to) { to = __double2bfloat16(x); }

// N consecutive numbers.
template <class S, int N>
struct Pack {
  S x[N];
};

// Packs are loaded and stored as vectors of words, which the compiler, unlike for structures, moves
// whole: 16 bytes at a time, or all of a smaller pack. Addresses are aligned to that.
template <class S, int N, int bytes = N * sizeof(S)>
using Word = std::conditional_t<
    bytes >= 16, uint4,
    std::conditional_t<bytes == 8, uint2, std::conditional_t<bytes == 4, uint32_t, uint16_t>>>;

template <class S, int N>
__device__ __forceinline__ Pack<S, N> load(const void* base, int64_t at) {
  using W = Word<S, N>;
  const W* from = reinterpret_cast<const W*>(static_cast<const S*>(base) + at);
  W words[N * sizeof(S) / sizeof(W)];
#pragma unroll
  for (int i = 0; i < N * sizeof(S) / sizeof(W); ++i) words[i] = from[i];
  Pack<S, N> pack;
  memcpy(&pack, words, sizeof(pack));
  return pack;
}

template <class S, int N>
__device__ __forceinline__ void store(void* base, int64_t at, const Pack<S, N>& pack) {
  using W = Word<S, N>;
  W* to = reinterpret_cast<W*>(static_cast<S*>(base) + at);
  W words[N * sizeof(S) / sizeof(W)];
  memcpy(words, &pack, sizeof(pack));
#pragma unroll
  for (int i = 0; i < N * sizeof(S) / sizeof(W); ++i) to[i] = words[i];
}

// Sum over the warp in a fixed order, the same in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(~0u, x, offset);
  return x;
}

}  // namespace pydisent
