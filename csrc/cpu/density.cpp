#include "../include/density.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "exp.h"

namespace pydisent {
namespace {

// Columns j of a tile: with kDensityRows rows i, everything that is reread stays in the cache.
constexpr int64_t kColumns = 256;

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

template <class T, int W>
PYDISENT_INLINE typename Vector<T, W>::type load(const T* x) {
  return *reinterpret_cast<const typename Vector<T, W>::type*>(x);
}

template <class T, int W>
PYDISENT_INLINE void store(T* x, typename Vector<T, W>::type v) {
  *reinterpret_cast<typename Vector<T, W>::type*>(x) = v;
}

// The posteriors of columns from first on, in one dimension. All log-densities and log-weights are
// doubled, so that u² needs no factor: they are halved in the subtraction before exp. The scale is
// applied twice: its square 1 / std may overflow where no result does.
template <class T>
struct Columns {
  const T *mean, *scale, *offset;

  Columns(const AggregatePosteriorParams& p, int64_t dimension, int64_t first)
      : mean(static_cast<const T*>(p.table) + dimension * 3 * p.padded + first),
        scale(mean + p.padded),
        offset(scale + p.padded) {}

  // u = (z - mu) / std: difference first, as z² - 2 z mu + mu² would cancel
  template <int W>
  PYDISENT_INLINE typename Vector<T, W>::type distance(T z, int64_t j) const {
    const auto root = load<T, W>(scale + j);
    return ((z - load<T, W>(mean + j)) * root) * root;
  }

  template <int W>
  PYDISENT_INLINE typename Vector<T, W>::type log_density(T z, int64_t j) const {
    const auto u = distance<W>(z, j);
    return load<T, W>(offset + j) - u * u;
  }
};

// Doubled log-weights of a row in a tile, relative to the weight of most columns; -inf beyond the
// batch. Returns whether any is nonzero.
template <class T>
PYDISENT_INLINE bool tile_weights(const AggregatePosteriorParams& p, int64_t row, int64_t first,
                                  int64_t n, T* weights) {
  const int64_t own = row - first, following = (row + 1) % p.batch - first;
  const int64_t valid = std::min(n, p.batch - first);
  const bool special = p.own_weight != p.other_weight || p.following_weight != p.other_weight;
  const bool has_own = special && own >= 0 && own < n;
  const bool has_following = special && following >= 0 && following < n;
  if (!has_own && !has_following && valid == n) return false;
  for (int64_t j = 0; j < n; ++j) weights[j] = j < valid ? T(0) : -kInfinity<T>;
  if (has_following) weights[following] = static_cast<T>(2 * (p.following_weight - p.other_weight));
  if (has_own) weights[own] = static_cast<T>(2 * (p.own_weight - p.other_weight));
  return true;
}

// Adds exp(x / 2), lane by lane, to a running sum stored as sum * exp(peak / 2).
template <class T, int W>
PYDISENT_INLINE void add_exponentials(const T* x, int64_t n, T* peaks, T* sums) {
  using V = typename Vector<T, W>::type;
  const V peak = load<T, W>(peaks);
  V top = peak;
  for (int64_t j = 0; j < n; j += W) {
    const V value = load<T, W>(x + j);
    top = value > top ? value : top;
  }
  const V shift = top == -kInfinity<T> ? V{} : T(0.5) * top;  // -inf - -inf would be NaN
  V sum = load<T, W>(sums) * exp_nonpositive<T, W>(T(0.5) * peak - shift);
  for (int64_t j = 0; j < n; j += W)
    sum += exp_nonpositive<T, W>(T(0.5) * load<T, W>(x + j) - shift);
  store<T, W>(peaks, top);
  store<T, W>(sums, sum);
}

// log of the sum over the lanes; propagates NaN
template <class T, int W>
PYDISENT_INLINE T log_total(const T* peaks, const T* sums, double log_weight) {
  T top = -kInfinity<T>;
  for (int w = 0; w < W; ++w) top = std::max(top, peaks[w]);
  const T shift = top == -kInfinity<T> ? T(0) : T(0.5) * top;
  const T total = horizontal_sum<T, W>(load<T, W>(sums) *
                                       exp_nonpositive<T, W>(T(0.5) * load<T, W>(peaks) - shift));
  return (shift + static_cast<T>(log_weight)) + std::log(total);  // rounded as in responsibility
}

template <class T, int W>
PYDISENT_INLINE void forward_tile(const AggregatePosteriorParams& p, int64_t row, int64_t rows,
                                  int64_t first, int64_t n, T* peaks, T* sums) {
  alignas(64) T joint[kDensityRows][kColumns] = {}, weights[kDensityRows][kColumns];
  alignas(64) T values[kColumns];
  bool weighted[kDensityRows];
  for (int64_t r = 0; r < rows; ++r) weighted[r] = tile_weights(p, row + r, first, n, weights[r]);
  const int64_t state = (p.d + 1) * W;  // of a row: a vector per dimension, and one for the joint
  for (int64_t k = 0; k < p.d; ++k) {
    const Columns<T> columns(p, k, first);
    for (int64_t r = 0; r < rows; ++r) {
      const T z = static_cast<const T*>(p.z)[(row + r) * p.d + k];
      for (int64_t j = 0; j < n; j += W) {
        const auto value = columns.template log_density<W>(z, j);
        store<T, W>(values + j, value);
        store<T, W>(joint[r] + j, load<T, W>(joint[r] + j) + value);
      }
      if (weighted[r])
        for (int64_t j = 0; j < n; ++j) values[j] += weights[r][j];
      add_exponentials<T, W>(values, n, peaks + r * state + k * W, sums + r * state + k * W);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    if (weighted[r])
      for (int64_t j = 0; j < n; ++j) joint[r][j] += weights[r][j];
    add_exponentials<T, W>(joint[r], n, peaks + r * state + p.d * W, sums + r * state + p.d * W);
  }
}

template <class T, int BYTES>
PYDISENT_INLINE void forward_blocks(const AggregatePosteriorParams& p, int64_t begin, int64_t end) {
  constexpr int W = BYTES / sizeof(T);
  const int64_t count = kDensityRows * (p.d + 1) * W;
  Scratch<T> peaks(count), sums(count);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t row = block * kDensityRows, rows = std::min(kDensityRows, p.batch - row);
    std::fill_n(static_cast<T*>(peaks), count, -kInfinity<T>);
    std::fill_n(static_cast<T*>(sums), count, T(0));
    for (int64_t first = 0; first < p.padded; first += kColumns)
      forward_tile<T, W>(p, row, rows, first, std::min(kColumns, p.padded - first), peaks, sums);
    for (int64_t r = 0; r < rows; ++r) {
      const T *peak = peaks + r * (p.d + 1) * W, *sum = sums + r * (p.d + 1) * W;
      T* marginals = static_cast<T*>(p.log_marginals) + (row + r) * p.d;
      for (int64_t k = 0; k < p.d; ++k)
        marginals[k] = log_total<T, W>(peak + k * W, sum + k * W, p.other_weight);
      static_cast<T*>(p.log_joint)[row + r] =
          log_total<T, W>(peak + p.d * W, sum + p.d * W, p.other_weight);
    }
  }
}

// A row's responsibilities sum to 1: below this they change no sum, and products with them would be
// subnormal, which is slow.
template <class T>
constexpr T kLeastLogResponsibility = sizeof(T) == 8 ? -500 : -60;

// w q(z | x_j) / q(z). The log-weight is added first, as in the total, not subtracted from the
// total: where one posterior dominates, both are then rounded alike and cancel. The exponent is
// nonpositive up to rounding, which must not overflow where log-densities are 1e13.
template <class T, int W>
PYDISENT_INLINE typename Vector<T, W>::type responsibility(typename Vector<T, W>::type value,
                                                           T log_weight, T log_total) {
  using V = typename Vector<T, W>::type;
  const V x = (T(0.5) * value + log_weight) - log_total, one = V{} + T(1);
  return exp_nonpositive<T, W>(x > one ? one : x, kLeastLogResponsibility<T>);
}

// Adds one row and one dimension of a tile to the gradients of its columns (twice that of logvar);
// returns its part of -grad_z. A log-density's cotangent is the given joint part plus the
// marginal's.
template <class T, int W, bool Weighted>
PYDISENT_INLINE T backward_row(const Columns<T>& columns, T z, T grad, T log_weight, T log_total,
                               const T* joint, const T* weights, int64_t n, T* grad_mu,
                               T* grad_logvar) {
  using V = typename Vector<T, W>::type;
  V sum = {};
  for (int64_t j = 0; j < n; j += W) {
    const V u = columns.template distance<W>(z, j);
    V value = load<T, W>(columns.offset + j) - u * u;
    if constexpr (Weighted) value += load<T, W>(weights + j);
    V c = load<T, W>(joint + j) + grad * responsibility<T, W>(value, log_weight, log_total);
    if constexpr (Weighted) c = load<T, W>(weights + j) == -kInfinity<T> ? V{} : c;
    // Where u² overflows, c is 0, and 0 times an infinite u would be NaN.
    const V bounded = c == T(0) ? V{} : u, on_u = c * bounded, root = load<T, W>(columns.scale + j);
    const V along = (on_u * root) * root;
    sum += along;
    store<T, W>(grad_mu + j, load<T, W>(grad_mu + j) + along);
    store<T, W>(grad_logvar + j, load<T, W>(grad_logvar + j) + (on_u * bounded - c));
  }
  return horizontal_sum<T, W>(sum);
}

// The joint's part of the cotangents of rows [row, row + rows) in a tile.
template <class T, int W>
PYDISENT_INLINE void joint_cotangents(const AggregatePosteriorParams& p, int64_t row, int64_t rows,
                                      int64_t first, int64_t n, const bool* weighted,
                                      const T (*weights)[kColumns], T (*joint)[kColumns]) {
  for (int64_t r = 0; r < rows; ++r) std::fill_n(joint[r], n, T(0));
  for (int64_t k = 0; k < p.d; ++k) {
    const Columns<T> columns(p, k, first);
    for (int64_t r = 0; r < rows; ++r) {
      const T z = static_cast<const T*>(p.z)[(row + r) * p.d + k];
      for (int64_t j = 0; j < n; j += W)
        store<T, W>(joint[r] + j, load<T, W>(joint[r] + j) + columns.template log_density<W>(z, j));
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    const T grad = static_cast<const T*>(p.grad_joint)[row + r];
    const T other = static_cast<T>(p.other_weight);
    const T total = static_cast<const T*>(p.log_joint)[row + r];
    if (weighted[r])
      for (int64_t j = 0; j < n; ++j) joint[r][j] += weights[r][j];
    for (int64_t j = 0; j < n; j += W)
      store<T, W>(joint[r] + j,
                  grad * responsibility<T, W>(load<T, W>(joint[r] + j), other, total));
  }
}

// Adds a tile's part of grad_z to partials (B, d), and of its columns' gradients to grad_mu and
// grad_logvar, (d, kColumns).
template <class T, int W>
PYDISENT_INLINE void backward_tile(const AggregatePosteriorParams& p, int64_t first, int64_t n,
                                   bool is_first, T* partials, T* grad_mu, T* grad_logvar) {
  alignas(64) T joint[kDensityRows][kColumns], weights[kDensityRows][kColumns];
  bool weighted[kDensityRows];
  const T other = static_cast<T>(p.other_weight);
  for (int64_t row = 0; row < p.batch; row += kDensityRows) {
    const int64_t rows = std::min(kDensityRows, p.batch - row);
    for (int64_t r = 0; r < rows; ++r) weighted[r] = tile_weights(p, row + r, first, n, weights[r]);
    joint_cotangents<T, W>(p, row, rows, first, n, weighted, weights, joint);
    for (int64_t k = 0; k < p.d; ++k) {
      const Columns<T> columns(p, k, first);
      T *to_mu = grad_mu + k * kColumns, *to_logvar = grad_logvar + k * kColumns;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (row + r) * p.d + k;
        const T z = static_cast<const T*>(p.z)[at];
        const T grad = static_cast<const T*>(p.grad_marginals)[at];
        const T total = static_cast<const T*>(p.log_marginals)[at];
        const T sum = weighted[r]
                          ? backward_row<T, W, true>(columns, z, grad, other, total, joint[r],
                                                     weights[r], n, to_mu, to_logvar)
                          : backward_row<T, W, false>(columns, z, grad, other, total, joint[r],
                                                      weights[r], n, to_mu, to_logvar);
        partials[at] = (is_first ? T(0) : partials[at]) - sum;
      }
    }
  }
}

template <class T, int BYTES>
PYDISENT_INLINE void backward_chunks(const AggregatePosteriorParams& p, int64_t begin,
                                     int64_t end) {
  constexpr int W = BYTES / sizeof(T);
  Scratch<T> to_mu(p.d * kColumns), to_logvar(p.d * kColumns);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t start = chunk * p.chunk, stop = std::min(start + p.chunk, p.padded);
    T* partials = static_cast<T*>(p.partials) + chunk * p.batch * p.d;
    for (int64_t first = start; first < stop; first += kColumns) {
      const int64_t n = std::min(kColumns, stop - first);
      std::fill_n(static_cast<T*>(to_mu), p.d * kColumns, T(0));
      std::fill_n(static_cast<T*>(to_logvar), p.d * kColumns, T(0));
      backward_tile<T, W>(p, first, n, first == start, partials, static_cast<T*>(to_mu),
                          static_cast<T*>(to_logvar));
      for (int64_t j = first; j < std::min(first + n, p.batch); ++j)
        for (int64_t k = 0; k < p.d; ++k) {
          static_cast<T*>(p.grad_mu)[j * p.d + k] = to_mu[k * kColumns + j - first];
          static_cast<T*>(p.grad_logvar)[j * p.d + k] =
              T(0.5) * to_logvar[k * kColumns + j - first];
        }
    }
  }
}

template <class T>
void fill_table(const AggregatePosteriorParams& p, int64_t begin, int64_t end) {
  const T *mu = static_cast<const T*>(p.mu), *logvar = static_cast<const T*>(p.logvar);
  for (int64_t k = begin; k < end; ++k) {
    T* mean = static_cast<T*>(p.table) + k * 3 * p.padded;
    T *scale = mean + p.padded, *offset = scale + p.padded;
    for (int64_t j = 0; j < p.padded; ++j) {
      // Beyond the batch the last posterior is repeated, so that no NaN arises.
      const int64_t at = std::min(j, p.batch - 1) * p.d + k;
      const double v = logvar[at];
      mean[j] = mu[at];
      const double root = std::exp(-0.25 * v), most = std::numeric_limits<T>::max();
      scale[j] = static_cast<T>(root > most ? most : root);       // harmless: u² is infinite or 0
      offset[j] = static_cast<T>(-(v + 1.83787706640934548356));  // log(2 pi)
    }
  }
}

template <class T>
void sum_partials(const AggregatePosteriorParams& p, int64_t begin, int64_t end) {
  const int64_t chunks = (p.batch + p.chunk - 1) / p.chunk, size = p.batch * p.d;
  T* grad_z = static_cast<T*>(p.grad_z);
  const T* partials = static_cast<const T*>(p.partials);
  for (int64_t i = begin * p.d; i < end * p.d; ++i) grad_z[i] = partials[i];
  for (int64_t c = 1; c < chunks; ++c)
    for (int64_t i = begin * p.d; i < end * p.d; ++i) grad_z[i] += partials[c * size + i];
}

#define PYDISENT_INSTANTIATE(T)                                                       \
  template <int BYTES>                                                                \
  PYDISENT_INLINE void forward_##T(const AggregatePosteriorParams& p, int64_t begin,  \
                                   int64_t end) {                                     \
    forward_blocks<T, BYTES>(p, begin, end);                                          \
  }                                                                                   \
  template <int BYTES>                                                                \
  PYDISENT_INLINE void backward_##T(const AggregatePosteriorParams& p, int64_t begin, \
                                    int64_t end) {                                    \
    backward_chunks<T, BYTES>(p, begin, end);                                         \
  }                                                                                   \
  PYDISENT_MULTIVERSION(run_forward_##T, AggregatePosteriorParams, forward_##T)       \
  PYDISENT_MULTIVERSION(run_backward_##T, AggregatePosteriorParams, backward_##T)

PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void aggregate_posterior_table_cpu(const AggregatePosteriorParams& p, int64_t begin, int64_t end) {
  p.is_double ? fill_table<double>(p, begin, end) : fill_table<float>(p, begin, end);
}

void aggregate_posterior_cpu(const AggregatePosteriorParams& p, int64_t begin, int64_t end) {
  p.is_double ? run_forward_double(p, begin, end) : run_forward_float(p, begin, end);
}

void aggregate_posterior_backward_cpu(const AggregatePosteriorParams& p, int64_t begin,
                                      int64_t end) {
  p.is_double ? run_backward_double(p, begin, end) : run_backward_float(p, begin, end);
}

void aggregate_posterior_sum_cpu(const AggregatePosteriorParams& p, int64_t begin, int64_t end) {
  p.is_double ? sum_partials<double>(p, begin, end) : sum_partials<float>(p, begin, end);
}

}  // namespace pydisent
