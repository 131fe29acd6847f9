// Tangents through pointwise activations, and the adjoint. The N = B * C * ... positions of a
// primal lie densely in memory, in one order that all operands share; the channel of position p is
// (p / inner) % channels. Only the stride between the K tangents is free.
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

struct ActivationTangentParams {
  const void* h;             // (N,)
  const void* tangents;      // (K, N), tangents_stride between rows
  const void* grad;          // (K, N), grad_stride between rows; backward only
  void* out;                 // (K, N), out_stride: the product, or grad_tangents; may be tangents
  void* grad_h;              // (N,); backward only
  const double* leak;        // (channels,) or null
  const double* threshold;   // (channels,) or null
  double* leak_partials;     // CPU backward with a leak: (chunks, channels), zeros on entry
  void* outside;             // CUDA backward with a leak: (N,), float or double
  double* grad_leak;         // backward with a leak: (channels,)
  int64_t count, positions;  // K, N
  int64_t channels, inner;
  int64_t tangents_stride, grad_stride, out_stride;
  int64_t chunk;  // positions a work item of the CPU kernels
  double negative_slope, beta, softplus_threshold;
  Activation kind;
  DType h_type, tangents_type;  // of h and grad_h; of tangents, grad and out
  bool turn;
};

// Chunks [begin, end) of chunk positions each, on the calling thread. Chunks do not depend on the
// number of threads, so that neither does grad_leak.
void activation_tangent_cpu(const ActivationTangentParams& p, int64_t begin, int64_t end);
void activation_tangent_backward_cpu(const ActivationTangentParams& p, int64_t begin, int64_t end);
// Sums leak_partials over the chunks into grad_leak.
void activation_tangent_leak_cpu(const ActivationTangentParams& p);

// Runs everything on a cudaStream_t and returns a cudaError_t.
int activation_tangent_cuda(const ActivationTangentParams& p, void* stream);
int activation_tangent_backward_cuda(const ActivationTangentParams& p, void* stream);

}  // namespace pydisent
