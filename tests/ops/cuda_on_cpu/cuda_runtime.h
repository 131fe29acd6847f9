// As much of CUDA as the kernels use, on the CPU: a thread runs until it waits for others, a block
// after another.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::exp;
using std::fabs;
using std::fmaf;
using std::memcpy;
using std::min;
using std::sqrt;

struct dim3 {
  unsigned x, y;
  dim3(unsigned x = 1, unsigned y = 1) : x(x), y(y) {}
};
inline dim3 threadIdx, blockIdx, gridDim;
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline float __fdividef(float x, float y) { return x / y; }

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
constexpr size_t kStack = 1 << 16;

// Threads that wait for one another, but not for those that have ended.
struct Group {
  unsigned running = 0, arrived = 0, round = 0;

  void release() {
    if (arrived == running) arrived = 0, ++round;
  }
};

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStack);
  bool ended;
};

inline unsigned char* memory;  // dynamic shared memory of the block that runs
inline int launches = 0;
inline Group block;
inline std::vector<Group> warps;
inline std::vector<Thread> threads;
inline std::vector<double> exchanged;
inline ucontext_t scheduler;
inline const std::function<void()>* running;

inline void wait(Group& group) {
  const unsigned round = group.round, self = threadIdx.x;
  ++group.arrived;
  group.release();
  while (group.round == round) swapcontext(&threads[self].context, &scheduler);
}

inline void run_thread() {
  (*running)();
  threads[threadIdx.x].ended = true;
  for (Group* group : {&block, &warps[threadIdx.x / kLanes]}) {
    --group->running;
    group->release();
  }
}

inline void run_block(unsigned count) {
  block = {count};
  warps.assign((count + kLanes - 1) / kLanes, {});
  if (threads.size() < count) threads.resize(count);
  for (unsigned t = 0; t < count; ++t) {
    ++warps[t / kLanes].running;
    Thread& thread = threads[t];
    thread.ended = false;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = kStack;
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_thread, 0);
  }
  while (block.running > 0)
    for (unsigned t = 0; t < count; ++t) {
      if (threads[t].ended) continue;
      threadIdx = t;
      swapcontext(&scheduler, &threads[t].context);
    }
}

// Shared memory that was not written is not a number.
inline void launch(dim3 blocks, unsigned count, size_t bytes, const std::function<void()>& kernel) {
  std::vector<double> shared(bytes / sizeof(double) + 2);
  memory = reinterpret_cast<unsigned char*>(shared.data());
  gridDim = blocks, running = &kernel, ++launches;
  exchanged.resize(count);
  for (unsigned b = 0; b < blocks.x * blocks.y; ++b) {
    std::memset(memory, 0xff, bytes);
    blockIdx = dim3(b % blocks.x, b / blocks.x);
    run_block(count);
  }
}

}  // namespace cuda_on_cpu

// How many kernels were launched.
extern "C" int cuda_launches();

inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::block); }

template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  using namespace cuda_on_cpu;
  Group& warp = warps[threadIdx.x / kLanes];
  const unsigned self = threadIdx.x;
  exchanged[self] = x;
  wait(warp);
  const T other = static_cast<T>(exchanged[self ^ mask]);
  wait(warp);
  return other;
}
