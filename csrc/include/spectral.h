// Masked power iteration and its adjoint. All strides are in elements; B samples are independent.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

struct PowerIterationParams {
  const void* gram;     // (B, m, m), strides gram_strides
  const void* probe;    // (B, m, k), strides probe_strides
  const void* mask;     // (m, k), strides mask_strides
  void* vectors;        // (B, m, k) contiguous
  void* norms;          // (B, k) contiguous
  void* iterates;       // (B, T + 1, k, m) contiguous, float or double
  void* iterate_norms;  // (B, T, k) contiguous, float or double
  int64_t batch, m, k, iterations;
  int64_t gram_strides[3], probe_strides[3], mask_strides[2];
  double eps;
  DType dtype;  // of gram, probe, mask, vectors and norms; the rest is float (double for f64)
};

struct PowerIterationBackwardParams {
  const void* grad_vectors;   // (B, m, k), strides grad_vectors_strides
  const void* grad_norms;     // (B, k), strides grad_norms_strides
  const void* gram;           // (B, m, m), strides gram_strides
  const void* mask;           // (m, k), strides mask_strides
  const void* iterates;       // (B, T + 1, k, m) contiguous, float or double
  const void* iterate_norms;  // (B, T, k) contiguous, float or double
  void* grad_gram;            // (B, m, m) contiguous; CPU only
  void* grad_probe;           // (B, m, k) contiguous
  void* weights;              // (B, T, k, m) contiguous, float or double: Y_1 ... Y_T; CUDA only
  int64_t batch, m, k, iterations;
  int64_t grad_vectors_strides[3], grad_norms_strides[2], gram_strides[3], mask_strides[2];
  double eps;
  DType dtype;  // of all but iterates, iterate_norms and weights
};

// Runs samples [begin, end) on the calling thread.
void masked_power_iteration_cpu(const PowerIterationParams& p, int64_t begin, int64_t end);
void masked_power_iteration_backward_cpu(const PowerIterationBackwardParams& p, int64_t begin,
                                         int64_t end);

// Runs every sample on a cudaStream_t and returns a cudaError_t. The backward writes grad_probe and
// weights; the caller computes grad_gram as the matrix product of weights' and iterates.
int masked_power_iteration_cuda(const PowerIterationParams& p, void* stream);
int masked_power_iteration_backward_cuda(const PowerIterationBackwardParams& p, void* stream);

}  // namespace pydisent
