// As much of CUDA as the kernels use, on the CPU: a thread is a thread, a block runs after another.
#pragma once

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::exp;
using std::fabs;
using std::min;
using std::sqrt;

struct dim3 {
  unsigned x, y;
  dim3(unsigned x = 1, unsigned y = 1) : x(x), y(y) {}
};
inline thread_local dim3 threadIdx, blockIdx;
inline dim3 gridDim;

using cudaStream_t = void*;
using cudaError_t = int;
constexpr int cudaSuccess = 0, cudaErrorInvalidValue = 1;
constexpr int cudaDevAttrMaxSharedMemoryPerBlockOptin = 0, cudaDevAttrMultiProcessorCount = 1;
constexpr int cudaFuncAttributeMaxDynamicSharedMemorySize = 0;
inline int cudaGetLastError() { return cudaSuccess; }
inline int cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline int cudaDeviceGetAttribute(int* value, int attribute, int) {
  const char* bytes = std::getenv("SHARED_MEMORY");
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : bytes ? std::atoi(bytes) : 232448;
  return cudaSuccess;
}
template <class F>
int cudaFuncSetAttribute(F, int, int) {
  return cudaSuccess;
}

namespace cuda_on_cpu {

constexpr unsigned kLanes = 32;

inline unsigned char* memory;  // dynamic shared memory of the block that runs
inline std::unique_ptr<std::barrier<>> block;
inline std::vector<std::unique_ptr<std::barrier<>>> warps;
inline std::vector<double> exchanged;

// Shared memory that was not written is not a number.
inline void launch(dim3 blocks, unsigned threads, size_t bytes,
                   const std::function<void()>& kernel) {
  std::vector<double> shared(bytes / sizeof(double) + 1);
  memory = reinterpret_cast<unsigned char*>(shared.data());
  gridDim = blocks;
  exchanged.resize(threads);
  for (unsigned b = 0; b < blocks.x * blocks.y; ++b) {
    std::memset(memory, 0xff, bytes);
    block = std::make_unique<std::barrier<>>(threads);
    warps.clear();
    for (unsigned w = 0; w < threads; w += kLanes)
      warps.push_back(std::make_unique<std::barrier<>>(std::min(kLanes, threads - w)));
    std::vector<std::jthread> running;
    for (unsigned t = 0; t < threads; ++t)
      running.emplace_back([&, t] {
        threadIdx = t, blockIdx = dim3(b % blocks.x, b / blocks.x);
        kernel();
      });
  }
}

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::block->arrive_and_wait(); }

template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  using namespace cuda_on_cpu;
  std::barrier<>& warp = *warps[threadIdx.x / kLanes];
  exchanged[threadIdx.x] = x;
  warp.arrive_and_wait();
  const T other = static_cast<T>(exchanged[threadIdx.x ^ mask]);
  warp.arrive_and_wait();
  return other;
}
