#include "../include/constriction.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "simd.h"

namespace pydisent {
namespace {

// Maximum pixels of a tile, which stays in the L1 cache while the channels of a block stream by.
constexpr int64_t kMostPixels = 2048;
// Prefetch distance, in pixels, in a channels-last map, where a block of channels is not
// contiguous.
constexpr int64_t kAhead = 64;
// Codes that one pass over a tile handles; each count up to this has a specialised kernel.
constexpr int64_t kMostCodes = 8;
// Channels that share the reads and writes of each pixel of a sample.
constexpr int kTogether = kConstrictionTogether;

template <class T, int W>
PYDISENT_INLINE typename Vector<T, W>::type load(const T* x) {
  return *reinterpret_cast<const typename Vector<T, W>::type*>(x);
}

template <class T, int W>
PYDISENT_INLINE void store(T* x, typename Vector<T, W>::type v) {
  *reinterpret_cast<typename Vector<T, W>::type*>(x) = v;
}

// Prefetching hides memory latency: the passes over a block prefetch the block's output and the
// input of the next block, line by line. Any address may be prefetched.
PYDISENT_INLINE void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }
PYDISENT_INLINE void prefetch_to_write(const void* address) { __builtin_prefetch(address, 1); }

template <class T, int W>
PYDISENT_INLINE typename Vector<T, W>::type without_padding(typename Vector<T, W>::type v,
                                                            int64_t valid) {
  alignas(64) T lanes[W];
  store<T, W>(lanes, v);
  for (int l = 0; l < W; ++l) lanes[l] = l < valid ? lanes[l] : T(0);
  return load<T, W>(lanes);
}

// Pixels of a tile with a row per code for the weights and, in the adjoint, one for their gradient.
// A block of the fewest channels reads them once, and needs no tiles.
template <class T>
PYDISENT_INLINE int64_t tile_pixels(const ConstrictionParams& p) {
  if (p.block <= kTogether && p.codes <= kMostCodes) return p.padded;
  const int64_t fitting = 12288 / (2 * static_cast<int64_t>(sizeof(T)) * (p.codes + 1));
  return std::clamp(fitting / kConstrictionLanes * kConstrictionLanes, int64_t(128), kMostPixels);
}

// Calls body(channel, constant) for the channels of a block, kTogether at a time, then one by one.
template <class Body>
PYDISENT_INLINE void for_channels(int64_t count, const Body& body) {
  int64_t channel = 0;
  for (; channel + kTogether <= count; channel += kTogether)
    body(channel, std::integral_constant<int, kTogether>());
  for (; channel < count; ++channel) body(channel, std::integral_constant<int, 1>());
}

// Runs body(constant) for the count of codes, 0 to kMostCodes, as a compile-time constant.
template <class Body>
PYDISENT_INLINE void with_constant(int64_t codes, const Body& body) {
  switch (codes) {
#define PYDISENT_CASE(N) \
  case N:                \
    return body(std::integral_constant<int, N>());
    PYDISENT_CASE(0)
    PYDISENT_CASE(1)
    PYDISENT_CASE(2)
    PYDISENT_CASE(3)
    PYDISENT_CASE(4)
    PYDISENT_CASE(5)
    PYDISENT_CASE(6)
    PYDISENT_CASE(7)
    PYDISENT_CASE(8)
#undef PYDISENT_CASE
  }
}

// Calls partial(first) for kMostCodes codes at a time, and last(first, constant) for the rest.
template <class Partial, class Last>
PYDISENT_INLINE void for_codes(int64_t codes, const Partial& partial, const Last& last) {
  int64_t first = 0;
  for (; codes - first > kMostCodes; first += kMostCodes) partial(first);
  with_constant(codes - first, [&](auto n) __attribute__((always_inline)) { last(first, n); });
}

// Conversions from storage to T and back, with one switch per row.

template <class S, class T>
PYDISENT_INLINE T to_wide(S x) {
  return static_cast<T>(widen(x));
}

template <class S, class T>
PYDISENT_INLINE S to_narrow(T x) {
  if constexpr (std::is_same_v<S, double>) return static_cast<double>(x);
  return narrow<S>(x);
}

// Runs body(storage) with a value of the storage type.
template <class T, class Body>
PYDISENT_INLINE void with_storage(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f16:
      return body(Half());
    case DType::bf16:
      return body(BFloat16());
    case DType::f32:
      return body(float());
    case DType::f64:
      return body(double());
  }
}

// Converts rows (rows, pixels) of a tensor to rows of T with zero padding.
template <class T>
PYDISENT_INLINE void widen_rows(const ConstrictionParams& p, DType dtype, const void* from,
                                int64_t first, int64_t rows, T* to) {
  with_storage<T>(dtype, [&](auto storage) __attribute__((always_inline)) {
    using S = decltype(storage);
    for (int64_t r = 0; r < rows; ++r) {
      const S* source = static_cast<const S*>(from) + (first + r) * p.pixels;
      T* target = to + r * p.padded;
      PYDISENT_INDEPENDENT
      for (int64_t i = 0; i < p.pixels; ++i) target[i] = to_wide<S, T>(source[i]);
      for (int64_t i = p.pixels; i < p.padded; ++i) target[i] = 0;
    }
  });
}

template <class T>
PYDISENT_INLINE void narrow_rows(const ConstrictionParams& p, DType dtype, const T* from, void* to,
                                 int64_t first, int64_t rows) {
  with_storage<T>(dtype, [&](auto storage) __attribute__((always_inline)) {
    using S = decltype(storage);
    for (int64_t r = 0; r < rows; ++r) {
      const T* source = from + r * p.padded;
      S* target = static_cast<S*>(to) + (first + r) * p.pixels;
      PYDISENT_INDEPENDENT
      for (int64_t i = 0; i < p.pixels; ++i) target[i] = to_narrow<S, T>(source[i]);
    }
  });
}

// Transposes a tile of W channels and W pixels between memory and registers.
template <class T, int W>
PYDISENT_INLINE void transpose_square(typename Vector<T, W>::type* rows) {
#ifdef PYDISENT_HAS_SHUFFLE
  transpose<W>(rows);
#else
  for (int r = 0; r < W; ++r)
    for (int c = 0; c < r; ++c) std::swap(rows[r][c], rows[c][r]);
#endif
}

// Converts channels [channel, channel + count) of a channels-last sample to padded rows of T.
template <class S, class T, int W>
PYDISENT_INLINE void gather_rows(const ConstrictionParams& p, const S* from, int64_t count, T* to) {
  using V = typename Vector<T, W>::type;
  const int64_t squares = count / W * W, whole = p.pixels / W * W;
  for (int64_t i = 0; i < whole; i += W)
    for (int64_t c = 0; c < squares; c += W) {
      V rows[W];
      for (int r = 0; r < W; ++r) {
        alignas(64) T values[W];
        const S* row = from + (i + r) * p.channels + c;
        prefetch(row + kAhead * p.channels);
        for (int l = 0; l < W; ++l) values[l] = to_wide<S, T>(row[l]);
        rows[r] = load<T, W>(values);
      }
      transpose_square<T, W>(rows);
      for (int r = 0; r < W; ++r) store<T, W>(to + (c + r) * p.padded + i, rows[r]);
    }
  for (int64_t c = 0; c < count; ++c) {
    for (int64_t i = c < squares ? whole : 0; i < p.pixels; ++i)
      to[c * p.padded + i] = to_wide<S, T>(from[i * p.channels + c]);
    for (int64_t i = p.pixels; i < p.padded; ++i) to[c * p.padded + i] = 0;
  }
}

template <class S, class T, int W>
PYDISENT_INLINE void scatter_rows(const ConstrictionParams& p, const T* from, int64_t count,
                                  S* to) {
  using V = typename Vector<T, W>::type;
  const int64_t squares = count / W * W, whole = p.pixels / W * W;
  for (int64_t i = 0; i < whole; i += W)
    for (int64_t c = 0; c < squares; c += W) {
      V rows[W];
      for (int r = 0; r < W; ++r) rows[r] = load<T, W>(from + (c + r) * p.padded + i);
      transpose_square<T, W>(rows);
      for (int r = 0; r < W; ++r) {
        alignas(64) T values[W];
        store<T, W>(values, rows[r]);
        S* row = to + (i + r) * p.channels + c;
        prefetch_to_write(row + kAhead * p.channels);
        for (int l = 0; l < W; ++l) row[l] = to_narrow<S, T>(values[l]);
      }
    }
  for (int64_t c = 0; c < count; ++c)
    for (int64_t i = c < squares ? whole : 0; i < p.pixels; ++i)
      to[i * p.channels + c] = to_narrow<S, T>(from[c * p.padded + i]);
}

// Some channels of a sample as padded rows of T: views of the tensor where it has such rows, else
// in scratch memory.
template <class T, int W>
struct Planes {
  const ConstrictionParams& p;
  bool direct;

  explicit Planes(const ConstrictionParams& p)
      : p(p),
        direct(!p.channels_last && p.pixels == p.padded &&
               p.dtype == (sizeof(T) == 8 ? DType::f64 : DType::f32)) {}

  int64_t scratch_size() const { return direct ? 0 : p.block * p.padded; }

  PYDISENT_INLINE const T* read(const void* from, int64_t sample, int64_t channel, int64_t count,
                                T* scratch) const {
    const int64_t first = sample * p.channels + channel;
    if (direct) return static_cast<const T*>(from) + first * p.pixels;
    if (!p.channels_last) {
      widen_rows(p, p.dtype, from, first, count, scratch);
      return scratch;
    }
    const int64_t offset = sample * p.channels * p.pixels + channel;
    with_storage<T>(p.dtype, [&](auto storage) __attribute__((always_inline)) {
      using S = decltype(storage);
      gather_rows<S, T, W>(p, static_cast<const S*>(from) + offset, count, scratch);
    });
    return scratch;
  }

  PYDISENT_INLINE T* target(int64_t sample, int64_t channel, T* scratch) const {
    return direct ? static_cast<T*>(p.out) + (sample * p.channels + channel) * p.pixels : scratch;
  }

  PYDISENT_INLINE void write(const T* scratch, int64_t sample, int64_t channel,
                             int64_t count) const {
    if (direct) return;
    if (!p.channels_last)
      return narrow_rows(p, p.dtype, scratch, p.out, sample * p.channels + channel, count);
    const int64_t offset = sample * p.channels * p.pixels + channel;
    with_storage<T>(p.dtype, [&](auto storage) __attribute__((always_inline)) {
      using S = decltype(storage);
      scatter_rows<S, T, W>(p, scratch, count, static_cast<S*>(p.out) + offset);
    });
  }
};

// Statistics of a plane; its mean is mean + rest.
template <class T>
struct Normalisation {
  T mean, rest, rstd;

  template <class V>
  PYDISENT_INLINE V centred(V x) const {
    return (x - mean) - rest;
  }
};

// Sums of x - guess and of its square over a plane, in an order that depends on its size alone, and
// in chunks that bound the terms per lane. `target` is a plane that will soon be written.
template <class T, int W>
PYDISENT_INLINE void moments_around(T guess, const T* x, int64_t n, const T* target,
                                    double* totals) {
  using V = typename Vector<T, W>::type;
  totals[0] = totals[1] = 0;
  for (int64_t first = 0; first < n; first += 4096) {
    const int64_t last = std::min(first + 4096, n);
    V sums[4] = {}, squares[4] = {};
    int64_t i = first;
    for (; i + 4 * W <= last; i += 4 * W)
      for (int j = 0; j < 4; ++j) {
        prefetch_to_write(target + i + j * W);
        const V d = load<T, W>(x + i + j * W) - guess;
        sums[j] += d;
        squares[j] += d * d;
      }
    T sum = 0, square = 0;
    for (; i < last; ++i) {
      const T d = x[i] - guess;
      sum += d;
      square += d * d;
    }
    totals[0] += horizontal_sum<T, W>((sums[0] + sums[1]) + (sums[2] + sums[3])) + sum;
    totals[1] +=
        horizontal_sum<T, W>((squares[0] + squares[1]) + (squares[2] + squares[3])) + square;
  }
}

// First guess of a plane's mean, from a few pixels of each quarter.
template <class T, int W>
PYDISENT_INLINE T guess_of(const T* x, int64_t n) {
  const T base = n > 0 ? x[0] : T(0);
  if (n < 4 * W) return base;
  typename Vector<T, W>::type sum = {};
  for (int q = 0; q < 4; ++q) sum += load<T, W>(x + q * (n / 4)) - base;
  return base + horizontal_sum<T, W>(sum) / (4 * W);
}

// One pass around a guess, which suffices unless the plane is uneven; then a second, around the
// mean found by the first. Both are exact on a constant plane.
template <class T, int W>
PYDISENT_INLINE Normalisation<T> statistics_of(const ConstrictionParams& p, const T* x,
                                               const T* target) {
  const double count = static_cast<double>(std::max<int64_t>(p.pixels, 1));
  T guess = guess_of<T, W>(x, p.pixels);
  double moments[2];
  moments_around<T, W>(guess, x, p.pixels, target, moments);
  double error = moments[0] / count, variance = moments[1] / count - error * error;
  if (!(error * error <= variance)) {
    guess = static_cast<T>(guess + error);
    moments_around<T, W>(guess, x, p.pixels, target, moments);
    error = moments[0] / count, variance = moments[1] / count - error * error;
  }
  variance = variance < 0 ? 0 : variance;  // not std::max, which would drop NaN
  Normalisation<T> found;
  found.mean = static_cast<T>(guess + error);
  found.rest = static_cast<T>(error - (static_cast<double>(found.mean) - guess));
  found.rstd = static_cast<T>(1 / std::sqrt(variance + p.eps));
  return found;
}

// A table of one value per code and pixel of a sample: W pixels of the first code, W of the next,
// and after all `rows` of them the next W pixels. So a loop over pixels reads sequentially.
template <class T, int W>
struct Codes {
  T* data;
  int64_t rows;

  PYDISENT_INLINE T* at(int64_t row, int64_t pixel) const { return data + pixel * rows + row * W; }
};

// Loads the masks of a sample into every `step`th row from `row` on, zero in the padding.
template <class T, int W>
PYDISENT_INLINE void widen_masks(const ConstrictionParams& p, int64_t sample, Codes<T, W> to,
                                 int64_t row, int64_t step) {
  with_storage<T>(p.mask_type, [&](auto storage) __attribute__((always_inline)) {
    using S = decltype(storage);
    for (int64_t k = 0; k < p.codes; ++k) {
      const S* from = static_cast<const S*>(p.masks) + (sample * p.codes + k) * p.pixels;
      int64_t i = 0;
      for (; i + W <= p.pixels; i += W)
        for (int l = 0; l < W; ++l) to.at(row + k * step, i)[l] = to_wide<S, T>(from[i + l]);
      for (; i < p.padded; i += W)
        for (int l = 0; l < W; ++l)
          to.at(row + k * step, i)[l] = i + l < p.pixels ? to_wide<S, T>(from[i + l]) : T(0);
    }
  });
}

template <class T, int W>
PYDISENT_INLINE void narrow_masks(const ConstrictionParams& p, int64_t sample, Codes<T, W> from) {
  with_storage<T>(p.mask_type, [&](auto storage) __attribute__((always_inline)) {
    using S = decltype(storage);
    for (int64_t k = 0; k < p.codes; ++k) {
      S* to = static_cast<S*>(p.grad_masks) + (sample * p.codes + k) * p.pixels;
      int64_t i = 0;
      for (; i + W <= p.pixels; i += W)
        for (int l = 0; l < W; ++l) to[i + l] = to_narrow<S, T>(from.at(k, i)[l]);
      for (int64_t l = 0; i + l < p.pixels; ++l) to[i + l] = to_narrow<S, T>(from.at(k, i)[l]);
    }
  });
}

// Given masks m in every other row, fills the rows between with 1 - m.
template <class T, int W>
PYDISENT_INLINE void complements_of(const ConstrictionParams& p, Codes<T, W> masks) {
  for (int64_t at = 0; at < masks.rows * p.padded; at += 2 * W)
    store<T, W>(masks.data + at + W, T(1) - load<T, W>(masks.data + at));
}

// Styles a tile by N codes: n pixels of R channels, `row_stride` apart. `from` is the state left by
// earlier codes.
template <class T, int W, int N, int R>
PYDISENT_INLINE void style_rows(const T* x, int64_t row_stride, const T* from, int64_t from_stride,
                                const Normalisation<T>* by, const T* masks, int64_t stride,
                                const T* scales, const T* shifts, int64_t styles_stride, int64_t n,
                                int64_t next, T* to, int64_t to_stride) {
  using V = typename Vector<T, W>::type;
  Normalisation<T> normal[R];
  V factor[R][N + 1], shift[R][N + 1];
  for (int r = 0; r < R; ++r) {
    normal[r] = by[r];
    for (int k = 0; k < N; ++k) {
      factor[r][k] = V{} + by[r].rstd * scales[k * styles_stride + r];
      shift[r][k] = V{} + shifts[k * styles_stride + r];
    }
  }
  for (int64_t i = 0; i < n; i += W, masks += stride) {
    V state[R], centred[R];
    for (int r = 0; r < R; ++r) {
      prefetch(x + r * row_stride + i + next);
      centred[r] = normal[r].centred(load<T, W>(x + r * row_stride + i));
      state[r] = load<T, W>(from + r * from_stride + i);
    }
    for (int k = 0; k < N; ++k) {
      const V m = load<T, W>(masks + 2 * k * W), outside = load<T, W>(masks + (2 * k + 1) * W);
      for (int r = 0; r < R; ++r)
        state[r] = state[r] * outside + (centred[r] * factor[r][k] + shift[r][k]) * m;
    }
    for (int r = 0; r < R; ++r) store<T, W>(to + r * to_stride + i, state[r]);
  }
}

template <class T, int W>
PYDISENT_INLINE void style_block(const ConstrictionParams& p, int64_t sample, int64_t channel,
                                 int64_t count, Codes<T, W> masks, const T* x,
                                 const Normalisation<T>* by, T* out) {
  const int64_t tile = tile_pixels<T>(p), styles = sample * p.codes * p.channels + channel;
  const T *scales = static_cast<const T*>(p.scales), *shifts = static_cast<const T*>(p.shifts);
  alignas(64) T state[kTogether * kMostPixels];
  for (int64_t first = 0; first < p.padded; first += tile) {
    const int64_t n = std::min(tile, p.padded - first);
    for_channels(count, [&](int64_t c, auto together) __attribute__((always_inline)) {
      const T *rows = x + c * p.padded + first, *from = rows;
      int64_t from_stride = p.padded;
      const auto run = [&](int64_t code, auto constant, T* to,
                           int64_t to_stride) __attribute__((always_inline)) {
        const int64_t at = styles + code * p.channels + c;
        style_rows<T, W, decltype(constant)::value, decltype(together)::value>(
            rows, p.padded, from, from_stride, by + c, masks.at(2 * code, first), masks.rows * W,
            scales + at, shifts + at, p.channels, n, p.block * p.padded, to, to_stride);
      };
      for_codes(
          p.codes,
          [&](int64_t code) __attribute__((always_inline)) {
            run(code, std::integral_constant<int, kMostCodes>(), state, kMostPixels);
            from = state, from_stride = kMostPixels;
          },
          [&](int64_t code, auto constant) __attribute__((always_inline)) {
            run(code, constant, out + c * p.padded + first, p.padded);
          });
    });
  }
}

template <class T, int BYTES>
PYDISENT_INLINE void forward_groups(const ConstrictionParams& p, int64_t begin, int64_t end) {
  constexpr int W = BYTES / sizeof(T);
  const Planes<T, W> planes(p);
  Scratch<T> mask_scratch(2 * p.codes * p.padded), scratch(planes.scratch_size());
  Scratch<Normalisation<T>> by(p.block);
  const Codes<T, W> masks{mask_scratch, 2 * p.codes};
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sample = item / p.groups, start = item % p.groups * p.group_channels;
    const int64_t stop = std::min(start + p.group_channels, p.channels);
    widen_masks(p, sample, masks, 0, 2);
    complements_of(p, masks);
    T* statistics = static_cast<T*>(p.statistics) + sample * 3 * p.channels;
    for (int64_t channel = start; channel < stop; channel += p.block) {
      const int64_t count = std::min(p.block, stop - channel);
      const T* x = planes.read(p.x, sample, channel, count, scratch);
      T* out = planes.target(sample, channel, scratch);
      for (int64_t c = 0; c < count; ++c) {
        by[c] = statistics_of<T, W>(p, x + c * p.padded, out + c * p.padded);
        statistics[channel + c] = by[c].mean;
        statistics[p.channels + channel + c] = by[c].rest;
        statistics[2 * p.channels + channel + c] = by[c].rstd;
      }
      style_block<T, W>(p, sample, channel, count, masks, x, by, out);
      planes.write(scratch, sample, channel, count);
    }
  }
}

// The op is linear in x and its normalised form: at each pixel A x + sum of w_n
// (scale_n x̂ + shift_n). Turns masks in rows 1 to N of the table into w_n, with A in row 0.
template <class T, int W>
PYDISENT_INLINE void weights_of(const ConstrictionParams& p, Codes<T, W> table) {
  using V = typename Vector<T, W>::type;
  for (int64_t i = 0; i < p.padded; i += W) {
    V kept = V{} + T(1);
    for (int64_t k = p.codes; k > 0; --k) {
      const V m = load<T, W>(table.at(k, i));
      store<T, W>(table.at(k, i), m * kept);
      kept *= T(1) - m;
    }
    store<T, W>(table.at(0, i), kept);
  }
}

// Reduces a tile: n pixels of R channels, padding from `valid` on. Adds, lane by lane, the sums
// over pixels of g (x - mean) w_n and g w_n to a (2 N, W) part of sums (R, `sums_stride`); the
// gradients of the weights w_n to partials, which the channels share; and, if kKept, that of A to
// `kept`.
template <class T, int W, int N, int R, bool kKept>
PYDISENT_INLINE void reduce_rows(const T* x, const T* grad, int64_t row_stride,
                                 const Normalisation<T>* by, const T* weights, T* partials, T* kept,
                                 int64_t stride, const T* scales, const T* shifts,
                                 int64_t styles_stride, int64_t n, int64_t valid, const T* target,
                                 T* sums, int64_t sums_stride) {
  using V = typename Vector<T, W>::type;
  Normalisation<T> normal[R];
  V factor[R][N + 1], shift[R][N + 1], along[R][N + 1] = {}, plain[R][N + 1] = {};
  for (int r = 0; r < R; ++r) {
    normal[r] = by[r];
    for (int k = 0; k < N; ++k) {
      factor[r][k] = V{} + by[r].rstd * scales[k * styles_stride + r];
      shift[r][k] = V{} + shifts[k * styles_stride + r];
    }
  }
  for (int64_t i = 0; i < n; i += W, weights += stride, partials += stride) {
    V g[R], slope[R], to_kept = {};
    for (int r = 0; r < R; ++r) {
      prefetch_to_write(target + r * row_stride + i);
      const V value = load<T, W>(x + r * row_stride + i);
      g[r] = load<T, W>(grad + r * row_stride + i);
      slope[r] = g[r] * normal[r].centred(value);
      if (i + W > valid) [[unlikely]]
        slope[r] = without_padding<T, W>(slope[r], valid - i);  // 0 times an infinite mean
      to_kept += g[r] * value;
    }
    if constexpr (kKept) {
      store<T, W>(kept, load<T, W>(kept) + to_kept);
      kept += stride;
    }
    for (int k = 0; k < N; ++k) {
      const V w = load<T, W>(weights + k * W);
      V partial = load<T, W>(partials + k * W);
      for (int r = 0; r < R; ++r) {
        along[r][k] += slope[r] * w;
        plain[r][k] += g[r] * w;
        partial += slope[r] * factor[r][k] + g[r] * shift[r][k];
      }
      store<T, W>(partials + k * W, partial);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < N; ++k) {
      T* sum = sums + r * sums_stride + 2 * k * W;
      store<T, W>(sum, load<T, W>(sum) + along[r][k]);
      store<T, W>(sum + W, load<T, W>(sum + W) + plain[r][k]);
    }
}

// All gradients in a block but that of x, which needs these sums over whole planes.
template <class T, int W>
PYDISENT_INLINE void reduce_block(const ConstrictionParams& p, int64_t sample, int64_t channel,
                                  int64_t count, Codes<T, W> table, Codes<T, W> partials,
                                  const T* x, const T* grad, const Normalisation<T>* by,
                                  const T* out, T* sums) {
  const int64_t tile = tile_pixels<T>(p), styles = sample * p.codes * p.channels + channel;
  const T *scales = static_cast<const T*>(p.scales), *shifts = static_cast<const T*>(p.shifts);
  for (int64_t first = 0; first < p.padded; first += tile) {
    const int64_t n = std::min(tile, p.padded - first);
    for_channels(count, [&](int64_t c, auto together) __attribute__((always_inline)) {
      const int64_t rows = c * p.padded + first;
      const auto run = [&](int64_t code, auto constant, auto kept) __attribute__((always_inline)) {
        const int64_t at = styles + code * p.channels + c;
        reduce_rows<T, W, decltype(constant)::value, decltype(together)::value,
                    decltype(kept)::value>(x + rows, grad + rows, p.padded, by + c,
                                           table.at(code + 1, first), partials.at(code + 1, first),
                                           partials.at(0, first), table.rows * W, scales + at,
                                           shifts + at, p.channels, n, p.pixels - first, out + rows,
                                           sums + 2 * (c * p.codes + code) * W, 2 * p.codes * W);
      };
      for_codes(
          p.codes,
          [&](int64_t code) __attribute__((always_inline)) {
            run(code, std::integral_constant<int, kMostCodes>(), std::false_type());
          },
          [&](int64_t code, auto constant)
              __attribute__((always_inline)) { run(code, constant, std::true_type()); });
    });
  }
}

// The gradient of x in a channel: g (A + sum of w_n scaled_n) + constant - (x - mean) linear.
template <class T>
struct Slope {
  T constant, linear;
};

// Adds the codes' part to rows of the slope, `kept` (initially A), and if kLast computes the rows
// of grad_x from it.
template <class T, int W, int N, int R, bool kLast>
PYDISENT_INLINE void slope_rows(const T* kept, int64_t kept_stride, int64_t kept_row_stride,
                                const T* weights, int64_t stride, const T* scaled,
                                int64_t scaled_stride, const T* x, const T* grad,
                                int64_t row_stride, const Normalisation<T>* by,
                                const Slope<T>* slopes, int64_t n, int64_t next, T* to,
                                int64_t to_stride) {
  using V = typename Vector<T, W>::type;
  Normalisation<T> normal[R];
  Slope<T> slope[R];
  V factor[R][N + 1];
  for (int r = 0; r < R; ++r) {
    for (int k = 0; k < N; ++k) factor[r][k] = V{} + scaled[r * scaled_stride + k];
    normal[r] = by[r], slope[r] = slopes[r];
  }
  for (int64_t i = 0; i < n; i += W, kept += kept_stride, weights += stride) {
    V sum[R];
    for (int r = 0; r < R; ++r) sum[r] = load<T, W>(kept + r * kept_row_stride);
    for (int k = 0; k < N; ++k) {
      const V w = load<T, W>(weights + k * W);
      for (int r = 0; r < R; ++r) sum[r] += w * factor[r][k];
    }
    for (int r = 0; r < R; ++r) {
      if constexpr (kLast) {
        const int64_t at = r * row_stride + i;
        prefetch(x + at + next);
        prefetch(grad + at + next);
        const V d = normal[r].centred(load<T, W>(x + at));
        sum[r] = load<T, W>(grad + at) * sum[r] + slope[r].constant - d * slope[r].linear;
      }
      store<T, W>(to + r * to_stride + i, sum[r]);
    }
  }
}

template <class T, int W>
PYDISENT_INLINE void slope_block(const ConstrictionParams& p, int64_t count, Codes<T, W> table,
                                 const T* x, const T* grad, const Normalisation<T>* by,
                                 const T* scaled, const Slope<T>* slopes, T* out) {
  const int64_t tile = tile_pixels<T>(p);
  alignas(64) T state[kTogether * kMostPixels];
  for (int64_t first = 0; first < p.padded; first += tile) {
    const int64_t n = std::min(tile, p.padded - first);
    for_channels(count, [&](int64_t c, auto together) __attribute__((always_inline)) {
      const int64_t at = c * p.padded + first;
      const T* kept = table.at(0, first);
      int64_t kept_stride = table.rows * W, kept_row_stride = 0;
      const auto run = [&](int64_t code, auto constant, auto last, T* to,
                           int64_t to_stride) __attribute__((always_inline)) {
        slope_rows<T, W, decltype(constant)::value, decltype(together)::value,
                   decltype(last)::value>(
            kept, kept_stride, kept_row_stride, table.at(code + 1, first), table.rows * W,
            scaled + c * p.codes + code, p.codes, x + at, grad + at, p.padded, by + c, slopes + c,
            n, p.block * p.padded, to, to_stride);
      };
      for_codes(
          p.codes,
          [&](int64_t code) __attribute__((always_inline)) {
            run(code, std::integral_constant<int, kMostCodes>(), std::false_type(), state,
                kMostPixels);
            kept = state, kept_stride = W, kept_row_stride = kMostPixels;
          },
          [&](int64_t code, auto constant) __attribute__((always_inline)) {
            run(code, constant, std::true_type(), out + at, p.padded);
          });
    });
  }
}

// totals[r] = the sum of the W lanes of row r of sums, which is padded to a multiple of W rows.
template <class T, int W>
PYDISENT_INLINE void sum_lanes(const T* sums, int64_t rows, T* totals) {
  using V = typename Vector<T, W>::type;
  for (int64_t first = 0; first < rows; first += W) {
    V v[W];
    for (int r = 0; r < W; ++r) v[r] = load<T, W>(sums + (first + r) * W);
    transpose_square<T, W>(v);
    for (int half = W / 2; half > 0; half /= 2)
      for (int r = 0; r < half; ++r) v[r] += v[r + half];
    store<T, W>(totals + first, v[0]);
  }
}

// From the sums over planes (count, N, 2) of g (x - mean) w_n and g w_n, computes the styles'
// gradients and the terms that grad_x still needs.
template <class T>
PYDISENT_INLINE void finish_styles(const ConstrictionParams& p, int64_t sample, int64_t channel,
                                   int64_t count, const T* totals, const Normalisation<T>* by,
                                   T* scaled, Slope<T>* slopes) {
  const T pixels = static_cast<T>(p.pixels);
  const T* on = static_cast<const T*>(p.grad_statistics) + sample * 3 * p.channels + channel;
  for (int64_t c = 0; c < count; ++c) {
    const T on_mean = on[c], on_rstd = on[2 * p.channels + c], rstd = by[c].rstd;
    T along_shift = 0, along_scale = 0;
    for (int64_t k = 0; k < p.codes; ++k) {
      const int64_t at = (sample * p.codes + k) * p.channels + channel + c;
      const T* sums = totals + 2 * (c * p.codes + k);
      const T to_scale = rstd * sums[0], to_shift = sums[1];
      static_cast<T*>(p.grad_scales)[at] = to_scale;
      static_cast<T*>(p.grad_shifts)[at] = to_shift;
      const T factor = rstd * static_cast<const T*>(p.scales)[at];
      scaled[c * p.codes + k] = factor;
      along_shift += factor * to_shift;
      along_scale += factor * to_scale;
    }
    slopes[c].constant = (on_mean - along_shift) / pixels;
    slopes[c].linear = (along_scale + on_rstd * rstd * rstd) / pixels * rstd;
  }
}

template <class T, int BYTES>
PYDISENT_INLINE void backward_groups(const ConstrictionParams& p, int64_t begin, int64_t end) {
  constexpr int W = BYTES / sizeof(T);
  const Planes<T, W> planes(p);
  const int64_t rows = (2 * p.block * p.codes + W - 1) / W * W;
  const int64_t size = (p.codes + 1) * p.padded;
  Scratch<T> table_scratch(size), scratch(planes.scratch_size());
  Scratch<T> grad_scratch(planes.scratch_size()), sums(rows * W), totals(rows);
  Scratch<T> scaled(p.block * p.codes);
  Scratch<Normalisation<T>> by(p.block);
  Scratch<Slope<T>> slopes(p.block);
  const Codes<T, W> table{table_scratch, p.codes + 1};
  for (int64_t item = begin; item < end; ++item) {
    const int64_t sample = item / p.groups, start = item % p.groups * p.group_channels;
    const int64_t stop = std::min(start + p.group_channels, p.channels);
    const Codes<T, W> partials{static_cast<T*>(p.partials) + item * size, p.codes + 1};
    std::fill_n(partials.data, size, T(0));
    widen_masks(p, sample, table, 1, 1);
    weights_of(p, table);
    const T* statistics = static_cast<const T*>(p.statistics) + sample * 3 * p.channels;
    for (int64_t channel = start; channel < stop; channel += p.block) {
      const int64_t count = std::min(p.block, stop - channel);
      const T* x = planes.read(p.x, sample, channel, count, scratch);
      const T* grad = planes.read(p.grad_out, sample, channel, count, grad_scratch);
      for (int64_t c = 0; c < count; ++c)
        by[c] = {statistics[channel + c], statistics[p.channels + channel + c],
                 statistics[2 * p.channels + channel + c]};
      std::fill_n(static_cast<T*>(sums), rows * W, T(0));
      T* out = planes.target(sample, channel, grad_scratch);
      reduce_block<T, W>(p, sample, channel, count, table, partials, x, grad, by, out, sums);
      sum_lanes<T, W>(sums, rows, totals);
      finish_styles<T>(p, sample, channel, count, totals, by, scaled, slopes);
      slope_block<T, W>(p, count, table, x, grad, by, scaled, slopes, out);
      planes.write(grad_scratch, sample, channel, count);
    }
  }
}

// The pixelwise adjoint of A and w_n as functions of the masks: given the gradients z_0 of A and
// d_n of w_n, that of m_n is P_n (d_n - z_{n-1}), where z is updated by the d_n as x is by the
// codes, and P_n = (1 - m_{n+1}) ... (1 - m_N). This avoids dividing by 1 - m_n, which may be zero.
template <class T, int BYTES>
PYDISENT_INLINE void mask_samples(const ConstrictionParams& p, int64_t begin, int64_t end) {
  constexpr int W = BYTES / sizeof(T);
  using V = typename Vector<T, W>::type;
  const int64_t size = (p.codes + 1) * p.padded;
  Scratch<T> mask_scratch(p.codes * p.padded), later_scratch(p.codes * p.padded);
  const Codes<T, W> masks{mask_scratch, p.codes}, later{later_scratch, p.codes};
  for (int64_t sample = begin; sample < end; ++sample) {
    widen_masks(p, sample, masks, 0, 1);
    const Codes<const T, W> partials{static_cast<const T*>(p.partials) + sample * p.groups * size,
                                     p.codes + 1};
    for (int64_t i = 0; i < p.padded; i += W) {
      const auto total = [&](int64_t row) __attribute__((always_inline)) {
        V sum = load<T, W>(partials.at(row, i));
        for (int64_t g = 1; g < p.groups; ++g) sum += load<T, W>(partials.at(row, i) + g * size);
        return sum;
      };
      V after = V{} + T(1);
      for (int64_t k = p.codes; k-- > 0;) {
        store<T, W>(later.at(k, i), after);
        after *= T(1) - load<T, W>(masks.at(k, i));
      }
      V state = total(0);
      for (int64_t k = 0; k < p.codes; ++k) {
        const V m = load<T, W>(masks.at(k, i)), target = total(k + 1);
        store<T, W>(later.at(k, i), load<T, W>(later.at(k, i)) * (target - state));
        state = state * (T(1) - m) + target * m;
      }
    }
    narrow_masks(p, sample, later);
  }
}

#define PYDISENT_INSTANTIATE(T)                                                                \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void forward_##T(const ConstrictionParams& p, int64_t begin, int64_t end) {  \
    forward_groups<T, BYTES>(p, begin, end);                                                   \
  }                                                                                            \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void backward_##T(const ConstrictionParams& p, int64_t begin, int64_t end) { \
    backward_groups<T, BYTES>(p, begin, end);                                                  \
  }                                                                                            \
  template <int BYTES>                                                                         \
  PYDISENT_INLINE void masks_##T(const ConstrictionParams& p, int64_t begin, int64_t end) {    \
    mask_samples<T, BYTES>(p, begin, end);                                                     \
  }                                                                                            \
  PYDISENT_MULTIVERSION(run_forward_##T, ConstrictionParams, forward_##T)                      \
  PYDISENT_MULTIVERSION(run_backward_##T, ConstrictionParams, backward_##T)                    \
  PYDISENT_MULTIVERSION(run_masks_##T, ConstrictionParams, masks_##T)

PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void spatial_constriction_cpu(const ConstrictionParams& p, int64_t begin, int64_t end) {
  p.dtype == DType::f64 ? run_forward_double(p, begin, end) : run_forward_float(p, begin, end);
}

void spatial_constriction_backward_cpu(const ConstrictionParams& p, int64_t begin, int64_t end) {
  p.dtype == DType::f64 ? run_backward_double(p, begin, end) : run_backward_float(p, begin, end);
}

void spatial_constriction_masks_cpu(const ConstrictionParams& p, int64_t begin, int64_t end) {
  p.dtype == DType::f64 ? run_masks_double(p, begin, end) : run_masks_float(p, begin, end);
}

}  // namespace pydisent
