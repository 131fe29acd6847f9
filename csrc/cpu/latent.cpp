#include "../include/latent.h"

#include <algorithm>

#include "exp.h"

namespace pydisent {
namespace {

// Elements processed at a time, in the L1 cache.
constexpr int64_t kBlock = 512;

template <class S, class T>
PYDISENT_INLINE void load(const Strided& x, int64_t first, int64_t n, T* to) {
  const S* from = static_cast<const S*>(x.data);
  if (x.column_stride == 1 && x.row_stride == x.columns) {
    for (int64_t i = 0; i < n; ++i) to[i] = widen(from[first + i]);
    return;
  }
  for (int64_t i = 0; i < n;) {
    const int64_t column = (first + i) % x.columns, run = std::min(x.columns - column, n - i);
    const S* row = from + (first + i) / x.columns * x.row_stride + column * x.column_stride;
    for (int64_t j = 0; j < run; ++j) to[i + j] = widen(row[j * x.column_stride]);
    i += run;
  }
}

template <class S, class T>
PYDISENT_INLINE void store(const T* from, int64_t first, int64_t n, void* to) {
  S* x = static_cast<S*>(to) + first;
  for (int64_t i = 0; i < n; ++i) x[i] = narrow<S>(from[i]);
}

template <class S, int BYTES>
PYDISENT_INLINE void gaussian_chunks(const GaussianParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  alignas(64) T mu[kBlock], logvar[kBlock], noise[kBlock];
  const int64_t last = std::min(end * kLatentChunk, p.count);
  for (int64_t first = begin * kLatentChunk; first < last; first += kBlock) {
    const int64_t n = std::min(kBlock, last - first);
    load<S>(p.mu, first, n, mu);
    load<S>(p.logvar, first, n, logvar);
    if (p.z) {
      load<S>(p.noise, first, n, noise);
      for (int64_t i = 0; i < n; ++i)
        noise[i] = mu[i] + scaled_exponential(noise[i], logvar[i] / 2);
      store<S>(noise, first, n, p.z);
    }
    T* kl = static_cast<T*>(p.kl) + first;
    for (int64_t i = 0; i < n; ++i) {  // halved first, to avoid overflow
      const T half = T(0.5), excess = scaled_exponential_minus_one(half, logvar[i]);
      kl[i] = (half * mu[i]) * mu[i] + (excess - half * logvar[i]);
    }
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void gaussian_backward_chunks(const GaussianParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  alignas(64) T mu[kBlock], logvar[kBlock], noise[kBlock], g[kBlock], h[kBlock];
  const int64_t last = std::min(end * kLatentChunk, p.count);
  for (int64_t first = begin * kLatentChunk; first < last; first += kBlock) {
    const int64_t n = std::min(kBlock, last - first);
    load<S>(p.mu, first, n, mu);
    load<S>(p.logvar, first, n, logvar);
    load<T>(p.grad_kl, first, n, h);
    for (int64_t i = 0; i < n; ++i) {
      mu[i] *= h[i];
      h[i] /= 2;
    }
    if (p.grad_z.data) {
      load<S>(p.grad_z, first, n, g);
      load<S>(p.noise, first, n, noise);
      for (int64_t i = 0; i < n; ++i) {
        const T x = logvar[i] / 2;
        mu[i] += g[i];
        h[i] = exponential_and_square_minus_one(g[i] / 2 * noise[i], h[i], x);
        g[i] = scaled_exponential(g[i], x);
      }
      store<S>(g, first, n, p.grad_noise);
    } else {
      for (int64_t i = 0; i < n; ++i) h[i] = scaled_exponential_minus_one(h[i], logvar[i]);
    }
    store<S>(mu, first, n, p.grad_mu);
    store<S>(h, first, n, p.grad_logvar);
  }
}

// The errors of both predictions of one dimension; those of their mean if it is shared.
template <class T>
struct Errors {
  T first, second;
};

template <class S, class T>
PYDISENT_INLINE Errors<T> errors(const SimplicityParams& p, int64_t b, int64_t j, bool shared) {
  T codes[2], targets[2];
  for (int i = 0; i < 2; ++i) {
    const int64_t *at = p.code_strides[i], *wanted = p.target_strides[i];
    codes[i] = widen(static_cast<const S*>(p.codes[i])[b * at[0] + j * at[1]]);
    targets[i] = widen(static_cast<const S*>(p.targets[i])[b * wanted[0] + j * wanted[1]]);
  }
  const T mean = (codes[0] + codes[1]) / 2;
  return {(shared ? mean : codes[0]) - targets[0], (shared ? mean : codes[1]) - targets[1]};
}

template <class S, int BYTES>
PYDISENT_INLINE void simplicity_rows(const SimplicityParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * kSimplicityRows;
    double sum = 0;
    for (int64_t b = first; b < std::min(first + kSimplicityRows, p.batch); ++b) {
      const int64_t perturbed = p.dimension[b * p.dimension_stride];
      for (int64_t j = 0; j < p.columns; ++j) {
        const Errors<T> e = errors<S, T>(p, b, j, j != perturbed);
        sum += e.first * e.first + e.second * e.second;
      }
    }
    p.sums[item] = sum;
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void simplicity_backward_rows(const SimplicityParams& p, int64_t begin,
                                              int64_t end) {
  using T = typename ComputeType<S>::type;
  const T scale = static_cast<T>(p.scale);
  const int64_t last = std::min(end * kSimplicityRows, p.batch);
  for (int64_t b = begin * kSimplicityRows; b < last; ++b) {
    const int64_t perturbed = p.dimension[b * p.dimension_stride];
    for (int64_t j = 0; j < p.columns; ++j) {
      const bool shared = j != perturbed;
      const Errors<T> e = errors<S, T>(p, b, j, shared);
      const T both = (e.first + e.second) / 2, grads[2] = {e.first, e.second};
      for (int i = 0; i < 2; ++i) {
        const int64_t at = b * p.columns + j;
        static_cast<S*>(p.grad_codes[i])[at] = narrow<S>(scale * (shared ? both : grads[i]));
        static_cast<S*>(p.grad_targets[i])[at] = narrow<S>(-scale * grads[i]);
      }
    }
  }
}

#define PYDISENT_INSTANTIATE(S)                                                                \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void forward_##S(const GaussianParams& p, int64_t begin, int64_t end) {      \
    gaussian_chunks<S, BYTES>(p, begin, end);                                                  \
  }                                                                                            \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void backward_##S(const GaussianParams& p, int64_t begin, int64_t end) {     \
    gaussian_backward_chunks<S, BYTES>(p, begin, end);                                         \
  }                                                                                            \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void simplicity_##S(const SimplicityParams& p, int64_t begin, int64_t end) { \
    simplicity_rows<S, BYTES>(p, begin, end);                                                  \
  }                                                                                            \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void simplicity_backward_##S(const SimplicityParams& p, int64_t begin,       \
                                               int64_t end) {                                  \
    simplicity_backward_rows<S, BYTES>(p, begin, end);                                         \
  }                                                                                            \
  PYDISENT_MULTIVERSION(run_forward_##S, GaussianParams, forward_##S)                          \
  PYDISENT_MULTIVERSION(run_backward_##S, GaussianParams, backward_##S)                        \
  PYDISENT_MULTIVERSION(run_simplicity_##S, SimplicityParams, simplicity_##S)                  \
  PYDISENT_MULTIVERSION(run_simplicity_backward_##S, SimplicityParams, simplicity_backward_##S)

PYDISENT_INSTANTIATE(Half)
PYDISENT_INSTANTIATE(BFloat16)
PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void gaussian_cpu(const GaussianParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(forward)
}

void gaussian_backward_cpu(const GaussianParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(backward)
}

void perceptual_simplicity_cpu(const SimplicityParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(simplicity)
}

void perceptual_simplicity_backward_cpu(const SimplicityParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(simplicity_backward)
}

}  // namespace pydisent
