// One block per sample and one launch for all T iterations. The Gram matrix stays in shared memory
// as float (double for f64) if it fits; otherwise every product reads it, tile by tile.
//
// Floor, with s bytes per stored number and 4 (8) per computed one: B (m^2 + 2 m k) s + 4 B (T + 1)
// m k bytes and 2 B m^2 k T operations; the adjoint 2 B (m^2 + m k) s + 4 B (T + 1) m k and 4 B m^2
// k T.
#include <algorithm>
#include <type_traits>

#include "../include/spectral.h"
#include "common.cuh"

namespace pydisent {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 8;   // columns that a thread accumulates at once
constexpr int kWide = 32;   // the same where the matrix is read anew for each group of them
constexpr int kDepth = 16;  // columns of a tile of kThreads rows, which is read through

template <class S>
using ComputeType = std::conditional_t<std::is_same_v<S, double>, double, float>;

// Where the state of a sample lives.
//   resident: matrix[r * ld + c], the operand [j * columns + c] with columns a multiple of kGroup
//             and zeros beyond k, and the result [part * k * m + c * m + i], in shared memory.
//   otherwise: the matrix in its own strides; operand and result [c * m + i] in global memory.
struct Plan {
  bool resident;
  int64_t ld, columns, parts;
  size_t bytes;
};

template <class T>
Plan make_plan(int64_t m, int64_t k, size_t available) {
  Plan plan{};
  plan.ld = m | 1;  // odd: neither rows nor columns meet in one bank
  plan.columns = (k + kGroup - 1) / kGroup * kGroup;
  const int64_t items = std::max<int64_t>(1, m * (plan.columns / kGroup));
  plan.parts = std::min<int64_t>(std::max<int64_t>(1, kThreads / items), 8);
  plan.bytes = sizeof(T) * (m * plan.columns + m * plan.ld + plan.parts * k * m);
  plan.resident = plan.bytes <= available;
  if (!plan.resident) plan.parts = 1, plan.bytes = sizeof(T) * kThreads * (kDepth + 1);
  return plan;
}

template <class T>
struct alignas(16) Pack {
  T x[16 / sizeof(T)];
};

// Element (row, column) of the sample's matrix.
template <class S, class T, bool kResident>
struct Matrix {
  const T* shared;
  const S* global;
  int64_t ld, row_stride, column_stride;

  __device__ __forceinline__ T operator()(int64_t row, int64_t column) const {
    if constexpr (kResident) return shared[row * ld + column];
    return widen(global[row * row_stride + column * column_stride]);
  }
};

// Eight columns of the operand at row j.
template <class T>
__device__ __forceinline__ void load_group(const T* operand, int64_t j, int64_t c0, int64_t columns,
                                           T* out) {
  constexpr int lanes = 16 / sizeof(T);
  const Pack<T>* packs = reinterpret_cast<const Pack<T>*>(operand + j * columns + c0);
#pragma unroll
  for (int p = 0; p < kGroup / lanes; ++p) {
    const Pack<T> pack = packs[p];
#pragma unroll
    for (int l = 0; l < lanes; ++l) out[p * lanes + l] = pack.x[l];
  }
}

// emit(part, c, i, value): value = sum over a part of j of matrix(i, j) operand(j, c), or with
// kTransposed of matrix(j, i) operand(j, c). The sum over parts is left to the reader.
template <bool kTransposed, class S, class T, class Emit>
__device__ __forceinline__ void product(const Matrix<S, T, true>& matrix, const T* operand, T*,
                                        int64_t m, int64_t k, int64_t columns, int64_t parts,
                                        const Emit& emit) {
  const int64_t items = m * (columns / kGroup);
  for (int64_t unit = threadIdx.x; unit < items * parts; unit += kThreads) {
    const int64_t part = unit / items, item = unit % items;
    const int64_t i = item % m, c0 = item / m * kGroup;
    T sums[kGroup] = {};
    for (int64_t j = part * m / parts; j < (part + 1) * m / parts; ++j) {
      T row[kGroup];
      load_group(operand, j, c0, columns, row);
      const T x = kTransposed ? matrix(j, i) : matrix(i, j);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) sums[g] += x * row[g];
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g)
      if (c0 + g < k) emit(part, c0 + g, i, sums[g]);
  }
}

// The same, all in one part, of a matrix that does not fit: one thread per row, through tiles of
// kThreads rows and kDepth columns, which neighbours load from neighbouring addresses of a
// contiguous matrix.
template <bool kTransposed, class S, class T, class Emit>
__device__ __forceinline__ void product(const Matrix<S, T, false>& matrix, const T* operand,
                                        T* tile, int64_t m, int64_t k, int64_t, int64_t,
                                        const Emit& emit) {
  constexpr int ld = kDepth + 1;
  for (int64_t first = 0; first < m; first += kThreads)
    for (int64_t c0 = 0; c0 < k; c0 += kWide) {
      const int64_t i = first + threadIdx.x;
      T sums[kWide] = {};
      for (int64_t j0 = 0; j0 < m; j0 += kDepth) {
        __syncthreads();
        for (int at = threadIdx.x; at < kThreads * kDepth; at += kThreads) {
          const int row = kTransposed ? at % kThreads : at / kDepth;
          const int depth = kTransposed ? at / kThreads : at % kDepth;
          const int64_t r = first + row, j = j0 + depth;
          if (r < m && j < m) tile[row * ld + depth] = kTransposed ? matrix(j, r) : matrix(r, j);
        }
        __syncthreads();
        if (i >= m) continue;
        for (int64_t j = j0; j < min(j0 + kDepth, m); ++j) {
          const T x = tile[threadIdx.x * ld + (j - j0)];
#pragma unroll
          for (int g = 0; g < kWide; ++g)
            if (c0 + g < k) sums[g] += x * operand[(c0 + g) * m + j];
        }
      }
#pragma unroll
      for (int g = 0; g < kWide; ++g)
        if (i < m && c0 + g < k) emit(0, c0 + g, i, sums[g]);
    }
}

template <class T>
__device__ __forceinline__ T sum_parts(const T* result, int64_t at, int64_t parts, int64_t stride) {
  T total = result[at];
  for (int64_t part = 1; part < parts; ++part) total += result[part * stride + at];
  return total;
}

// Shared memory: the operand, zeroed beyond k, then the matrix, then the result.
template <class S, class T>
__device__ __forceinline__ Matrix<S, T, true> load_resident(const Plan& plan, T* memory, const S* x,
                                                            int64_t row_stride,
                                                            int64_t column_stride, int64_t m) {
  T* matrix = memory + m * plan.columns;
  for (int64_t at = threadIdx.x; at < m * plan.columns; at += kThreads) memory[at] = 0;
  for (int64_t at = threadIdx.x; at < m * m; at += kThreads)
    matrix[at / m * plan.ld + at % m] = widen(x[at / m * row_stride + at % m * column_stride]);
  return {matrix, x, plan.ld, row_stride, column_stride};
}

template <class S, bool kResident>
__global__ void __launch_bounds__(kThreads, 1)
    forward_kernel(const PowerIterationParams p, const Plan plan) {
  using T = ComputeType<S>;
  extern __shared__ __align__(16) unsigned char memory[];
  const int64_t b = blockIdx.x, m = p.m, k = p.k, steps = p.iterations;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const S* gram = static_cast<const S*>(p.gram) + b * p.gram_strides[0];
  const S* probe = static_cast<const S*>(p.probe) + b * p.probe_strides[0];
  const S* mask = static_cast<const S*>(p.mask);
  T* v = static_cast<T*>(p.iterates) + b * (steps + 1) * k * m;
  T* norms = static_cast<T*>(p.iterate_norms) + b * steps * k;
  T *operand = reinterpret_cast<T*>(memory), *tile = operand;  // one or the other is there
  Matrix<S, T, kResident> matrix{nullptr, gram, 0, p.gram_strides[1], p.gram_strides[2]};
  if constexpr (kResident) {
    matrix = load_resident(plan, operand, gram, p.gram_strides[1], p.gram_strides[2], m);
    __syncthreads();  // the zeros are written before what goes over them
  }
  for (int64_t at = threadIdx.x; at < k * m; at += kThreads) {
    const int64_t c = at / m, i = at % m;
    const T x = static_cast<T>(widen(mask[i * p.mask_strides[0] + c * p.mask_strides[1]])) *
                static_cast<T>(widen(probe[i * p.probe_strides[1] + c * p.probe_strides[2]]));
    v[at] = x;
    if constexpr (kResident) operand[i * plan.columns + c] = x;
  }
  T* result = operand + m * (plan.columns + plan.ld);
  for (int64_t t = 0; t < steps; ++t, v += k * m) {
    T* next = v + k * m;
    if constexpr (!kResident) operand = v, result = next;
    __syncthreads();
    product<false>(matrix, operand, tile, m, k, plan.columns, plan.parts,
                   [&](int64_t part, int64_t c, int64_t i, T value) {
                     result[(part * k + c) * m + i] = value;
                   });
    __syncthreads();
    for (int64_t c = warp; c < k; c += kThreads / kWarp) {
      T squares = 0;
      for (int64_t i = lane; i < m; i += kWarp) {
        const T keep = widen(mask[i * p.mask_strides[0] + c * p.mask_strides[1]]);
        const T w = keep * sum_parts(result, c * m + i, plan.parts, k * m);
        result[c * m + i] = w;  // read again by this lane alone
        squares += w * w;
      }
      const T n = sqrt(warp_sum(squares)), scale = 1 / (n + static_cast<T>(p.eps));
      for (int64_t i = lane; i < m; i += kWarp) {
        const T x = result[c * m + i] * scale;
        next[c * m + i] = x;
        if constexpr (kResident) operand[i * plan.columns + c] = x;
        if (t == steps - 1) narrow(x, static_cast<S*>(p.vectors)[(b * m + i) * k + c]);
      }
      if (lane == 0) norms[t * k + c] = n;
      if (lane == 0 && t == steps - 1) narrow(n, static_cast<S*>(p.norms)[b * k + c]);
    }
  }
}

template <class S, bool kResident>
__global__ void __launch_bounds__(kThreads, 1)
    backward_kernel(const PowerIterationBackwardParams p, const Plan plan) {
  using T = ComputeType<S>;
  extern __shared__ __align__(16) unsigned char memory[];
  const int64_t b = blockIdx.x, m = p.m, k = p.k, steps = p.iterations;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const S* gram = static_cast<const S*>(p.gram) + b * p.gram_strides[0];
  const S* mask = static_cast<const S*>(p.mask);
  const S* grad_vectors = static_cast<const S*>(p.grad_vectors) + b * p.grad_vectors_strides[0];
  const S* grad_norms = static_cast<const S*>(p.grad_norms) + b * p.grad_norms_strides[0];
  const T* iterates = static_cast<const T*>(p.iterates) + b * (steps + 1) * k * m;
  const T* norms = static_cast<const T*>(p.iterate_norms) + b * steps * k;
  T* weights = static_cast<T*>(p.weights) + b * steps * k * m;
  S* grad_probe = static_cast<S*>(p.grad_probe) + b * m * k;
  const T eps = static_cast<T>(p.eps);
  T *operand = reinterpret_cast<T*>(memory), *tile = operand;  // one or the other is there
  T* result = operand + m * (plan.columns + plan.ld);
  Matrix<S, T, kResident> matrix{nullptr, gram, 0, p.gram_strides[1], p.gram_strides[2]};
  if constexpr (kResident)
    matrix = load_resident(plan, operand, gram, p.gram_strides[1], p.gram_strides[2], m);
  for (int64_t t = steps; t > 0; --t) {
    const T* v = iterates + t * k * m;
    T* y = weights + (t - 1) * k * m;
    // Out of shared memory, V̄ waits where Y replaces it, element by element.
    if constexpr (!kResident) operand = y, result = y;
    if (t == steps)
      for (int64_t at = threadIdx.x; at < k * m; at += kThreads)
        result[at] = widen(
            grad_vectors[at % m * p.grad_vectors_strides[1] + at / m * p.grad_vectors_strides[2]]);
    const int64_t parts = t == steps ? 1 : plan.parts;
    __syncthreads();
    for (int64_t c = warp; c < k; c += kThreads / kWarp) {
      T along = 0;
      for (int64_t i = lane; i < m; i += kWarp) {
        const T v_bar = sum_parts(result, c * m + i, parts, k * m);
        result[c * m + i] = v_bar;
        along += v[c * m + i] * v_bar;
      }
      const T n = norms[(t - 1) * k + c], scale = 1 / (n + eps);
      const T n_bar = t == steps ? T(widen(grad_norms[c * p.grad_norms_strides[1]])) : T(0);
      along = n == 0 || scale == 0 ? T(0) : (warp_sum(along) - n_bar * (n + eps)) / n;
      for (int64_t i = lane; i < m; i += kWarp) {
        const T keep = widen(mask[i * p.mask_strides[0] + c * p.mask_strides[1]]);
        const T x = keep * (result[c * m + i] * scale - v[c * m + i] * along);
        y[c * m + i] = x;
        if constexpr (kResident) operand[i * plan.columns + c] = x;
      }
    }
    __syncthreads();
    product<true>(matrix, operand, tile, m, k, plan.columns, plan.parts,
                  [&](int64_t part, int64_t c, int64_t i, T value) {
                    if (kResident) {
                      result[(part * k + c) * m + i] = value;
                    } else if (t > 1) {
                      y[(c - k) * m + i] = value;  // at Y_{t-1}
                    } else {
                      const T keep = widen(mask[i * p.mask_strides[0] + c * p.mask_strides[1]]);
                      narrow(keep * value, grad_probe[i * k + c]);
                    }
                  });
    __syncthreads();
  }
  if constexpr (kResident)
    for (int64_t at = threadIdx.x; at < k * m; at += kThreads) {
      const int64_t c = at % k, i = at / k;
      const T keep = widen(mask[i * p.mask_strides[0] + c * p.mask_strides[1]]);
      narrow(keep * sum_parts(result, c * m + i, plan.parts, k * m), grad_probe[at]);
    }
}

int available_shared_memory() {
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
      cudaSuccess)
    return 0;
  return bytes;
}

template <class Params>
int launch(void (*resident)(Params, Plan), void (*streaming)(Params, Plan), const Plan& plan,
           const Params& p, cudaStream_t stream) {
  if (plan.resident) {
    const cudaError_t error = cudaFuncSetAttribute(
        resident, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(plan.bytes));
    if (error != cudaSuccess) return error;
    resident<<<p.batch, kThreads, plan.bytes, stream>>>(p, plan);
  } else {
    streaming<<<p.batch, kThreads, plan.bytes, stream>>>(p, plan);
  }
  return cudaGetLastError();
}

template <class S>
int forward(const PowerIterationParams& p, cudaStream_t stream) {
  const Plan plan = make_plan<ComputeType<S>>(p.m, p.k, available_shared_memory());
  return launch<PowerIterationParams>(forward_kernel<S, true>, forward_kernel<S, false>, plan, p,
                                      stream);
}

template <class S>
int backward(const PowerIterationBackwardParams& p, cudaStream_t stream) {
  const Plan plan = make_plan<ComputeType<S>>(p.m, p.k, available_shared_memory());
  return launch<PowerIterationBackwardParams>(backward_kernel<S, true>, backward_kernel<S, false>,
                                              plan, p, stream);
}

}  // namespace

int masked_power_iteration_cuda(const PowerIterationParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  switch (p.dtype) {
    case DType::f16:
      return forward<__half>(p, s);
    case DType::bf16:
      return forward<__nv_bfloat16>(p, s);
    case DType::f32:
      return forward<float>(p, s);
    default:
      return forward<double>(p, s);
  }
}

int masked_power_iteration_backward_cuda(const PowerIterationBackwardParams& p, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  switch (p.dtype) {
    case DType::f16:
      return backward<__half>(p, s);
    case DType::bf16:
      return backward<__nv_bfloat16>(p, s);
    case DType::f32:
      return backward<float>(p, s);
    default:
      return backward<double>(p, s);
  }
}

}  // namespace pydisent
