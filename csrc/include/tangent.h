// Tangents through pointwise activations, and the adjoint. The N = B * C * ... positions of a
// primal are dense in memory, in one order shared by all operands; position p belongs to
// channel (p / inner) % channels. Only the stride between the K tangents is free.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

enum class Activation : int {
  relu,
  leaky_relu,
  prelu,
  translated_prelu,
  tanh,
  sigmoid,
  silu,
  softplus
};

#ifdef __CUDACC__
__host__ __device__
#endif
    inline bool is_piecewise_linear(Activation kind) {
  return kind <= Activation::translated_prelu;
}

// One number per channel, in its own dtype; stride 0 if all channels share it.
struct ChannelValues {
  const void* data;  // null if there is none
  int64_t stride;
  DType type;
};

struct ActivationTangentParams {
  const void* h;         // (N,)
  const void* tangents;  // (K, N), tangents_stride between rows
  const void* grad;      // (K, N), grad_stride between rows; backward only
  void* out;             // (K, N), out_stride: the product, or grad_tangents; may be tangents
  void* grad_h;          // (N,); backward only
  ChannelValues leak, threshold;  // on the CPU, contiguous doubles
  double* leak_partials;  // backward with a leak: (chunks, channels), on the CPU zeros on entry; on
                          // CUDA (activation_tangent_leak_splits, leak_channels)
  void* outside;          // CUDA backward with a leak: (N,), float or double
  void* grad_leak;        // backward with a leak: on the CPU (channels,) doubles; on CUDA
                          // (leak_channels,) of the leak's dtype
  int64_t count, positions;  // K, N
  int64_t channels, inner;
  int64_t leak_channels;  // CUDA: channels, or 1 if they share the leak
  int64_t tangents_stride, grad_stride, out_stride;
  int64_t chunk;  // positions per work item of the CPU kernels
  double negative_slope, beta, softplus_threshold;
  Activation kind;
  DType h_type, tangents_type;  // of h and grad_h; of tangents, grad and out
  bool turn;
};

// Runs chunks [begin, end), of `chunk` positions each, on the calling thread. Neither chunks nor
// grad_leak depend on the number of threads.
void activation_tangent_cpu(const ActivationTangentParams& p, int64_t begin, int64_t end);
void activation_tangent_backward_cpu(const ActivationTangentParams& p, int64_t begin, int64_t end);
// Sums leak_partials over the chunks into grad_leak.
void activation_tangent_leak_cpu(const ActivationTangentParams& p);

// Runs everything on a cudaStream_t and returns a cudaError_t.
int activation_tangent_cuda(const ActivationTangentParams& p, void* stream);
int activation_tangent_backward_cuda(const ActivationTangentParams& p, void* stream);
// The number of parts that the sum for each leak is split into.
int64_t activation_tangent_leak_splits(const ActivationTangentParams& p);

}  // namespace pydisent
