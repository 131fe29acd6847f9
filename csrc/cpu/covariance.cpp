#include "../include/covariance.h"

#include <algorithm>

#include "exp.h"
#include "product.h"

namespace pydisent {
namespace {

constexpr int64_t kTile = kCovarianceTile;
constexpr int64_t kBatchBlock = 256, kDepth = 128;

template <int W>
PYDISENT_INLINE int64_t padded(int64_t n) {
  return (n + W - 1) / W * W;
}

// Calls visit(j, x[row, column + j]) for `columns` columns
template <class S, class Visit>
PYDISENT_INLINE void for_row(const Samples& x, int64_t row, int64_t column, int64_t columns,
                             const Visit& visit) {
  const S* from = static_cast<const S*>(x.data) + row * x.strides[0] + column * x.strides[1];
  const int64_t stride = x.strides[1];
  if (stride == 1)
    for (int64_t j = 0; j < columns; ++j) visit(j, widen(from[j]));
  else
    for (int64_t j = 0; j < columns; ++j) visit(j, widen(from[j * stride]));
}

// Mean of at most kTile columns, and its rounding error: the mean of x - mean.
template <class S, class T>
PYDISENT_INLINE void column_means(const Samples& x, int64_t batch, int64_t column, int64_t columns,
                                  T* mean, T* rest) {
  const double inverse = 1.0 / std::max<int64_t>(batch, 1);
  double sums[kTile] = {};
  for (int64_t b = 0; b < batch; ++b)
    for_row<S>(x, b, column, columns,
               [&](int64_t j, T value) __attribute__((always_inline)) { sums[j] += value; });
  for (int64_t j = 0; j < columns; ++j) {
    mean[j] = static_cast<T>(sums[j] * inverse);
    sums[j] = 0;
  }
  for (int64_t b = 0; b < batch; ++b)
    for_row<S>(x, b, column, columns, [&](int64_t j, T value) __attribute__((always_inline)) {
      sums[j] += value - mean[j];
    });
  for (int64_t j = 0; j < columns; ++j) rest[j] = static_cast<T>(sums[j] * inverse);
}

// out[b * stride + j] = x - mean - rest, with zeros for j from columns to stride.
template <class S, class T>
PYDISENT_INLINE void centre(const Samples& x, int64_t row, int64_t rows, int64_t column,
                            int64_t columns, const T* mean, const T* rest, T* out, int64_t stride) {
  for (int64_t b = 0; b < rows; ++b, out += stride) {
    for_row<S>(x, row + b, column, columns, [&](int64_t j, T value) __attribute__((always_inline)) {
      out[j] = (value - mean[j]) - rest[j];
    });
    for (int64_t j = columns; j < stride; ++j) out[j] = 0;
  }
}

// Means of all columns of the left operand; if symmetric, also written to the output.
template <class S, class T>
PYDISENT_INLINE void left_means(const CovarianceParams& p, T* means) {
  const int64_t k = p.left.columns;
  for (int64_t i = 0; i < k; i += kTile)
    column_means<S>(p.left, p.batch, i, std::min(kTile, k - i), means + i, means + k + i);
}

template <class T>
PYDISENT_INLINE void store_means(const T* from, int64_t count, int64_t first, int64_t n, void* to) {
  for (int64_t row = 0; row < 2; ++row)
    std::memcpy(static_cast<T*>(to) + row * count + first, from + row * count + first,
                n * sizeof(T));
}

// Adds the batch mean of exp(logvar) to the diagonal in these columns.
template <class S, class T>
PYDISENT_INLINE void add_variances(const CovarianceParams& p, int64_t column, int64_t columns,
                                   T* covariance) {
  double sums[kTile] = {};
  for (int64_t b = 0; b < p.batch; ++b)
    for_row<S>(p.logvar, b, column, columns,
               [&](int64_t j, T value)
                   __attribute__((always_inline)) { sums[j] += exponential(value); });
  const double inverse = 1.0 / std::max<int64_t>(p.batch, 1);
  for (int64_t j = 0; j < columns; ++j)
    covariance[(column + j) * (p.right.columns + 1)] += static_cast<T>(sums[j] * inverse);
}

template <class T, int W>
PYDISENT_INLINE void sum_squares(const CovarianceParams& p, int64_t column, int64_t columns,
                                 const T* covariance, double* sums) {
  double off = 0, on = 0;
  for (int64_t i = 0; i < p.left.columns; ++i) {
    const T* row = covariance + i * p.right.columns + column;
    const int64_t diagonal = p.symmetric ? i - column : -1;
    if (diagonal < 0 || diagonal >= columns) {
      off += dot<T, W>(row, row, columns);
      continue;
    }
    const T* after = row + diagonal + 1;
    off += dot<T, W>(row, row, diagonal);
    off += dot<T, W>(after, after, columns - diagonal - 1);
    on += (row[diagonal] - 1) * (row[diagonal] - 1);
  }
  sums[0] = off, sums[1] = on;
}

template <class S, int BYTES>
PYDISENT_INLINE void covariance_tiles(const CovarianceParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  constexpr int W = BYTES / sizeof(T);
  const int64_t k = p.left.columns, d = p.right.columns, stride = padded<W>(k);
  const int64_t block = std::min(kBatchBlock, std::max<int64_t>(p.batch, 1));
  Scratch<T> means(2 * k), left(block * stride), right(p.symmetric ? 0 : block * kTile);
  T *covariance = static_cast<T*>(p.covariance), *right_means = static_cast<T*>(p.means);
  left_means<S>(p, static_cast<T*>(means));
  if (begin == 0 && p.left_means) store_means<T>(means, k, 0, k, p.left_means);
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t column = tile * kTile, columns = std::min(kTile, d - column);
    if (p.symmetric)
      store_means<T>(means, d, column, columns, p.means);
    else
      column_means<S>(p.right, p.batch, column, columns, right_means + column,
                      right_means + d + column);
    for (int64_t i = 0; i < k; ++i) std::fill_n(covariance + i * d + column, columns, T(0));
    for (int64_t b = 0; b < p.batch; b += block) {
      const int64_t rows = std::min(block, p.batch - b);
      if (tile == begin || rows < p.batch)  // a batch of one block is loaded once
        centre<S, T>(p.left, b, rows, 0, k, means, means + k, left, stride);
      const int64_t right_stride = p.symmetric ? stride : kTile;
      const T* operand = p.symmetric ? left + column : static_cast<T*>(right);
      if (!p.symmetric)
        centre<S, T>(p.right, b, rows, column, columns, right_means + column,
                     right_means + d + column, right, kTile);
      product<T, W, true>(left, stride, 1, k, operand, right_stride, rows, covariance + column, d,
                          columns);
    }
    const T inverse = T(1) / static_cast<T>(std::max<int64_t>(p.batch, 1));
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < columns; ++j) covariance[i * d + column + j] *= inverse;
    if (p.logvar.data) add_variances<S, T>(p, column, columns, covariance);
    sum_squares<T, W>(p, column, columns, covariance, p.sums + 2 * tile);
  }
}

// out[i * stride + j] = weights[row + i, column + j], with zeros for j from columns to stride.
template <class T, int W>
PYDISENT_INLINE void load_weights(const CovarianceAdjointParams& p, int64_t row, int64_t rows,
                                  int64_t column, int64_t columns, T* out, int64_t stride) {
  const int64_t* strides = p.covariance_strides;
  const T* from = static_cast<const T*>(p.covariance) + row * strides[0] + column * strides[1];
  const T scale = static_cast<T>(p.scale), off = static_cast<T>(p.lambda_od);
  if (p.symmetric) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j)
        out[i * stride + j] = off * from[i * strides[0] + j * strides[1]] * scale;
      const int64_t j = row + i - column;
      if (j >= 0 && j < columns)
        out[i * stride + j] =
            static_cast<T>(p.lambda_d) * (from[i * strides[0] + j * strides[1]] - 1) * scale;
    }
  } else if (strides[1] == 1) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) out[i * stride + j] = from[i * strides[0] + j] * scale;
  } else {
    const int64_t swapped[2] = {strides[1], strides[0]};
    load_transposed<W>(from, swapped, columns, rows, out, stride);
    for (int64_t i = 0; i < rows * stride; ++i) out[i] *= scale;
  }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = columns; j < stride; ++j) out[i * stride + j] = 0;
}

template <class S, class T>
PYDISENT_INLINE void variance_gradient(const CovarianceAdjointParams& p, int64_t row, int64_t rows,
                                       int64_t column, int64_t columns) {
  T weights[kAdjointTile];
  const T* covariance = static_cast<const T*>(p.covariance);
  const int64_t diagonal = p.covariance_strides[0] + p.covariance_strides[1];
  const T scale = static_cast<T>(p.scale / 2), on = static_cast<T>(p.lambda_d);
  for (int64_t j = 0; j < columns; ++j)
    weights[j] = on * (covariance[(column + j) * diagonal] - 1) * scale;
  for (int64_t b = row; b < row + rows; ++b) {
    S* to = static_cast<S*>(p.grad_logvar) + b * p.columns + column;
    for_row<S>(p.logvar, b, column, columns,
               [&](int64_t j, T value) __attribute__((always_inline)) {
                 to[j] = narrow<S>(scaled_exponential(weights[j], value));
               });
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void adjoint_items(const CovarianceAdjointParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  constexpr int W = BYTES / sizeof(T);
  const int64_t m = p.samples.columns, n = p.columns;
  const int64_t blocks = (p.batch + kAdjointRows - 1) / kAdjointRows;
  const int64_t depth = std::min(kDepth, m), tile = std::min(kAdjointTile, padded<W>(n));
  Scratch<T> weights(depth * tile), samples(kAdjointRows * depth), sums(kAdjointRows * tile);
  const T* means = static_cast<const T*>(p.means);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item % blocks * kAdjointRows, rows = std::min(kAdjointRows, p.batch - row);
    const int64_t column = item / blocks * kAdjointTile;
    const int64_t columns = std::min(kAdjointTile, n - column);
    std::fill_n(static_cast<T*>(sums), kAdjointRows * tile, T(0));
    for (int64_t i = 0; i < m; i += depth) {
      const int64_t terms = std::min(depth, m - i);
      if (item == begin || item % blocks == 0 || terms < m)  // else already loaded
        load_weights<T, W>(p, i, terms, column, columns, weights, tile);
      centre<S, T>(p.samples, row, rows, i, terms, means + i, means + m + i, samples, depth);
      product<T, W, true>(samples, 1, depth, rows, weights, tile, terms, sums, tile, columns);
    }
    for (int64_t b = 0; b < rows; ++b) {
      S* to = static_cast<S*>(p.out) + (row + b) * n + column;
      for (int64_t j = 0; j < columns; ++j) to[j] = narrow<S>(sums[b * tile + j]);
    }
    if (p.grad_logvar) variance_gradient<S, T>(p, row, rows, column, columns);
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void third_moment_tiles(const ThirdMomentParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  const int64_t d = p.samples.columns;
  const double inverse = 1.0 / std::max<int64_t>(p.batch, 1);
  T c[kTile];
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t column = tile * kTile, columns = std::min(kTile, d - column);
    T *mean = static_cast<T*>(p.moments) + column, *rest = mean + d;
    double squares[kTile] = {}, cubes[kTile] = {};
    column_means<S>(p.samples, p.batch, column, columns, mean, rest);
    for (int64_t b = 0; b < p.batch; ++b) {
      centre<S, T>(p.samples, b, 1, column, columns, mean, rest, c, columns);
      for (int64_t j = 0; j < columns; ++j) {
        squares[j] += c[j] * c[j];
        cubes[j] += c[j] * c[j] * c[j];
      }
      if (!p.logvar.data) continue;
      for_row<S>(p.logvar, b, column, columns,
                 [&](int64_t j, T value) __attribute__((always_inline)) {
                   squares[j] += exponential(value);
                   cubes[j] += scaled_exponential(3 * c[j], value);
                 });
    }
    for (int64_t j = 0; j < columns; ++j) {
      mean[2 * d + j] = static_cast<T>(squares[j] * inverse);
      mean[3 * d + j] = static_cast<T>(cubes[j] * inverse);
    }
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void third_moment_adjoint_rows(const ThirdMomentParams& p, int64_t begin,
                                               int64_t end) {
  using T = typename ComputeType<S>::type;
  const int64_t d = p.samples.columns, last = std::min(end * kAdjointRows, p.batch);
  const T* moments = static_cast<const T*>(p.moments);
  const T scale = static_cast<T>(p.scale);
  Scratch<T> c(d), v(d), weights(d);
  for (int64_t j = 0; j < d; ++j) weights[j] = moments[3 * d + j] * scale;
  for (int64_t b = begin * kAdjointRows; b < last; ++b) {
    centre<S, T>(p.samples, b, 1, 0, d, moments, moments + d, c, d);
    S *to = static_cast<S*>(p.out) + b * d, *to_logvar = static_cast<S*>(p.grad_logvar) + b * d;
    std::fill_n(static_cast<T*>(v), d, T(0));
    if (p.logvar.data)
      for_row<S>(p.logvar, b, 0, d, [&](int64_t j, T value) __attribute__((always_inline)) {
        v[j] = exponential(value);
        to_logvar[j] = narrow<S>(scaled_exponential(weights[j] * c[j], value));
      });
    // Where all samples equal the mean, variances may be infinite and their difference NaN.
    for (int64_t j = 0; j < d; ++j) {
      const T spread = weights[j] == 0 ? c[j] : c[j] * c[j] + v[j] - moments[2 * d + j];
      to[j] = narrow<S>(weights[j] * spread);
    }
  }
}

#define PYDISENT_INSTANTIATE(S)                                                                    \
  template <int BYTES>                                                                             \
  PYDISENT_INLINE void covariance_##S(const CovarianceParams& p, int64_t begin, int64_t end) {     \
    covariance_tiles<S, BYTES>(p, begin, end);                                                     \
  }                                                                                                \
  template <int BYTES>                                                                             \
  PYDISENT_INLINE void adjoint_##S(const CovarianceAdjointParams& p, int64_t begin, int64_t end) { \
    adjoint_items<S, BYTES>(p, begin, end);                                                        \
  }                                                                                                \
  template <int BYTES>                                                                             \
  PYDISENT_INLINE void third_##S(const ThirdMomentParams& p, int64_t begin, int64_t end) {         \
    third_moment_tiles<S, BYTES>(p, begin, end);                                                   \
  }                                                                                                \
  template <int BYTES>                                                                             \
  PYDISENT_INLINE void third_adjoint_##S(const ThirdMomentParams& p, int64_t begin, int64_t end) { \
    third_moment_adjoint_rows<S, BYTES>(p, begin, end);                                            \
  }                                                                                                \
  PYDISENT_MULTIVERSION(run_covariance_##S, CovarianceParams, covariance_##S)                      \
  PYDISENT_MULTIVERSION(run_adjoint_##S, CovarianceAdjointParams, adjoint_##S)                     \
  PYDISENT_MULTIVERSION(run_third_##S, ThirdMomentParams, third_##S)                               \
  PYDISENT_MULTIVERSION(run_third_adjoint_##S, ThirdMomentParams, third_adjoint_##S)

PYDISENT_INSTANTIATE(Half)
PYDISENT_INSTANTIATE(BFloat16)
PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void covariance_cpu(const CovarianceParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(covariance)
}

void covariance_adjoint_cpu(const CovarianceAdjointParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(adjoint)
}

void third_moment_cpu(const ThirdMomentParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(third)
}

void third_moment_adjoint_cpu(const ThirdMomentParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(third_adjoint)
}

}  // namespace pydisent
