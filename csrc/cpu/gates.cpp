#include "../include/gates.h"

#include <algorithm>

#include "exp.h"

namespace pydisent {
namespace {

// Rows of gates (mask rows, gradients) are zero-padded to a multiple of this.
constexpr int64_t kPadding = 64;

constexpr int64_t padded(int64_t n) { return (n + kPadding - 1) / kPadding * kPadding; }

// Tiles are (L, kGateRows): sums along rows then run on all rows at once, in vector lanes.
template <class T, int BYTES>
struct Lanes {
  static constexpr int kWidth = BYTES / sizeof(T), kCount = kGateRows / kWidth;
  using V = typename Vector<T, kWidth>::type;
  V v[kCount];

  static PYDISENT_INLINE Lanes load(const T* at) {
    Lanes x;
    for (int i = 0; i < kCount; ++i) x.v[i] = *reinterpret_cast<const V*>(at + i * kWidth);
    return x;
  }

  PYDISENT_INLINE void store(T* at) const {
    for (int i = 0; i < kCount; ++i) *reinterpret_cast<V*>(at + i * kWidth) = v[i];
  }

#define PYDISENT_LANEWISE(signature, expression)          \
  friend PYDISENT_INLINE Lanes signature {                \
    Lanes y;                                              \
    for (int i = 0; i < kCount; ++i) y.v[i] = expression; \
    return y;                                             \
  }
  PYDISENT_LANEWISE(operator+(Lanes a, Lanes b), a.v[i] + b.v[i])
  PYDISENT_LANEWISE(operator-(Lanes a, Lanes b), a.v[i] - b.v[i])
  PYDISENT_LANEWISE(operator*(Lanes a, Lanes b), a.v[i] * b.v[i])
  PYDISENT_LANEWISE(operator/(Lanes a, Lanes b), a.v[i] / b.v[i])
  PYDISENT_LANEWISE(larger(Lanes a, Lanes b), a.v[i] > b.v[i] ? a.v[i] : b.v[i])
  PYDISENT_LANEWISE(exp_nonpositive_of(Lanes a), (exp_nonpositive<T, kWidth>(a.v[i])))
#undef PYDISENT_LANEWISE
};

// One side's exponentials, and their sums up to and from each position, for up to kGateRows rows.
template <class T>
struct Side {
  T *rise, *rise_sums, *fall, *fall_sums;
  int64_t length;

  static int64_t size(int64_t length) { return 4 * length * kGateRows; }

  Side(T* memory, int64_t n)
      : rise(memory),
        rise_sums(rise + n * kGateRows),
        fall(rise_sums + n * kGateRows),
        fall_sums(fall + n * kGateRows),
        length(n) {}
};

// Missing rows are read as zeros and never stored.
template <class S, class T>
PYDISENT_INLINE void load_rows(const void* data, const int64_t* strides, int64_t rectangles,
                               int64_t first, int64_t rows, int64_t length, T* tile) {
  for (int64_t r = 0; r < kGateRows; ++r) {
    if (r >= rows) {
      for (int64_t l = 0; l < length; ++l) tile[l * kGateRows + r] = 0;
      continue;
    }
    const int64_t mask = (first + r) / rectangles, j = (first + r) % rectangles;
    const S* row = static_cast<const S*>(data) + mask * strides[0] + j * strides[1];
    for (int64_t l = 0; l < length; ++l) tile[l * kGateRows + r] = widen(row[l * strides[2]]);
  }
}

template <class S, class T>
PYDISENT_INLINE void store_rows(const T* tile, int64_t rows, int64_t length, S* to,
                                int64_t stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t l = 0; l < length; ++l) to[r * stride + l] = narrow<S>(tile[l * kGateRows + r]);
}

template <class T, int BYTES>
PYDISENT_INLINE void exponentials(T* tile, int64_t length) {
  using X = Lanes<T, BYTES>;
  X peak = X::load(tile);
  for (int64_t l = 1; l < length; ++l) peak = larger(X::load(tile + l * kGateRows), peak);
  for (int64_t l = 0; l < length; ++l)
    exp_nonpositive_of(X::load(tile + l * kGateRows) - peak).store(tile + l * kGateRows);
}

// sums[l] = the sum of tile[k] over k <= l, or over k >= l
template <class T, int BYTES>
PYDISENT_INLINE void cumulate(const T* tile, T* sums, int64_t length, bool from_end) {
  using X = Lanes<T, BYTES>;
  X sum{};
  for (int64_t i = 0; i < length; ++i) {
    const int64_t at = (from_end ? length - 1 - i : i) * kGateRows;
    sum = sum + X::load(tile + at);
    sum.store(sums + at);
  }
}

template <class S, class T, int BYTES>
PYDISENT_INLINE void fill(const GateLogits& p, int64_t rectangles, int64_t first, int64_t rows,
                          const Side<T>& side) {
  load_rows<S>(p.rise, p.rise_strides, rectangles, first, rows, p.length, side.rise);
  exponentials<T, BYTES>(side.rise, p.length);
  cumulate<T, BYTES>(side.rise, side.rise_sums, p.length, false);
  if (!p.fall) return;
  load_rows<S>(p.fall, p.fall_strides, rectangles, first, rows, p.length, side.fall);
  exponentials<T, BYTES>(side.fall, p.length);
  cumulate<T, BYTES>(side.fall, side.fall_sums, p.length, true);
}

// The sum of the falling edge's exponentials after position l
template <class T, int BYTES>
PYDISENT_INLINE Lanes<T, BYTES> after(const Side<T>& side, int64_t l) {
  using X = Lanes<T, BYTES>;
  return l + 1 < side.length ? X::load(side.fall_sums + (l + 1) * kGateRows) : X{};
}

// The gates, or cumax if there is no falling edge. One quotient of two products of sums: no sum
// exceeds the last one, so a gate never exceeds 1.
template <class T, int BYTES>
PYDISENT_INLINE void gates(const Side<T>& side, bool falls, T* tile) {
  using X = Lanes<T, BYTES>;
  X total = X::load(side.rise_sums + (side.length - 1) * kGateRows);
  if (falls) total = total * X::load(side.fall_sums);
  for (int64_t l = 0; l < side.length; ++l) {
    X gate = X::load(side.rise_sums + l * kGateRows);
    if (falls) gate = gate * after<T, BYTES>(side, l);
    (gate / total).store(tile + l * kGateRows);
  }
}

// The gradient p (s - sum p s) in place of a cumax's cotangent c, with p = e / total and s_k the
// sum of c_l over l >= k
template <class T, int BYTES>
PYDISENT_INLINE void cumax_adjoint(const T* e, const Lanes<T, BYTES>& total, T* tile,
                                   int64_t length) {
  using X = Lanes<T, BYTES>;
  X sum{}, mean{};
  for (int64_t l = length - 1; l >= 0; --l) {
    sum = sum + X::load(tile + l * kGateRows);
    sum.store(tile + l * kGateRows);
    mean = mean + sum * X::load(e + l * kGateRows);
  }
  mean = mean / total;
  for (int64_t l = 0; l < length; ++l) {
    const X p = X::load(e + l * kGateRows) / total;
    (p * (X::load(tile + l * kGateRows) - mean)).store(tile + l * kGateRows);
  }
}

// The gradients of both edges, in place of the gates' cotangents; cumax uses the latter directly.
template <class S, class T, int BYTES>
PYDISENT_INLINE void edges_adjoint(const GateLogits& p, const Side<T>& side, int64_t first,
                                   int64_t rows, T* tile, T* other) {
  using X = Lanes<T, BYTES>;
  const int64_t n = p.length, start = first * n;
  const X rise_total = X::load(side.rise_sums + (n - 1) * kGateRows);
  if (p.fall) {
    const X fall_total = X::load(side.fall_sums);
    for (int64_t l = 0; l < n; ++l) {
      const X g = X::load(tile + l * kGateRows);
      const X rising = X::load(side.rise_sums + l * kGateRows) / rise_total;
      (X{} - g * rising).store(other + l * kGateRows);
      (g * (after<T, BYTES>(side, l) / fall_total)).store(tile + l * kGateRows);
    }
    cumax_adjoint<T, BYTES>(side.fall, fall_total, other, n);
    store_rows(other, rows, n, static_cast<S*>(p.grad_fall) + start, n);
  }
  cumax_adjoint<T, BYTES>(side.rise, rise_total, tile, n);
  store_rows(tile, rows, n, static_cast<S*>(p.grad_rise) + start, n);
}

template <class S, int BYTES>
PYDISENT_INLINE void gate_items(const GatesParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  const GateLogits& logits = p.sides[0];
  const int64_t n = logits.length;
  Scratch<T> memory(Side<T>::size(n) + n * kGateRows);
  const Side<T> side(memory, n);
  T* tile = memory + Side<T>::size(n);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * kGateRows, rows = std::min(kGateRows, p.masks - first);
    fill<S, T, BYTES>(logits, 1, first, rows, side);
    gates<T, BYTES>(side, logits.fall, tile);
    store_rows(tile, rows, n, static_cast<S*>(p.out) + first * n, n);
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void gate_backward_items(const GatesParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  const GateLogits& logits = p.sides[0];
  const int64_t n = logits.length;
  Scratch<T> memory(Side<T>::size(n) + 2 * n * kGateRows);
  const Side<T> side(memory, n);
  T *tile = memory + Side<T>::size(n), *other = tile + n * kGateRows;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * kGateRows, rows = std::min(kGateRows, p.masks - first);
    fill<S, T, BYTES>(logits, 1, first, rows, side);
    load_rows<S>(p.grad, p.grad_strides, 1, first, rows, n, tile);
    edges_adjoint<S, T, BYTES>(logits, side, first, rows, tile, other);
  }
}

// The masks of one work item, and their rows that one tile holds
struct Group {
  int64_t first, masks, rows;

  Group(const GatesParams& p, int64_t item)
      : first(item * masks_per_item(p.rectangles)),
        masks(std::min(masks_per_item(p.rectangles), p.masks - first)),
        rows(masks * p.rectangles) {}

  static int64_t tiles(const GatesParams& p) {
    return (masks_per_item(p.rectangles) * p.rectangles + kGateRows - 1) / kGateRows;
  }

  int64_t rows_in(int64_t tile) const { return std::min(kGateRows, rows - tile * kGateRows); }
};

// The gates of a group, as rows of padded(length)
template <class S, class T, int BYTES>
PYDISENT_INLINE void group_gates(const GatesParams& p, const Group& group, int s, T* sides,
                                 T* scratch, T* rows) {
  const GateLogits& logits = p.sides[s];
  const int64_t n = logits.length, first = group.first * p.rectangles;
  for (int64_t t = 0; t * kGateRows < group.rows; ++t) {
    const Side<T> side(sides + t * Side<T>::size(n), n);
    fill<S, T, BYTES>(logits, p.rectangles, first + t * kGateRows, group.rows_in(t), side);
    gates<T, BYTES>(side, true, scratch);
    store_rows(scratch, group.rows_in(t), n, rows + t * kGateRows * padded(n), padded(n));
  }
}

// One row of a mask: the mean over rectangles of a number (`stride` apart) times a row of gates
template <class S, class T, int BYTES>
PYDISENT_INLINE void mask_row(const T* gate_h, int64_t stride, const T* gates_w, int64_t rectangles,
                              int64_t width, S* out) {
  constexpr int64_t kWidth = BYTES / sizeof(T), kChunk = 4 * kWidth;
  using V = typename Vector<T, kWidth>::type;
  const T share = T(1) / static_cast<T>(rectangles);
  for (int64_t w = 0; w < width; w += kChunk) {
    V sums[4] = {};
    for (int64_t j = 0; j < rectangles; ++j)
      for (int i = 0; i < 4; ++i)
        sums[i] += gate_h[j * stride] *
                   *reinterpret_cast<const V*>(gates_w + j * padded(width) + w + i * kWidth);
    alignas(64) T values[kChunk];
    for (int i = 0; i < 4; ++i) {
      const V mean = sums[i] * share;
      *reinterpret_cast<V*>(values + i * kWidth) = mean > T(1) ? V{} + T(1) : mean;
    }
    const int64_t count = std::min(kChunk, width - w);
    for (int64_t i = 0; i < count; ++i) out[w + i] = narrow<S>(values[i]);
  }
}

// Scratch memory of the masks: both sides' tiles and rows of gates, and one more tile
template <class T>
struct MaskMemory {
  int64_t height, width, tiles;
  Scratch<T> memory;
  T *sides[2], *rows[2], *tile, *other, *grad_rows[2], *line;

  MaskMemory(const GatesParams& p, bool backward)
      : height(p.sides[0].length),
        width(p.sides[1].length),
        tiles(Group::tiles(p)),
        memory(count(backward)) {
    T* at = memory;
    const auto take = [&](int64_t n) { return std::exchange(at, at + n); };
    const int64_t lengths[2] = {height, width}, lines = tiles * kGateRows;
    for (int s = 0; s < 2; ++s) sides[s] = take(tiles * Side<T>::size(lengths[s]));
    for (int s = 0; s < 2; ++s) rows[s] = take(lines * padded(lengths[s]));
    tile = take(longest() * kGateRows);
    if (!backward) return;
    other = take(longest() * kGateRows), line = take(padded(width));
    for (int s = 0; s < 2; ++s) grad_rows[s] = take(lines * padded(lengths[s]));
  }

  int64_t longest() const { return std::max(height, width); }

  int64_t count(bool backward) const {
    const int64_t lines = tiles * kGateRows * (padded(height) + padded(width));
    const int64_t forward =
        tiles * (Side<T>::size(height) + Side<T>::size(width)) + lines + longest() * kGateRows;
    return backward ? forward + longest() * kGateRows + padded(width) + lines : forward;
  }

  // Rows are read as zeros beyond their length.
  void clear() {
    std::fill_n(rows[0], tiles * kGateRows * padded(height), T(0));
    std::fill_n(rows[1], tiles * kGateRows * padded(width), T(0));
  }
};

template <class S, int BYTES>
PYDISENT_INLINE void mask_items(const GatesParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  MaskMemory<T> m(p, false);
  m.clear();
  const int64_t high = padded(m.height), wide = padded(m.width);
  for (int64_t item = begin; item < end; ++item) {
    const Group group(p, item);
    for (int s = 0; s < 2; ++s)
      group_gates<S, T, BYTES>(p, group, s, m.sides[s], m.tile, m.rows[s]);
    for (int64_t i = 0; i < group.masks; ++i) {
      const int64_t row = i * p.rectangles;
      S* out = static_cast<S*>(p.out) + (group.first + i) * m.height * m.width;
      for (int64_t h = 0; h < m.height; ++h)
        mask_row<S, T, BYTES>(m.rows[0] + row * high + h, high, m.rows[1] + row * wide,
                              p.rectangles, m.width, out + h * m.width);
    }
  }
}

// The cotangents of one mask's gates: the mask's cotangent summed with the other side's gates
template <class S, class T, int BYTES>
PYDISENT_INLINE void gates_cotangents(const GatesParams& p, int64_t mask, int64_t row,
                                      const MaskMemory<T>& m) {
  const int64_t high = padded(m.height), wide = padded(m.width);
  T *grad_h = m.grad_rows[0] + row * high, *grad_w = m.grad_rows[1] + row * wide;
  const T *gates_h = m.rows[0] + row * high, *gates_w = m.rows[1] + row * wide;
  std::fill_n(grad_w, p.rectangles * wide, T(0));
  const T share = T(1) / static_cast<T>(p.rectangles);
  const S* grad = static_cast<const S*>(p.grad) + mask * p.grad_strides[0];
  for (int64_t h = 0; h < m.height; ++h) {
    for (int64_t w = 0; w < m.width; ++w)
      m.line[w] = widen(grad[h * p.grad_strides[1] + w * p.grad_strides[2]]) * share;
    for (int64_t j = 0; j < p.rectangles; ++j) {
      grad_h[j * high + h] = dot<T, BYTES / sizeof(T)>(m.line, gates_w + j * wide, m.width);
      const T gate = gates_h[j * high + h];
      for (int64_t w = 0; w < m.width; ++w) grad_w[j * wide + w] += gate * m.line[w];
    }
  }
}

template <class S, int BYTES>
PYDISENT_INLINE void mask_backward_items(const GatesParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  MaskMemory<T> m(p, true);
  m.clear();
  for (int64_t item = begin; item < end; ++item) {
    const Group group(p, item);
    for (int s = 0; s < 2; ++s)
      group_gates<S, T, BYTES>(p, group, s, m.sides[s], m.tile, m.rows[s]);
    for (int64_t i = 0; i < group.masks; ++i)
      gates_cotangents<S, T, BYTES>(p, group.first + i, i * p.rectangles, m);
    for (int s = 0; s < 2; ++s) {
      const int64_t n = p.sides[s].length, strides[3] = {padded(n), 0, 1};
      for (int64_t t = 0; t * kGateRows < group.rows; ++t) {
        const int64_t rows = group.rows_in(t), first = t * kGateRows;
        const Side<T> side(m.sides[s] + t * Side<T>::size(n), n);
        load_rows<T>(m.grad_rows[s], strides, 1, first, rows, n, m.tile);
        edges_adjoint<S, T, BYTES>(p.sides[s], side, group.first * p.rectangles + first, rows,
                                   m.tile, m.other);
      }
    }
  }
}

#define PYDISENT_INSTANTIATE(S)                                                              \
  template <int BYTES>                                                                       \
  PYDISENT_INLINE void gate_##S(const GatesParams& p, int64_t begin, int64_t end) {          \
    gate_items<S, BYTES>(p, begin, end);                                                     \
  }                                                                                          \
  template <int BYTES>                                                                       \
  PYDISENT_INLINE void gate_backward_##S(const GatesParams& p, int64_t begin, int64_t end) { \
    gate_backward_items<S, BYTES>(p, begin, end);                                            \
  }                                                                                          \
  template <int BYTES>                                                                       \
  PYDISENT_INLINE void mask_##S(const GatesParams& p, int64_t begin, int64_t end) {          \
    mask_items<S, BYTES>(p, begin, end);                                                     \
  }                                                                                          \
  template <int BYTES>                                                                       \
  PYDISENT_INLINE void mask_backward_##S(const GatesParams& p, int64_t begin, int64_t end) { \
    mask_backward_items<S, BYTES>(p, begin, end);                                            \
  }                                                                                          \
  PYDISENT_MULTIVERSION(run_gate_##S, GatesParams, gate_##S)                                 \
  PYDISENT_MULTIVERSION(run_gate_backward_##S, GatesParams, gate_backward_##S)               \
  PYDISENT_MULTIVERSION(run_mask_##S, GatesParams, mask_##S)                                 \
  PYDISENT_MULTIVERSION(run_mask_backward_##S, GatesParams, mask_backward_##S)

PYDISENT_INSTANTIATE(Half)
PYDISENT_INSTANTIATE(BFloat16)
PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void band_gate_cpu(const GatesParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(gate)
}

void band_gate_backward_cpu(const GatesParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(gate_backward)
}

void band_mask_cpu(const GatesParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(mask)
}

void band_mask_backward_cpu(const GatesParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(mask_backward)
}

}  // namespace pydisent
