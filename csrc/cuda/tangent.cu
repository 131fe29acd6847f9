// A thread computes the derivatives at a few consecutive positions once, then streams their K
// tangents through 16-byte loads and stores.
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
constexpr int kWarps = kThreads / kWarp;
constexpr int kFlight = 4;          // tangents that a thread reads before it writes the first
constexpr int64_t kStretch = 1024;  // consecutive numbers that a warp sums for a leak
constexpr int kMostSplits = 256;
constexpr int64_t kMostBlocks = 4096;
constexpr int64_t kMost = 0x7fffffff;  // tangents or channels, counted in 32 bits

template <class O>
struct Derivatives {
  O first, second;  // second: for piecewise linear kinds, with respect to the leak
};

// Reciprocal of x in [1, 2] or NaN: the compiler's division without its path for subnormals.
__device__ __forceinline__ float reciprocal(float x) {
  const float q = __fdividef(1.0f, x);
  return fmaf(q, fmaf(-x, q, 1.0f), q);
}
__device__ __forceinline__ double reciprocal(double x) { return 1 / x; }

// From e = exp(-|x|), which avoids cancellation where the results are small.
template <Activation kind, class O>
__device__ __forceinline__ Derivatives<O> smooth_derivatives(O x, O beta, O threshold) {
  if constexpr (kind == Activation::tanh) {
    const O e = exp(-2 * fabs(x)), q = reciprocal(1 + e), first = 4 * e * q * q;
    return {first, (x < 0 ? 2 : -2) * (1 - e) * q * first};
  }
  const O u = kind == Activation::softplus ? x * beta : x;
  const O e = exp(-fabs(u)), q = reciprocal(1 + e);
  const O s = u < 0 ? e * q : q, complement = u < 0 ? q : e * q;
  const O odd = (u < 0 ? 1 : -1) * (1 - e) * q;  // 1 - 2 s
  if constexpr (kind == Activation::sigmoid) return {e * q * q, e * q * q * odd};
  if constexpr (kind == Activation::silu)
    return {s * (1 + x * complement), e * q * q * (2 + x * odd)};
  const bool linear = u > threshold;
  return {linear ? O(1) : s, linear ? O(0) : beta * e * q * q};
}

// A position's channel, and its index within the channel's stretch of inner positions.
struct Place {
  int64_t rest;
  uint32_t channel;
};

// Advances places by addition alone: one division per thread, none per position.
struct Walk {
  int64_t inner;
  uint32_t channels;
  Place step;  // from one of a thread's packs to the next

  __device__ __forceinline__ void advance(Place& at, const Place& by) const {
    at.rest += by.rest;
    at.channel += by.channel;
    if (at.rest >= inner) at.rest -= inner, ++at.channel;
    if (at.channel >= channels) at.channel -= channels;
  }
};

// position < 2^31
__host__ __device__ __forceinline__ Place place_of(uint32_t position, int64_t inner,
                                                   uint32_t channels) {
  const uint32_t length = static_cast<uint32_t>(inner < kMost ? inner : kMost);
  const uint32_t row = position / length;
  return {static_cast<int64_t>(position - row * length), row % channels};
}

template <class O>
__device__ __forceinline__ O value_of(const ChannelValues& x, uint32_t channel) {
  const int64_t at = channel * x.stride;
  switch (x.type) {
    case DType::f16:
      return widen(static_cast<const __half*>(x.data)[at]);
    case DType::bf16:
      return widen(static_cast<const __nv_bfloat16*>(x.data)[at]);
    case DType::f32:
      return static_cast<const float*>(x.data)[at];
    default:
      return static_cast<O>(static_cast<const double*>(x.data)[at]);
  }
}

template <class O>
__device__ __forceinline__ void store_as(DType type, void* to, int64_t at, O x) {
  switch (type) {
    case DType::f16:
      return narrow(x, static_cast<__half*>(to)[at]);
    case DType::bf16:
      return narrow(x, static_cast<__nv_bfloat16*>(to)[at]);
    case DType::f32:
      return narrow(x, static_cast<float*>(to)[at]);
    default:
      static_cast<double*>(to)[at] = x;
  }
}

template <class H, class O, int N>
__device__ __forceinline__ void load_positions(const void* h, int64_t first, O (&x)[N]) {
  const auto pack = load<H, N>(h, first);
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = static_cast<O>(widen(pack.x[i]));
}

template <class H, class O, int N>
__device__ __forceinline__ void store_positions(void* h, int64_t first, const O (&x)[N]) {
  Pack<H, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) narrow(x[i], pack.x[i]);
  store(h, first, pack);
}

// value = E (D or D²), slope = E' or ∂E/∂leak, of N positions from the first, whose place is given.
template <class O, int N>
struct Evaluation {
  O value[N], slope[N];

  __device__ __forceinline__ void evaluate(const ActivationTangentParams& p, const Walk& walk,
                                           int64_t first, Place place) {
    O x[N];
    if (p.h_type == DType::f16)
      load_positions<__half>(p.h, first, x);
    else if (p.h_type == DType::bf16)
      load_positions<__nv_bfloat16>(p.h, first, x);
    else if (p.h_type == DType::f32)
      load_positions<float>(p.h, first, x);
    else if constexpr (std::is_same_v<O, double>)
      load_positions<double>(p.h, first, x);
    switch (p.kind) {
      case Activation::relu:  // NaN is positive
        return each(p, [&](int i) { return Derivatives<O>{x[i] <= 0 ? O(0) : O(1), O(0)}; });
      case Activation::leaky_relu: {
        const O leak = static_cast<O>(p.negative_slope);
        return each(p, [&](int i) { return Derivatives<O>{x[i] > 0 ? O(1) : leak, O(0)}; });
      }
      case Activation::prelu:
      case Activation::translated_prelu:
        return each(p, [&](int i) {
          const bool positive =
              p.threshold.data ? x[i] >= value_of<O>(p.threshold, place.channel) : x[i] > 0;
          const O leak = value_of<O>(p.leak, place.channel);
          walk.advance(place, {1, 0});
          return Derivatives<O>{positive ? O(1) : leak, positive ? O(0) : O(1)};
        });
      case Activation::tanh:
        return smooth<Activation::tanh>(p, x);
      case Activation::sigmoid:
        return smooth<Activation::sigmoid>(p, x);
      case Activation::silu:
        return smooth<Activation::silu>(p, x);
      default:
        return smooth<Activation::softplus>(p, x);
    }
  }

  template <class F>
  __device__ __forceinline__ void each(const ActivationTangentParams& p, const F& derivatives) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const auto d = derivatives(i);
      value[i] = p.turn ? d.first * d.first : d.first;
      slope[i] = p.turn ? 2 * d.first * d.second : d.second;
    }
  }

  template <Activation kind>
  __device__ __forceinline__ void smooth(const ActivationTangentParams& p, const O (&x)[N]) {
    const O beta = static_cast<O>(p.beta), threshold = static_cast<O>(p.softplus_threshold);
    each(p, [&](int i) { return smooth_derivatives<kind>(x[i], beta, threshold); });
  }
};

// Calls visit<N>(first, place) for each of a thread's packs, and visit<1> for the remainder.
template <int N, class Visit>
__device__ __forceinline__ void for_packs(const ActivationTangentParams& p, const Walk& walk,
                                          const Visit& visit) {
  const uint32_t begin = (blockIdx.x * kThreads + threadIdx.x) * N;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * N;
  Place place = p.leak.data ? place_of(begin, walk.inner, walk.channels) : Place{};
  for (int64_t first = begin; first < p.positions; first += step) {
    if (N == 1 || first + N <= p.positions)
      visit.template operator()<N>(first, place);
    else
      for (int64_t at = first; at < p.positions; ++at, walk.advance(place, {1, 0}))
        visit.template operator()<1>(at, place);
    walk.advance(place, walk.step);
  }
}

template <class S, class O, int N>
__device__ __forceinline__ void multiply(Pack<S, N>& pack, const O (&by)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) narrow(static_cast<O>(widen(pack.x[i])) * by[i], pack.x[i]);
}

// Blocks along y split the K tangents.
template <class S, class O, int N>
__global__ void __launch_bounds__(kThreads, 2)
    forward_kernel(const ActivationTangentParams p, const Walk walk) {
  for_packs<N>(p, walk, [&]<int M>(int64_t first, const Place& place) {
    Evaluation<O, M> e;
    e.evaluate(p, walk, first, place);
    const int count = static_cast<int>(p.count), step = gridDim.y;
    const int64_t in_step = step * p.tangents_stride, out_step = step * p.out_stride;
    int64_t in = blockIdx.y * p.tangents_stride + first;
    int64_t out = blockIdx.y * p.out_stride + first;
#pragma unroll 1
    for (int left = count - blockIdx.y; left > 0; left -= kFlight * step) {
      Pack<S, M> packs[kFlight];
#pragma unroll
      for (int u = 0; u < kFlight; ++u, in += in_step)
        if (left > u * step) packs[u] = load<S, M>(p.tangents, in);
#pragma unroll
      for (int u = 0; u < kFlight; ++u, out += out_step) {
        if (left <= u * step) break;
        multiply(packs[u], e.value);
        store(p.out, out, packs[u]);
      }
    }
  });
}

template <class S, class O, int N>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(const ActivationTangentParams p, const Walk walk) {
  const bool reduces = !is_piecewise_linear(p.kind) || p.leak.data;
  for_packs<N>(p, walk, [&]<int M>(int64_t first, const Place& place) {
    Evaluation<O, M> e;
    e.evaluate(p, walk, first, place);
    O sums[M] = {};
    constexpr int flight = kFlight / 2;  // each for two operands
    int64_t grad = first, tangent = first, out = first;
#pragma unroll 1
    for (int left = static_cast<int>(p.count); left > 0; left -= flight) {
      Pack<S, M> grads[flight], tangents[flight] = {};
#pragma unroll
      for (int u = 0; u < flight; ++u, grad += p.grad_stride, tangent += p.tangents_stride)
        if (left > u) {
          grads[u] = load<S, M>(p.grad, grad);
          if (reduces) tangents[u] = load<S, M>(p.tangents, tangent);
        }
#pragma unroll
      for (int u = 0; u < flight; ++u, out += p.out_stride) {
        if (left <= u) break;
#pragma unroll
        for (int i = 0; i < M; ++i)
          if (reduces)
            sums[i] +=
                static_cast<O>(widen(grads[u].x[i])) * static_cast<O>(widen(tangents[u].x[i]));
        multiply(grads[u], e.value);
        store(p.out, out, grads[u]);
      }
    }
    // Selected, as 0 times a non-finite number is not 0: where D is 1, independent of the leak, and
    // where nothing was summed.
#pragma unroll
    for (int i = 0; i < M; ++i) {
      const bool skipped = !reduces || (p.leak.data && e.value[i] == 1 && e.slope[i] == 0);
      sums[i] = skipped ? O(0) : sums[i] * e.slope[i];
    }
    if (p.leak.data) {
      store_positions<O>(p.outside, first, sums);
#pragma unroll
      for (int i = 0; i < M; ++i) sums[i] = 0;
    }
    if (p.h_type == DType::f16)
      store_positions<__half>(p.grad_h, first, sums);
    else if (p.h_type == DType::bf16)
      store_positions<__nv_bfloat16>(p.grad_h, first, sums);
    else if (p.h_type == DType::f32)
      store_positions<float>(p.grad_h, first, sums);
    else if constexpr (std::is_same_v<O, double>)
      store_positions<double>(p.grad_h, first, sums);
  });
}

// Extents of the sum for each leak, in memory order: (rows, channels, inner).
struct LeakShape {
  int64_t rows, channels, inner;
  bool across;  // lanes run along the channels, else along the inner positions

  explicit LeakShape(const ActivationTangentParams& p)
      : channels(p.leak_channels), inner(channels == p.channels ? p.inner : p.positions) {
    rows = p.positions / (channels * inner);
    across = channels > 1 && inner < kWarp;
  }
};

// The order of summation depends on the shape alone. Blocks along y sum parts of it.
template <class O>
__global__ void __launch_bounds__(kThreads)
    leak_kernel(const ActivationTangentParams p, const LeakShape shape) {
  __shared__ double sums[kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const O* outside = static_cast<const O*>(p.outside);
  const int64_t channel = blockIdx.x, step = gridDim.y * kWarps;
  const uint32_t stretches = static_cast<uint32_t>((shape.inner + kStretch - 1) / kStretch);
  const int64_t units = shape.rows * stretches;
  double sum = 0;
  for (int64_t unit = blockIdx.y * kWarps + warp; unit < units; unit += step) {
    const uint32_t row = static_cast<uint32_t>(unit) / stretches;
    const int64_t begin = (static_cast<uint32_t>(unit) - row * stretches) * kStretch;
    const int64_t end = min(begin + kStretch, shape.inner);
    const O* at = outside + (row * shape.channels + channel) * shape.inner;
#pragma unroll 4
    for (int64_t i = begin + lane; i < end; i += kWarp) sum += at[i];
  }
  sum = warp_sum(sum);
  if (lane == 0) sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) sum += sums[w];
  p.leak_partials[blockIdx.y * shape.channels + channel] = sum;
}

// The same where channels are adjacent in memory: 32 channels per block.
template <class O>
__global__ void __launch_bounds__(kThreads)
    leak_across_kernel(const ActivationTangentParams p, const LeakShape shape) {
  __shared__ double sums[kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const O* outside = static_cast<const O*>(p.outside);
  const int64_t channel = blockIdx.x * kWarp + lane;
  // Advances (row, i) by addition alone; i is the index within a row.
  const uint32_t inner = static_cast<uint32_t>(shape.inner), step = gridDim.y * kWarps;
  const uint32_t rows = step / inner, rest = step - rows * inner;
  const uint32_t first = blockIdx.y * kWarps + warp, row = first / inner;
  uint32_t i = first - row * inner;
  const int64_t stretch = shape.channels * inner, next = rows * stretch + rest;
  double sum = 0;
  if (channel < shape.channels)
#pragma unroll 4
    for (int64_t at = row * stretch + channel * inner + i; at < p.positions; at += next) {
      sum += outside[at];
      i += rest;
      if (i >= inner) i -= inner, at += stretch - inner;
    }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || channel >= shape.channels) return;
  for (int w = 1; w < kWarps; ++w) sum += sums[w][lane];
  p.leak_partials[blockIdx.y * shape.channels + channel] = sum;
}

// One warp per channel.
__global__ void __launch_bounds__(kWarp)
    leak_total_kernel(const ActivationTangentParams p, const int splits) {
  double sum = 0;
  for (int split = threadIdx.x; split < splits; split += kWarp)
    sum += p.leak_partials[split * p.leak_channels + blockIdx.x];
  sum = warp_sum(sum);
  if (threadIdx.x == 0) store_as(p.leak.type, p.grad_leak, blockIdx.x, sum);
}

bool is_aligned(const void* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; }

// Enough blocks to fill any current GPU a few times; the kernels stride over the rest.
int64_t blocks_for(int64_t threads) {
  return std::max<int64_t>(1, std::min<int64_t>((threads + kThreads - 1) / kThreads, kMostBlocks));
}

Walk walk_of(const ActivationTangentParams& p, int64_t blocks, int lanes) {
  const auto channels = static_cast<uint32_t>(p.channels);
  const auto step = static_cast<uint32_t>(blocks * kThreads * lanes);
  return {p.inner, channels, place_of(step, p.inner, channels)};
}

// Launches the kernel for the widest packs that the operands' alignment allows.
template <int lanes, class Launch>
int launch(const ActivationTangentParams& p, bool is_backward, const Launch& launch) {
  bool wide = is_aligned(p.h) && is_aligned(p.tangents) && is_aligned(p.out);
  if (is_backward) wide = wide && is_aligned(p.grad) && is_aligned(p.grad_h);
  if (p.count > 1)
    wide = wide && p.tangents_stride % lanes == 0 && p.out_stride % lanes == 0 &&
           (!is_backward || p.grad_stride % lanes == 0);
  const int64_t width = wide ? lanes : 1;
  const int64_t blocks = blocks_for((p.positions + width - 1) / width);
  if (wide)
    launch.template operator()<lanes>(blocks, walk_of(p, blocks, lanes));
  else
    launch.template operator()<1>(blocks, walk_of(p, blocks, 1));
  return cudaGetLastError();
}

// Numbers narrower than the arithmetic, as under a double h, are rare: one at a time.
template <class S, class O>
constexpr int kLanes = std::is_same_v<O, double> && !std::is_same_v<S, double> ? 1 : 16 / sizeof(S);

template <class S, class O>
int forward(const ActivationTangentParams& p, cudaStream_t stream) {
  return launch<kLanes<S, O>>(p, false, [&]<int N>(int64_t blocks, const Walk& walk) {
    const dim3 grid(static_cast<unsigned>(blocks),
                    static_cast<unsigned>(std::clamp<int64_t>(1024 / blocks, 1, p.count)));
    forward_kernel<S, O, N><<<grid, kThreads, 0, stream>>>(p, walk);
  });
}

template <class O>
int sum_leak(const ActivationTangentParams& p, cudaStream_t stream) {
  const LeakShape shape(p);
  const int64_t splits = activation_tangent_leak_splits(p);
  if (shape.rows * ((shape.inner + kStretch - 1) / kStretch) > kMost) return cudaErrorInvalidValue;
  const int64_t tiles = shape.across ? (shape.channels + kWarp - 1) / kWarp : shape.channels;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(splits));
  if (shape.across)
    leak_across_kernel<O><<<grid, kThreads, 0, stream>>>(p, shape);
  else
    leak_kernel<O><<<grid, kThreads, 0, stream>>>(p, shape);
  const dim3 channels(static_cast<unsigned>(shape.channels));
  leak_total_kernel<<<channels, kWarp, 0, stream>>>(p, static_cast<int>(splits));
  return cudaGetLastError();
}

template <class S, class O>
int backward(const ActivationTangentParams& p, cudaStream_t stream) {
  const int error = launch<kLanes<S, O>>(p, true, [&]<int N>(int64_t blocks, const Walk& walk) {
    const dim3 grid(static_cast<unsigned>(blocks));
    backward_kernel<S, O, N><<<grid, kThreads, 0, stream>>>(p, walk);
  });
  return error != cudaSuccess || !p.leak.data ? error : sum_leak<O>(p, stream);
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
  if (std::max(p.count, p.channels) > kMost) return cudaErrorInvalidValue;
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

// A few thousand numbers per block.
int64_t activation_tangent_leak_splits(const ActivationTangentParams& p) {
  const LeakShape shape(p);
  const int64_t apiece = shape.rows * shape.inner / (shape.across ? 256 : 4096);
  return std::clamp<int64_t>(apiece, 1, kMostSplits);
}

}  // namespace pydisent
