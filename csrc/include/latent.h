// Elementwise statistics of Gaussian codes, and the perceptual simplicity loss, with their
// adjoints. S is the storage type; T is float, or double for f64.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

// Elements, and rows, per work item of the CPU kernels.
constexpr int64_t kLatentChunk = 4096, kSimplicityRows = 64;

// A matrix whose element i is at (i / columns) * row_stride + (i % columns) * column_stride.
struct Strided {
  const void* data;
  int64_t columns, row_stride, column_stride;
};

// Requested outputs are non-null and contiguous.
struct GaussianParams {
  Strided mu, logvar, noise;                 // of S; noise if there is a sample
  Strided grad_z, grad_kl;                   // of S and T; backward only, null if there is none
  void *z, *kl;                              // of S and T
  void *grad_mu, *grad_logvar, *grad_noise;  // of S
  int64_t count;
  DType dtype;
};

struct SimplicityParams {
  const void *codes[2], *targets[2];      // (B, d) of S, strides code_strides and target_strides
  const int64_t* dimension;               // (B,), stride dimension_stride
  double* sums;                           // one per item; forward only
  void *grad_codes[2], *grad_targets[2];  // (B, d) contiguous of S; backward only
  int64_t batch, columns;
  int64_t code_strides[2][2], target_strides[2][2], dimension_stride;
  double scale;  // 2 weight grad / B; backward only
  DType dtype;
};

// Runs work items [begin, end) on the calling thread: chunks of elements, and blocks of rows.
void gaussian_cpu(const GaussianParams& p, int64_t begin, int64_t end);
void gaussian_backward_cpu(const GaussianParams& p, int64_t begin, int64_t end);
void perceptual_simplicity_cpu(const SimplicityParams& p, int64_t begin, int64_t end);
void perceptual_simplicity_backward_cpu(const SimplicityParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
