// A thread computes the derivatives of a few neighbouring positions once and then streams the K
// tangents of these positions through 16-byte loads and stores.
//
// Floor, of P positions with s bytes per number: h once, the tangents in and out, (1 + 2 K) P s
// bytes and K P operations; the adjoint (2 + 3 K) P s and 3 K P. Bytes decide.
#include <algorithm>
#include <type_traits>

#include "../include/tangent.h"
#include "common.cuh"

namespace pydisent {
namespace {

constexpr int kThreads = 256;

template <class O>
struct Derivatives {
  O first, second;  // for the piecewise linear kinds the second is that with respect to the leak
};

// From e = exp(-|x|), so that nothing cancels where the results are small.
template <class O>
__device__ __forceinline__ Derivatives<O> smooth_derivatives(const ActivationTangentParams& p,
                                                             O x) {
  if (p.kind == Activation::tanh) {
    const O e = exp(-2 * fabs(x)), q = 1 / (1 + e), first = 4 * e * q * q;
    return {first, (x < 0 ? 2 : -2) * (1 - e) * q * first};
  }
  const O u = p.kind == Activation::softplus ? x * static_cast<O>(p.beta) : x;
  const O e = exp(-fabs(u)), q = 1 / (1 + e);
  const O s = u < 0 ? e * q : q, complement = u < 0 ? q : e * q;
  const O odd = (u < 0 ? 1 : -1) * (1 - e) * q;  // 1 - 2 s
  switch (p.kind) {
    case Activation::sigmoid:
      return {e * q * q, e * q * q * odd};
    case Activation::silu:
      return {s * (1 + x * complement), e * q * q * (2 + x * odd)};
    default: {
      const bool linear = u > static_cast<O>(p.softplus_threshold);
      return {linear ? O(1) : s, linear ? O(0) : static_cast<O>(p.beta) * e * q * q};
    }
  }
}

template <class O>
__device__ __forceinline__ Derivatives<O> derivatives(const ActivationTangentParams& p, O x,
                                                      int64_t position) {
  if (!is_piecewise_linear(p.kind)) return smooth_derivatives(p, x);
  if (p.kind == Activation::relu) return {x <= 0 ? O(0) : O(1), O(0)};  // NaN is positive
  if (p.kind == Activation::leaky_relu)
    return {x > 0 ? O(1) : static_cast<O>(p.negative_slope), O(0)};
  const int64_t channel = position / p.inner % p.channels;
  const bool positive =
      p.kind == Activation::prelu ? x > 0 : x >= static_cast<O>(p.threshold[channel]);
  return {positive ? O(1) : static_cast<O>(p.leak[channel]), positive ? O(0) : O(1)};
}

template <class O>
__device__ __forceinline__ O load_position(const ActivationTangentParams& p, int64_t at) {
  switch (p.h_type) {
    case DType::f16:
      return widen(static_cast<const __half*>(p.h)[at]);
    case DType::bf16:
      return widen(static_cast<const __nv_bfloat16*>(p.h)[at]);
    case DType::f32:
      return static_cast<const float*>(p.h)[at];
    default:
      return static_cast<O>(static_cast<const double*>(p.h)[at]);
  }
}

template <class O>
__device__ __forceinline__ void store_position(const ActivationTangentParams& p, int64_t at, O x) {
  switch (p.h_type) {
    case DType::f16:
      return narrow(x, static_cast<__half*>(p.grad_h)[at]);
    case DType::bf16:
      return narrow(x, static_cast<__nv_bfloat16*>(p.grad_h)[at]);
    case DType::f32:
      return narrow(x, static_cast<float*>(p.grad_h)[at]);
    default:
      static_cast<double*>(p.grad_h)[at] = x;
  }
}

template <class S, int N>
struct alignas(N * sizeof(S)) Pack {
  S x[N];
};

template <class S, int N>
__device__ __forceinline__ Pack<S, N> load(const void* base, int64_t at) {
  return *reinterpret_cast<const Pack<S, N>*>(static_cast<const S*>(base) + at);
}

template <class S, int N>
__device__ __forceinline__ void store(void* base, int64_t at, const Pack<S, N>& pack) {
  *reinterpret_cast<Pack<S, N>*>(static_cast<S*>(base) + at) = pack;
}

// value = E (D or D²), slope = E' or ∂E/∂leak, of positions first ... first + N - 1.
template <class O, int N>
__device__ __forceinline__ void evaluate(const ActivationTangentParams& p, int64_t first, O* value,
                                         O* slope) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const auto d = derivatives<O>(p, load_position<O>(p, first + i), first + i);
    value[i] = p.turn ? d.first * d.first : d.first;
    slope[i] = p.turn ? 2 * d.first * d.second : d.second;
  }
}

// Blocks along y split the K tangents.
template <class S, class O, int N>
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(const ActivationTangentParams p) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * N;
  for (int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
       first < p.positions; first += step) {
    O value[N], slope[N];
    evaluate<O, N>(p, first, value, slope);
    for (int64_t k = blockIdx.y; k < p.count; k += gridDim.y) {
      Pack<S, N> pack = load<S, N>(p.tangents, k * p.tangents_stride + first);
#pragma unroll
      for (int i = 0; i < N; ++i) narrow(static_cast<O>(widen(pack.x[i])) * value[i], pack.x[i]);
      store<S, N>(p.out, k * p.out_stride + first, pack);
    }
  }
}

template <class S, class O, int N>
__global__ void __launch_bounds__(kThreads, 2) backward_kernel(const ActivationTangentParams p) {
  const bool reduces = !is_piecewise_linear(p.kind) || p.leak;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * N;
  for (int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N;
       first < p.positions; first += step) {
    O value[N], slope[N], sums[N] = {};
    evaluate<O, N>(p, first, value, slope);
    for (int64_t k = 0; k < p.count; ++k) {
      Pack<S, N> grad = load<S, N>(p.grad, k * p.grad_stride + first);
      if (reduces) {
        const Pack<S, N> tangent = load<S, N>(p.tangents, k * p.tangents_stride + first);
#pragma unroll
        for (int i = 0; i < N; ++i)
          sums[i] += static_cast<O>(widen(grad.x[i])) * static_cast<O>(widen(tangent.x[i]));
      }
#pragma unroll
      for (int i = 0; i < N; ++i) narrow(static_cast<O>(widen(grad.x[i])) * value[i], grad.x[i]);
      store<S, N>(p.out, k * p.out_stride + first, grad);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      O total = reduces ? sums[i] * slope[i] : O(0);
      if (p.leak) {
        // 0 times what is not finite is not 0: where D is 1 and does not depend on the leak.
        if (value[i] == 1 && slope[i] == 0) total = 0;
        static_cast<O*>(p.outside)[first + i] = total;
      }
      store_position(p, first + i, p.leak ? O(0) : total);
    }
  }
}

// One block per channel; the order of the sum depends on the shape alone.
template <class O>
__global__ void __launch_bounds__(kThreads) leak_kernel(const ActivationTangentParams p) {
  __shared__ double warps[kThreads / kWarp];
  const int64_t channel = blockIdx.x, count = p.positions / p.channels;
  double sum = 0;
  for (int64_t at = threadIdx.x; at < count; at += kThreads) {
    const int64_t position = (at / p.inner * p.channels + channel) * p.inner + at % p.inner;
    sum += static_cast<const O*>(p.outside)[position];
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kThreads / kWarp; ++w) sum += warps[w];
    p.grad_leak[channel] = sum;
  }
}

bool is_aligned(const void* x, int64_t stride, int lanes) {
  return reinterpret_cast<uintptr_t>(x) % 16 == 0 && stride % lanes == 0;
}

// Blocks enough to fill any present GPU a few times; the kernels stride over the rest.
int64_t blocks_for(int64_t threads) {
  return std::max<int64_t>(1, std::min<int64_t>((threads + kThreads - 1) / kThreads, 4096));
}

template <class S, class O>
int forward(const ActivationTangentParams& p, cudaStream_t stream) {
  constexpr int lanes = 16 / sizeof(S);
  const bool wide = p.positions % lanes == 0 && is_aligned(p.tangents, p.tangents_stride, lanes) &&
                    is_aligned(p.out, p.out_stride, lanes);
  const int64_t x = blocks_for(p.positions / (wide ? lanes : 1));
  const int64_t y = std::max<int64_t>(1, std::min<int64_t>(p.count, 1024 / x));
  const dim3 grid(static_cast<unsigned>(x), static_cast<unsigned>(y));
  if (wide)
    forward_kernel<S, O, lanes><<<grid, kThreads, 0, stream>>>(p);
  else
    forward_kernel<S, O, 1><<<grid, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <class S, class O>
int backward(const ActivationTangentParams& p, cudaStream_t stream) {
  constexpr int lanes = 16 / sizeof(S);
  const bool wide = p.positions % lanes == 0 && is_aligned(p.tangents, p.tangents_stride, lanes) &&
                    is_aligned(p.grad, p.grad_stride, lanes) &&
                    is_aligned(p.out, p.out_stride, lanes);
  const unsigned blocks = static_cast<unsigned>(blocks_for(p.positions / (wide ? lanes : 1)));
  if (wide)
    backward_kernel<S, O, lanes><<<blocks, kThreads, 0, stream>>>(p);
  else
    backward_kernel<S, O, 1><<<blocks, kThreads, 0, stream>>>(p);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess || !p.leak) return error;
  leak_kernel<O><<<static_cast<unsigned>(p.channels), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <class S>
int dispatch(const ActivationTangentParams& p, bool is_backward, cudaStream_t stream) {
  if (std::is_same_v<S, double> || p.h_type == DType::f64)
    return is_backward ? backward<S, double>(p, stream) : forward<S, double>(p, stream);
  if constexpr (!std::is_same_v<S, double>)
    return is_backward ? backward<S, float>(p, stream) : forward<S, float>(p, stream);
  return cudaErrorInvalidValue;
}

int dispatch_type(const ActivationTangentParams& p, bool is_backward, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  switch (p.tangents_type) {
    case DType::f16:
      return dispatch<__half>(p, is_backward, s);
    case DType::bf16:
      return dispatch<__nv_bfloat16>(p, is_backward, s);
    case DType::f32:
      return dispatch<float>(p, is_backward, s);
    default:
      return dispatch<double>(p, is_backward, s);
  }
}

}  // namespace

int activation_tangent_cuda(const ActivationTangentParams& p, void* stream) {
  return dispatch_type(p, false, stream);
}

int activation_tangent_backward_cuda(const ActivationTangentParams& p, void* stream) {
  return dispatch_type(p, true, stream);
}

}  // namespace pydisent
