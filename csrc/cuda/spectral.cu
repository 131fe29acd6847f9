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
constexpr int kWarps = kThreads / kWarp;
constexpr int kGroup = 8;              // columns that a thread accumulates at once
constexpr int kWide = 32;              // the same where each group rereads the matrix
constexpr int kDepth = 16;             // columns of a streamed tile of kThreads rows
constexpr int64_t kMost = 0x7fffffff;  // numbers in a matrix, counted in 32 bits

template <class S>
using ComputeType = std::conditional_t<std::is_same_v<S, double>, double, float>;

// Memory placement of a sample's state.
//   resident: matrix[r * ld + c], the operand [j * columns + c] with columns a multiple of kGroup
//             and zeros beyond k, and the result [part * k * m + c * m + i], in shared memory.
//   otherwise: the matrix in its own strides; operand and result [c * m + i] in global memory.
//             Tiles of both pass through shared memory.
struct Plan {
  bool resident, wide;  // wide: the matrix may be read 16 bytes at a time
  int ld, columns, parts;
  size_t bytes;
};

template <class S, class Params>
Plan make_plan(const Params& p, size_t available) {
  using T = ComputeType<S>;
  const int64_t m = p.m, k = p.k;
  Plan plan{};
  plan.ld = static_cast<int>(m | 1);  // odd: no bank conflicts along rows or columns
  plan.columns = static_cast<int>((k + kGroup - 1) / kGroup * kGroup);
  const int64_t items = std::max<int64_t>(1, m * (plan.columns / kGroup));
  plan.parts = static_cast<int>(std::clamp<int64_t>(kThreads / items, 1, 8));
  plan.bytes = sizeof(T) * (m * plan.columns + m * plan.ld + plan.parts * k * m);
  plan.resident = plan.bytes <= available;
  constexpr int64_t lanes = 16 / sizeof(S);
  plan.wide = reinterpret_cast<uintptr_t>(p.gram) % 16 == 0 && p.gram_strides[2] == 1 &&
              m % lanes == 0 && p.gram_strides[1] % lanes == 0 && p.gram_strides[0] % lanes == 0;
  if (!plan.resident)
    plan.parts = 1, plan.bytes = sizeof(T) * (kDepth * (kWide + 4) + kThreads * (kDepth + 1));
  return plan;
}

// Element (row, column) of the sample's matrix.
template <class S, class T, bool kResident>
struct Matrix {
  const T* shared;
  const S* global;
  int ld;
  int64_t row_stride, column_stride;

  __device__ __forceinline__ T operator()(int row, int column) const {
    if constexpr (kResident) return shared[row * ld + column];
    return widen(global[row * row_stride + column * column_stride]);
  }
};

// Eight columns of an operand, in 16-byte reads.
template <class T>
__device__ __forceinline__ Pack<T, kGroup> load_group(const T* operand) {
  return load<T, kGroup>(operand, 0);
}

// emit(part, c, i, value): value = sum over a part of j of matrix(i, j) operand(j, c), or with
// kTransposed of matrix(j, i) operand(j, c). The reader sums over parts.
template <bool kTransposed, class S, class T, class Emit>
__device__ __forceinline__ void product(const Matrix<S, T, true>& matrix, const T* operand, T*,
                                        int m, int k, const Plan& plan, const Emit& emit) {
  const int items = m * (plan.columns / kGroup);
  for (int unit = threadIdx.x; unit < items * plan.parts; unit += kThreads) {
    const int part = unit / items, item = unit - part * items;
    const int group = item / m, i = item - group * m, c0 = group * kGroup;
    T sums[kGroup] = {};
    const int end = (part + 1) * m / plan.parts;
#pragma unroll 4
    for (int j = part * m / plan.parts; j < end; ++j) {
      const auto row = load_group(operand + j * plan.columns + c0);
      const T x = kTransposed ? matrix(j, i) : matrix(i, j);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) sums[g] += x * row.x[g];
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g)
      if (c0 + g < k) emit(part, c0 + g, i, sums[g]);
  }
}

// The same in one part, for a matrix that does not fit: one thread per row, through tiles of
// kThreads rows and kDepth columns, loaded with coalesced reads if the matrix is contiguous. Next
// to the tile are the operand's kDepth rows of kWide columns; both are zero-padded.
template <bool kTransposed, class S, class T, class Emit>
__device__ __forceinline__ void product(const Matrix<S, T, false>& matrix, const T* operand,
                                        T* memory, int m, int k, const Plan&, const Emit& emit) {
  constexpr int ld = kDepth + 1, wide = kWide + 4;  // to limit bank conflicts
  T *rows = memory, *tile = memory + kDepth * wide;
  for (int first = 0; first < m; first += kThreads)
    for (int c0 = 0; c0 < k; c0 += kWide) {
      const int i = first + threadIdx.x;
      T sums[kWide] = {};
      for (int j0 = 0; j0 < m; j0 += kDepth) {
        __syncthreads();
#pragma unroll 8
        for (int at = threadIdx.x; at < kThreads * kDepth; at += kThreads) {
          const int row = kTransposed ? at % kThreads : at / kDepth;
          const int depth = kTransposed ? at / kThreads : at % kDepth;
          const int r = first + row, j = j0 + depth;
          if (r < m && j < m) tile[row * ld + depth] = kTransposed ? matrix(j, r) : matrix(r, j);
        }
#pragma unroll
        for (int at = threadIdx.x; at < kWide * kDepth; at += kThreads) {
          const int c = at / kDepth, j = j0 + at % kDepth;
          const bool inside = c0 + c < k && j < m;
          rows[at % kDepth * wide + c] = inside ? operand[(c0 + c) * m + j] : T(0);
        }
        __syncthreads();
        if (i >= m) continue;
        const int depth = min(kDepth, m - j0);
#pragma unroll 2
        for (int j = 0; j < depth; ++j) {
          const T x = tile[threadIdx.x * ld + j];
#pragma unroll
          for (int part = 0; part < kWide; part += kGroup) {
            if (c0 + part >= k) break;
            const auto row = load_group(rows + j * wide + part);
#pragma unroll
            for (int g = 0; g < kGroup; ++g) sums[part + g] += x * row.x[g];
          }
        }
      }
#pragma unroll
      for (int g = 0; g < kWide; ++g)
        if (i < m && c0 + g < k) emit(0, c0 + g, i, sums[g]);
    }
}

template <class T>
__device__ __forceinline__ T sum_parts(const T* result, int at, int parts, int stride) {
  T total = result[at];
#pragma unroll 4
  for (int part = 1; part < parts; ++part) total += result[part * stride + at];
  return total;
}

// Calls visit(c, i) for k columns of m numbers, one warp per column.
template <class Visit>
__device__ __forceinline__ void for_columns(int m, int k, const Visit& visit) {
  for (int c = threadIdx.x / kWarp; c < k; c += kWarps)
    for (int i = threadIdx.x % kWarp; i < m; i += kWarp) visit(c, i);
}

// A warp reads packs of N numbers from N rows, and writes them to different banks; each thread
// reads several packs before it writes the first.
template <int N, class S, class T>
__device__ __forceinline__ void load_rows(const Matrix<S, T, true>& from, int m, T* to) {
  constexpr int across = kWarp / N;
  for (int column = threadIdx.x % across * N; column < m; column += kWarp)
#pragma unroll 4
    for (int row = threadIdx.x / across; row < m; row += kThreads / across) {
      const auto pack =
          load<S, N>(from.global, row * from.row_stride + column * from.column_stride);
#pragma unroll
      for (int i = 0; i < N; ++i) to[row * from.ld + column + i] = widen(pack.x[i]);
    }
}

// Shared memory: the operand, zeroed beyond k, then the matrix, then the result.
template <class S, class T>
__device__ __forceinline__ Matrix<S, T, true> load_resident(const Plan& plan, T* memory, const S* x,
                                                            int64_t row_stride,
                                                            int64_t column_stride, int m) {
  T* shared = memory + m * plan.columns;
  const Matrix<S, T, true> matrix{shared, x, plan.ld, row_stride, column_stride};
  for (int at = threadIdx.x; at < m * plan.columns; at += kThreads) memory[at] = 0;
  if (plan.wide)
    load_rows<16 / sizeof(S)>(matrix, m, shared);
  else
    load_rows<1>(matrix, m, shared);
  return matrix;
}

template <class S, bool kResident>
__global__ void __launch_bounds__(kThreads, 1)
    forward_kernel(const PowerIterationParams p, const Plan plan) {
  using T = ComputeType<S>;
  extern __shared__ __align__(16) unsigned char memory[];
  const int64_t b = blockIdx.x;
  const int m = static_cast<int>(p.m), k = static_cast<int>(p.k);
  const int steps = static_cast<int>(p.iterations), lane = threadIdx.x % kWarp;
  const S* gram = static_cast<const S*>(p.gram) + b * p.gram_strides[0];
  const S* probe = static_cast<const S*>(p.probe) + b * p.probe_strides[0];
  const auto mask = [&](int c, int i) -> T {
    return widen(static_cast<const S*>(p.mask)[i * p.mask_strides[0] + c * p.mask_strides[1]]);
  };
  T* v = static_cast<T*>(p.iterates) + b * (steps + 1) * k * m;
  T* norms = static_cast<T*>(p.iterate_norms) + b * steps * k;
  T *operand = reinterpret_cast<T*>(memory), *tile = operand;  // only one of them is used
  Matrix<S, T, kResident> matrix{nullptr, gram, 0, p.gram_strides[1], p.gram_strides[2]};
  if constexpr (kResident) {
    matrix = load_resident(plan, operand, gram, p.gram_strides[1], p.gram_strides[2], m);
    __syncthreads();  // zeros first, then the values that overwrite them
  }
  for_columns(m, k, [&](int c, int i) {
    const S* from = probe + i * p.probe_strides[1] + c * p.probe_strides[2];
    const T x = mask(c, i) * static_cast<T>(widen(*from));
    v[c * m + i] = x;
    if constexpr (kResident) operand[i * plan.columns + c] = x;
  });
  T* result = operand + m * (plan.columns + plan.ld);
  for (int t = 0; t < steps; ++t, v += k * m) {
    T* next = v + k * m;
    if constexpr (!kResident) operand = v, result = next;
    __syncthreads();
    product<false>(matrix, operand, tile, m, k, plan, [&](int part, int c, int i, T value) {
      result[(part * k + c) * m + i] = value;
    });
    __syncthreads();
    for (int c = threadIdx.x / kWarp; c < k; c += kWarps) {
      T squares = 0;
#pragma unroll 2
      for (int i = lane; i < m; i += kWarp) {
        const T w = mask(c, i) * sum_parts(result, c * m + i, plan.parts, k * m);
        result[c * m + i] = w;  // reread only by this lane
        squares += w * w;
      }
      const T n = sqrt(warp_sum(squares)), scale = 1 / (n + static_cast<T>(p.eps));
#pragma unroll 2
      for (int i = lane; i < m; i += kWarp) {
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
  const int64_t b = blockIdx.x;
  const int m = static_cast<int>(p.m), k = static_cast<int>(p.k);
  const int steps = static_cast<int>(p.iterations), lane = threadIdx.x % kWarp;
  const S* gram = static_cast<const S*>(p.gram) + b * p.gram_strides[0];
  const auto mask = [&](int c, int i) -> T {
    return widen(static_cast<const S*>(p.mask)[i * p.mask_strides[0] + c * p.mask_strides[1]]);
  };
  const S* grad_vectors = static_cast<const S*>(p.grad_vectors) + b * p.grad_vectors_strides[0];
  const S* grad_norms = static_cast<const S*>(p.grad_norms) + b * p.grad_norms_strides[0];
  const T* iterates = static_cast<const T*>(p.iterates) + b * (steps + 1) * k * m;
  const T* norms = static_cast<const T*>(p.iterate_norms) + b * steps * k;
  T* weights = static_cast<T*>(p.weights) + b * steps * k * m;
  S* grad_probe = static_cast<S*>(p.grad_probe) + b * m * k;
  const T eps = static_cast<T>(p.eps);
  T *operand = reinterpret_cast<T*>(memory), *tile = operand;  // only one of them is used
  T* result = operand + m * (plan.columns + plan.ld);
  Matrix<S, T, kResident> matrix{nullptr, gram, 0, p.gram_strides[1], p.gram_strides[2]};
  if constexpr (kResident)
    matrix = load_resident(plan, operand, gram, p.gram_strides[1], p.gram_strides[2], m);
  for (int t = steps; t > 0; --t) {
    const T* v = iterates + static_cast<int64_t>(t) * k * m;
    T* y = weights + static_cast<int64_t>(t - 1) * k * m;
    // Outside shared memory, V̄ is stored where Y replaces it, element by element.
    if constexpr (!kResident) operand = y, result = y;
    if (t == steps)
      for_columns(m, k, [&](int c, int i) {
        result[c * m + i] =
            widen(grad_vectors[i * p.grad_vectors_strides[1] + c * p.grad_vectors_strides[2]]);
      });
    const int parts = t == steps ? 1 : plan.parts;
    __syncthreads();
    for (int c = threadIdx.x / kWarp; c < k; c += kWarps) {
      T along = 0;
#pragma unroll 2
      for (int i = lane; i < m; i += kWarp) {
        const T v_bar = sum_parts(result, c * m + i, parts, k * m);
        result[c * m + i] = v_bar;
        along += v[c * m + i] * v_bar;
      }
      const T n = norms[(t - 1) * k + c], scale = 1 / (n + eps);
      const T n_bar = t == steps ? T(widen(grad_norms[c * p.grad_norms_strides[1]])) : T(0);
      along = n == 0 || scale == 0 ? T(0) : (warp_sum(along) - n_bar * (n + eps)) / n;
#pragma unroll 2
      for (int i = lane; i < m; i += kWarp) {
        const T x = mask(c, i) * (result[c * m + i] * scale - v[c * m + i] * along);
        y[c * m + i] = x;
        if constexpr (kResident) operand[i * plan.columns + c] = x;
      }
    }
    __syncthreads();
    product<true>(matrix, operand, tile, m, k, plan, [&](int part, int c, int i, T value) {
      if (kResident) {
        result[(part * k + c) * m + i] = value;
      } else if (t > 1) {
        y[(c - k) * m + i] = value;  // at Y_{t-1}
      } else {
        narrow(mask(c, i) * value, grad_probe[i * k + c]);
      }
    });
    __syncthreads();
  }
  if constexpr (kResident)
    for_columns(m, k, [&](int c, int i) {
      const T total = sum_parts(result, c * m + i, plan.parts, k * m);
      narrow(mask(c, i) * total, grad_probe[i * k + c]);
    });
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
  if (std::max({p.m * p.m, p.m * p.k * kGroup, p.iterations * p.k}) > kMost)
    return cudaErrorInvalidValue;
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
  const Plan plan = make_plan<S>(p, available_shared_memory());
  return launch<PowerIterationParams>(forward_kernel<S, true>, forward_kernel<S, false>, plan, p,
                                      stream);
}

template <class S>
int backward(const PowerIterationBackwardParams& p, cudaStream_t stream) {
  const Plan plan = make_plan<S>(p, available_shared_memory());
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
