#include "../include/tangent.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "exp.h"

namespace pydisent {
namespace {

// Positions whose derivatives stay in the L1 cache while the K tangents stream by.
constexpr int64_t kBlock = 1024;

// First and second derivatives from e = exp(-|x|), which avoids cancellation where they are small.
template <class O>
struct Derivatives {
  O first, second;
};

template <class O>
PYDISENT_INLINE Derivatives<O> tanh_derivatives(O x) {
  const O e = exp_nonpositive(-2 * std::fabs(x)), q = 1 / (1 + e);
  const O first = 4 * e * q * q, y = (1 - e) * q;
  return {first, (x < 0 ? 2 : -2) * y * first};
}

template <class O>
PYDISENT_INLINE Derivatives<O> sigmoid_derivatives(O x) {
  const O e = exp_nonpositive(-std::fabs(x)), q = 1 / (1 + e), first = e * q * q;
  return {first, (x < 0 ? 1 : -1) * (1 - e) * q * first};
}

template <class O>
PYDISENT_INLINE Derivatives<O> silu_derivatives(O x) {
  const O e = exp_nonpositive(-std::fabs(x)), q = 1 / (1 + e);
  const O s = x < 0 ? e * q : q, complement = x < 0 ? q : e * q;
  const O odd = (x < 0 ? 1 : -1) * (1 - e) * q;  // 1 - 2 s
  return {s * (1 + x * complement), e * q * q * (2 + x * odd)};
}

template <class O>
PYDISENT_INLINE Derivatives<O> softplus_derivatives(O x, O beta, O threshold) {
  const O u = x * beta, e = exp_nonpositive(-std::fabs(u)), q = 1 / (1 + e);
  const O s = u < 0 ? e * q : q;
  // Compared twice, as an intermediate bool would prevent vectorisation.
  return {u > threshold ? O(1) : s, u > threshold ? O(0) : beta * e * q * q};
}

// Per-position values of a block: E (D or D²), and E' (∂E/∂leak for the piecewise linear kinds).
template <class O>
struct Block {
  alignas(64) O h[kBlock], leak[kBlock], threshold[kBlock], value[kBlock], slope[kBlock];
};

template <class O>
PYDISENT_INLINE void store(Block<O>& b, int64_t i, Derivatives<O> d, bool turn) {
  b.value[i] = turn ? d.first * d.first : d.first;
  b.slope[i] = turn ? 2 * d.first * d.second : d.second;
}

template <class O>
PYDISENT_INLINE void evaluate(const ActivationTangentParams& p, Block<O>& b, int64_t n) {
  const bool turn = p.turn;
  const O beta = static_cast<O>(p.beta), bound = static_cast<O>(p.softplus_threshold);
  switch (p.kind) {
    case Activation::tanh:
      for (int64_t i = 0; i < n; ++i) store(b, i, tanh_derivatives(b.h[i]), turn);
      return;
    case Activation::sigmoid:
      for (int64_t i = 0; i < n; ++i) store(b, i, sigmoid_derivatives(b.h[i]), turn);
      return;
    case Activation::silu:
      for (int64_t i = 0; i < n; ++i) store(b, i, silu_derivatives(b.h[i]), turn);
      return;
    case Activation::softplus:
      for (int64_t i = 0; i < n; ++i) store(b, i, softplus_derivatives(b.h[i], beta, bound), turn);
      return;
    case Activation::relu:  // NaN counts as positive, as it does in PyTorch
      for (int64_t i = 0; i < n; ++i) b.value[i] = b.h[i] <= 0 ? O(0) : O(1);
      return;
    case Activation::leaky_relu: {
      const O slope = static_cast<O>(p.negative_slope), value = turn ? slope * slope : slope;
      for (int64_t i = 0; i < n; ++i) b.value[i] = b.h[i] > 0 ? O(1) : value;
      return;
    }
    case Activation::prelu:
      for (int64_t i = 0; i < n; ++i) {
        const bool positive = b.h[i] > 0;
        store(b, i, {positive ? O(1) : b.leak[i], positive ? O(0) : O(1)}, turn);
      }
      return;
    case Activation::translated_prelu:
      for (int64_t i = 0; i < n; ++i) {
        const bool positive = b.h[i] >= b.threshold[i];
        store(b, i, {positive ? O(1) : b.leak[i], positive ? O(0) : O(1)}, turn);
      }
      return;
  }
}

template <class S, class O>
PYDISENT_INLINE void widen_row(const void* from, int64_t offset, int64_t n, O* to) {
  const S* x = static_cast<const S*>(from) + offset;
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<O>(widen(x[i]));
}

template <class O>
PYDISENT_INLINE void load_positions(const ActivationTangentParams& p, int64_t first, int64_t n,
                                    O* to) {
  switch (p.h_type) {
    case DType::f16:
      return widen_row<Half>(p.h, first, n, to);
    case DType::bf16:
      return widen_row<BFloat16>(p.h, first, n, to);
    case DType::f32:
      return widen_row<float>(p.h, first, n, to);
    case DType::f64:
      return widen_row<double>(p.h, first, n, to);
  }
}

template <class S, class O>
PYDISENT_INLINE void narrow_row(const O* from, int64_t n, void* to, int64_t offset) {
  S* x = static_cast<S*>(to) + offset;
  for (int64_t i = 0; i < n; ++i) x[i] = narrow<S>(from[i]);
}

template <class O>
PYDISENT_INLINE void store_positions(const ActivationTangentParams& p, int64_t first, int64_t n,
                                     const O* from) {
  switch (p.h_type) {
    case DType::f16:
      return narrow_row<Half>(from, n, p.grad_h, first);
    case DType::bf16:
      return narrow_row<BFloat16>(from, n, p.grad_h, first);
    case DType::f32:
      return narrow_row<float>(from, n, p.grad_h, first);
    case DType::f64:
      if constexpr (std::is_same_v<O, double>) narrow_row<double>(from, n, p.grad_h, first);
      return;
  }
}

// Calls visit(channel, i, run) for the stretches of a block in which one channel follows another
// (inner == 1, where run counts channels) or stays the same (run counts positions).
template <class Visit>
PYDISENT_INLINE void for_channel_runs(const ActivationTangentParams& p, int64_t first, int64_t n,
                                      const Visit& visit) {
  for (int64_t i = 0; i < n;) {
    const int64_t position = first + i, channel = position / p.inner % p.channels;
    const int64_t left = p.inner == 1 ? p.channels - channel : p.inner - position % p.inner;
    const int64_t run = std::min(left, n - i);
    visit(channel, i, run);
    i += run;
  }
}

template <class O>
PYDISENT_INLINE void load_channels(const ActivationTangentParams& p, const ChannelValues& values,
                                   int64_t first, int64_t n, O* to) {
  if (!values.data) return;
  const double* parameter = static_cast<const double*>(values.data);
  const bool per_position = p.inner == 1;
  for_channel_runs(p, first, n,
                   [&](int64_t channel, int64_t i, int64_t run) __attribute__((always_inline)) {
                     if (per_position)
                       for (int64_t j = 0; j < run; ++j)
                         to[i + j] = static_cast<O>(parameter[channel + j]);
                     else
                       for (int64_t j = 0; j < run; ++j)
                         to[i + j] = static_cast<O>(parameter[channel]);
                   });
}

template <class O>
PYDISENT_INLINE void prepare(const ActivationTangentParams& p, Block<O>& b, int64_t first,
                             int64_t n) {
  load_positions(p, first, n, b.h);
  load_channels(p, p.leak, first, n, b.leak);
  load_channels(p, p.threshold, first, n, b.threshold);
  evaluate(p, b, n);
}

template <class S, class O>
PYDISENT_INLINE void forward_chunks(const ActivationTangentParams& p, int64_t begin, int64_t end) {
  Block<O> b;
  const int64_t last = std::min(end * p.chunk, p.positions);
  for (int64_t first = begin * p.chunk; first < last; first += kBlock) {
    const int64_t n = std::min(kBlock, last - first);
    prepare(p, b, first, n);
    for (int64_t k = 0; k < p.count; ++k) {
      const S* from = static_cast<const S*>(p.tangents) + k * p.tangents_stride + first;
      S* to = static_cast<S*>(p.out) + k * p.out_stride + first;
      PYDISENT_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) to[i] = narrow<S>(widen(from[i]) * b.value[i]);
    }
  }
}

// sum of x[i] in double precision, in an order that depends only on n
template <class O>
PYDISENT_INLINE double sum_wide(const O* x, int64_t n) {
  constexpr int lanes = 16;
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) sums[j] += x[i + j];
  for (; i < n; ++i) sums[0] += x[i];
  double total = 0;
  for (int j = 0; j < lanes; ++j) total += sums[j];
  return total;
}

// Adds a block's products to the sums of its chunk, channel by channel.
template <class O>
PYDISENT_INLINE void add_leak_gradient(const ActivationTangentParams& p, const O* products,
                                       int64_t first, int64_t n, double* sums) {
  const bool per_position = p.inner == 1;
  for_channel_runs(p, first, n,
                   [&](int64_t channel, int64_t i, int64_t run) __attribute__((always_inline)) {
                     if (per_position) {
                       for (int64_t j = 0; j < run; ++j) sums[channel + j] += products[i + j];
                     } else {
                       sums[channel] += sum_wide(products + i, run);
                     }
                   });
}

template <class S, class O>
PYDISENT_INLINE void backward_chunks(const ActivationTangentParams& p, int64_t begin, int64_t end) {
  Block<O> b;
  alignas(64) O sums[kBlock];
  // E' of the kinds without a leak or curvature is zero: their tangents need not be read.
  const bool reduces = !is_piecewise_linear(p.kind) || p.leak.data;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t last = std::min((chunk + 1) * p.chunk, p.positions);
    for (int64_t first = chunk * p.chunk; first < last; first += kBlock) {
      const int64_t n = std::min(kBlock, last - first);
      prepare(p, b, first, n);
      for (int64_t i = 0; i < n; ++i) sums[i] = 0;
      for (int64_t k = 0; k < p.count; ++k) {
        const S* grad = static_cast<const S*>(p.grad) + k * p.grad_stride + first;
        const S* tangent = static_cast<const S*>(p.tangents) + k * p.tangents_stride + first;
        S* to = static_cast<S*>(p.out) + k * p.out_stride + first;
        PYDISENT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) to[i] = narrow<S>(widen(grad[i]) * b.value[i]);
        if (!reduces) continue;
        PYDISENT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i)
          sums[i] += static_cast<O>(widen(grad[i])) * static_cast<O>(widen(tangent[i]));
      }
      if (p.leak.data) {
        // Selected, as 0 times a non-finite number is not 0: where D is 1, independent of the leak.
        for (int64_t i = 0; i < n; ++i)
          sums[i] = b.value[i] == 1 && b.slope[i] == 0 ? O(0) : sums[i] * b.slope[i];
        add_leak_gradient(p, sums, first, n, p.leak_partials + chunk * p.channels);
        for (int64_t i = 0; i < n; ++i) sums[i] = 0;
      } else if (reduces) {
        for (int64_t i = 0; i < n; ++i) sums[i] *= b.slope[i];
      }
      store_positions(p, first, n, sums);
    }
  }
}

#define PYDISENT_INSTANTIATE(S, O)                                                         \
  template <int BYTES>                                                                     \
  PYDISENT_INLINE void forward_##S##_##O(const ActivationTangentParams& p, int64_t begin,  \
                                         int64_t end) {                                    \
    forward_chunks<S, O>(p, begin, end);                                                   \
  }                                                                                        \
  template <int BYTES>                                                                     \
  PYDISENT_INLINE void backward_##S##_##O(const ActivationTangentParams& p, int64_t begin, \
                                          int64_t end) {                                   \
    backward_chunks<S, O>(p, begin, end);                                                  \
  }                                                                                        \
  PYDISENT_MULTIVERSION(run_forward_##S##_##O, ActivationTangentParams, forward_##S##_##O) \
  PYDISENT_MULTIVERSION(run_backward_##S##_##O, ActivationTangentParams, backward_##S##_##O)

PYDISENT_INSTANTIATE(Half, float)
PYDISENT_INSTANTIATE(BFloat16, float)
PYDISENT_INSTANTIATE(float, float)
PYDISENT_INSTANTIATE(Half, double)
PYDISENT_INSTANTIATE(BFloat16, double)
PYDISENT_INSTANTIATE(float, double)
PYDISENT_INSTANTIATE(double, double)

}  // namespace

#define PYDISENT_DISPATCH(direction)                                         \
  const bool wide = p.h_type == DType::f64 || p.tangents_type == DType::f64; \
  switch (p.tangents_type) {                                                 \
    case DType::f16:                                                         \
      return wide ? run_##direction##_Half_double(p, begin, end)             \
                  : run_##direction##_Half_float(p, begin, end);             \
    case DType::bf16:                                                        \
      return wide ? run_##direction##_BFloat16_double(p, begin, end)         \
                  : run_##direction##_BFloat16_float(p, begin, end);         \
    case DType::f32:                                                         \
      return wide ? run_##direction##_float_double(p, begin, end)            \
                  : run_##direction##_float_float(p, begin, end);            \
    case DType::f64:                                                         \
      return run_##direction##_double_double(p, begin, end);                 \
  }

void activation_tangent_cpu(const ActivationTangentParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH(forward)
}

void activation_tangent_backward_cpu(const ActivationTangentParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH(backward)
}

void activation_tangent_leak_cpu(const ActivationTangentParams& p) {
  const int64_t chunks = (p.positions + p.chunk - 1) / p.chunk;
  double* grad = static_cast<double*>(p.grad_leak);
  std::fill_n(grad, p.channels, 0.0);
  for (int64_t i = 0; i < chunks; ++i)
    for (int64_t c = 0; c < p.channels; ++c) grad[c] += p.leak_partials[i * p.channels + c];
}

}  // namespace pydisent
