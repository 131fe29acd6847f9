#include "../include/spectral.h"

#include <algorithm>
#include <cmath>

#include "product.h"

namespace pydisent {
namespace {

template <class S, class T>
PYDISENT_INLINE void load_mask(const S* mask, const int64_t* strides, int64_t m, int64_t k,
                               T* out) {
  for (int64_t c = 0; c < k; ++c)
    for (int64_t i = 0; i < m; ++i) out[c * m + i] = widen(mask[i * strides[0] + c * strides[1]]);
}

template <class S, int BYTES>
PYDISENT_INLINE void forward_samples(const PowerIterationParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  constexpr int W = BYTES / sizeof(T);
  const int64_t m = p.m, k = p.k, steps = p.iterations, padded = (m + W - 1) / W * W;
  const T eps = static_cast<T>(p.eps);
  Scratch<T> matrix(m * padded), product_scratch(k * padded), pattern(k * m);
  load_mask(static_cast<const S*>(p.mask), p.mask_strides, m, k, static_cast<T*>(pattern));
  T* w = product_scratch;
  for (int64_t b = begin; b < end; ++b) {
    load_transposed<W>(static_cast<const S*>(p.gram) + b * p.gram_strides[0], p.gram_strides + 1, m,
                       m, static_cast<T*>(matrix), padded);
    T* v = static_cast<T*>(p.iterates) + b * (steps + 1) * k * m;
    T* norms = static_cast<T*>(p.iterate_norms) + b * steps * k;
    const S* probe = static_cast<const S*>(p.probe) + b * p.probe_strides[0];
    for (int64_t c = 0; c < k; ++c)
      for (int64_t i = 0; i < m; ++i)
        v[c * m + i] =
            pattern[c * m + i] * widen(probe[i * p.probe_strides[1] + c * p.probe_strides[2]]);
    for (int64_t t = 0; t < steps; ++t, v += k * m, norms += k) {
      product<T, W>(v, 1, m, k, matrix, padded, m, w, padded, m);
      for (int64_t c = 0; c < k; ++c) {
        T *column = w + c * padded, *next = v + (k + c) * m;
        const T* keep = pattern + c * m;
        for (int64_t i = 0; i < m; ++i) column[i] *= keep[i];
        norms[c] = std::sqrt(dot<T, W>(column, column, m));
        const T scale = 1 / (norms[c] + eps);
        for (int64_t i = 0; i < m; ++i) next[i] = column[i] * scale;
      }
    }
    S* vectors = static_cast<S*>(p.vectors) + b * m * k;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t c = 0; c < k; ++c) vectors[i * k + c] = narrow<S>(v[c * m + i]);
    for (int64_t c = 0; c < k; ++c) static_cast<S*>(p.norms)[b * k + c] = narrow<S>(norms[c - k]);
  }
}

// The rows of x in place, if the product can read their stride and padding, or a padded copy.
template <int W, class S, class T>
PYDISENT_INLINE const T* padded_rows(const S* x, int64_t rows, int64_t m, int64_t row_stride,
                                     int64_t column_stride, T* scratch, int64_t* stride) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (m % W == 0 && column_stride == 1) {
      *stride = row_stride;
      return x;
    }
  }
  *stride = (m + W - 1) / W * W;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < m; ++i)
      scratch[r * *stride + i] = widen(x[r * row_stride + i * column_stride]);
    for (int64_t i = m; i < *stride; ++i) scratch[r * *stride + i] = 0;
  }
  return scratch;
}

// Y_i = mask∘(V̄_i / (n_i + eps) − V_i (V_i·V̄_i − n̄_i (n_i + eps)) / n_i) for one column. Where
// the norm is 0 or overflowed, V_i is constantly 0.
template <class T, int W>
PYDISENT_INLINE void adjoint_column(const T* v, const T* v_bar, const T* keep, T n, T n_bar, T eps,
                                    int64_t m, T* y) {
  const T scale = 1 / (n + eps);
  const bool constant = n == 0 || scale == 0;
  const T along = constant ? T(0) : (dot<T, W>(v, v_bar, m) - n_bar * (n + eps)) / n;
  for (int64_t i = 0; i < m; ++i) y[i] = keep[i] * (v_bar[i] * scale - v[i] * along);
}

template <class S, int BYTES>
PYDISENT_INLINE void backward_samples(const PowerIterationBackwardParams& p, int64_t begin,
                                      int64_t end) {
  using T = typename ComputeType<S>::type;
  constexpr int W = BYTES / sizeof(T);
  const int64_t m = p.m, k = p.k, steps = p.iterations, padded = (m + W - 1) / W * W;
  const T eps = static_cast<T>(p.eps);
  Scratch<T> matrix_scratch(m * padded), v_bar_scratch(k * padded), pattern(k * m);
  Scratch<T> weights_scratch(steps * k * m), iterates_scratch(steps * k * padded);
  T *v_bar = v_bar_scratch, *weights = weights_scratch;
  load_mask(static_cast<const S*>(p.mask), p.mask_strides, m, k, static_cast<T*>(pattern));
  for (int64_t b = begin; b < end; ++b) {
    int64_t matrix_stride, iterates_stride;
    const T* matrix = padded_rows<W>(static_cast<const S*>(p.gram) + b * p.gram_strides[0], m, m,
                                     p.gram_strides[1], p.gram_strides[2],
                                     static_cast<T*>(matrix_scratch), &matrix_stride);
    const T* iterates = static_cast<const T*>(p.iterates) + b * (steps + 1) * k * m;
    const T* norms = static_cast<const T*>(p.iterate_norms) + b * steps * k;
    const S* grad_vectors = static_cast<const S*>(p.grad_vectors) + b * p.grad_vectors_strides[0];
    const S* grad_norms = static_cast<const S*>(p.grad_norms) + b * p.grad_norms_strides[0];
    for (int64_t c = 0; c < k; ++c)
      for (int64_t i = 0; i < m; ++i)
        v_bar[c * padded + i] =
            widen(grad_vectors[i * p.grad_vectors_strides[1] + c * p.grad_vectors_strides[2]]);
    for (int64_t t = steps; t > 0; --t) {
      T* y = weights + (t - 1) * k * m;
      for (int64_t c = 0; c < k; ++c) {
        const T n_bar = t == steps ? widen(grad_norms[c * p.grad_norms_strides[1]]) : T(0);
        adjoint_column<T, W>(iterates + (t * k + c) * m, v_bar + c * padded, pattern + c * m,
                             norms[(t - 1) * k + c], n_bar, eps, m, y + c * m);
      }
      product<T, W>(y, 1, m, k, matrix, matrix_stride, m, v_bar, padded, m);
    }
    S* grad_probe = static_cast<S*>(p.grad_probe) + b * m * k;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t c = 0; c < k; ++c)
        grad_probe[i * k + c] = narrow<S>(pattern[c * m + i] * v_bar[c * padded + i]);
    const T* rows = padded_rows<W>(iterates, steps * k, m, m, 1, static_cast<T*>(iterates_scratch),
                                   &iterates_stride);
    S* grad_gram = static_cast<S*>(p.grad_gram) + b * m * m;
    if constexpr (sizeof(S) == sizeof(T)) {
      product<T, W>(weights, m, 1, m, rows, iterates_stride, steps * k, grad_gram, m, m);
    } else {
      T* wide = matrix_scratch;  // the matrix is no longer needed
      product<T, W>(weights, m, 1, m, rows, iterates_stride, steps * k, wide, padded, m);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < m; ++j) grad_gram[i * m + j] = narrow<S>(wide[i * padded + j]);
    }
  }
}

#define PYDISENT_INSTANTIATE(S)                                                                 \
  template <int BYTES>                                                                          \
  PYDISENT_INLINE void forward_##S(const PowerIterationParams& p, int64_t begin, int64_t end) { \
    forward_samples<S, BYTES>(p, begin, end);                                                   \
  }                                                                                             \
  template <int BYTES>                                                                          \
  PYDISENT_INLINE void backward_##S(const PowerIterationBackwardParams& p, int64_t begin,       \
                                    int64_t end) {                                              \
    backward_samples<S, BYTES>(p, begin, end);                                                  \
  }                                                                                             \
  PYDISENT_MULTIVERSION(run_forward_##S, PowerIterationParams, forward_##S)                     \
  PYDISENT_MULTIVERSION(run_backward_##S, PowerIterationBackwardParams, backward_##S)

PYDISENT_INSTANTIATE(Half)
PYDISENT_INSTANTIATE(BFloat16)
PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void masked_power_iteration_cpu(const PowerIterationParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(forward)
}

void masked_power_iteration_backward_cpu(const PowerIterationBackwardParams& p, int64_t begin,
                                         int64_t end) {
  PYDISENT_DISPATCH_DTYPE(backward)
}

}  // namespace pydisent
