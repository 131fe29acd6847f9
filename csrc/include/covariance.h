// Covariances of a batch, penalties on them, third central moments, and the adjoints. Strides are
// in elements. S is the storage type of the samples; T is float, or double for f64.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

// Columns per work item of the CPU kernels. Neither items nor results depend on the number of
// threads.
constexpr int64_t kCovarianceTile = 128;
// Rows and columns of the adjoint's result per work item.
constexpr int64_t kAdjointRows = 32, kAdjointTile = 256;

struct Samples {
  const void* data;  // (B, columns) of S; null if there are none
  int64_t columns, strides[2];
};

struct CovarianceParams {
  Samples left, right;       // (B, k) and (B, d): one and the same if symmetric
  Samples logvar;            // (B, d); symmetric only, may be null
  void *left_means, *means;  // (2, k) and (2, d) contiguous of T; left_means is null if symmetric
  void* covariance;          // (k, d) contiguous of T
  double* sums;              // (tiles, 2): squares off the diagonal, and on it of C - 1
  int64_t batch;
  bool symmetric;
  DType dtype;
};

// out (B, n) = (samples - means) weights, where weights = scale V, for V (m, n) as given or, if
// symmetric, for its weighted difference from the identity: lambda_od V_ij and lambda_d (V_ii - 1).
struct CovarianceAdjointParams {
  Samples samples, logvar;  // (B, m); logvar may be null
  const void* means;        // (2, m) contiguous of T
  const void* covariance;   // V of T, strides covariance_strides
  void *out, *grad_logvar;  // (B, n) contiguous of S; grad_logvar = weights_ii / 2 exp(logvar)
  int64_t batch, columns;   // B, n
  int64_t covariance_strides[2];
  double scale, lambda_od, lambda_d;
  bool symmetric;
  DType dtype;
};

struct ThirdMomentParams {
  Samples samples, logvar;  // (B, d); logvar may be null
  void* moments;            // (4, d) contiguous of T: the means' two rows, variance, third moment
  void *out, *grad_logvar;  // (B, d) contiguous of S; backward only
  int64_t batch;
  double scale;  // 6 grad / B; backward only
  DType dtype;
};

// Runs work items [begin, end) on the calling thread: tiles of columns; for the adjoints, blocks of
// rows (of the covariance's, tile by tile).
void covariance_cpu(const CovarianceParams& p, int64_t begin, int64_t end);
void covariance_adjoint_cpu(const CovarianceAdjointParams& p, int64_t begin, int64_t end);
void third_moment_cpu(const ThirdMomentParams& p, int64_t begin, int64_t end);
void third_moment_adjoint_cpu(const ThirdMomentParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
