// Products of small matrices, accumulated in registers.
#pragma once

#include <cstdint>

#include "simd.h"

namespace pydisent {

// C[r, 0 : columns] = sum_p A[p, r] B[p, 0 : NV * W] for R rows, accumulated in registers; with
// kAdd the sum is added to C.
template <class T, int W, int R, int NV, bool kAdd>
PYDISENT_INLINE void product_tile(const T* a, int64_t a_p, int64_t a_r, const T* b, int64_t b_p,
                                  int64_t depth, T* c, int64_t c_r, int64_t columns) {
  using V = typename Vector<T, W>::type;
  V sum[R][NV] = {};
  for (int64_t p = 0; p < depth; ++p) {
    V row[NV];
    for (int v = 0; v < NV; ++v) row[v] = *reinterpret_cast<const V*>(b + p * b_p + v * W);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < NV; ++v) sum[r][v] += a[p * a_p + r * a_r] * row[v];
  }
  for (int r = 0; r < R; ++r) {
    T* to = c + r * c_r;
    if (columns >= NV * W) {
      for (int v = 0; v < NV; ++v) {
        V& whole = *reinterpret_cast<V*>(to + v * W);
        whole = kAdd ? whole + sum[r][v] : sum[r][v];
      }
    } else {
      T lanes[NV * W];
      std::memcpy(lanes, sum[r], sizeof(lanes));
      for (int64_t i = 0; i < columns; ++i) to[i] = kAdd ? to[i] + lanes[i] : lanes[i];
    }
  }
}

// C (rows x columns) = sum_p A[p, r] B[p, :]. Rows of B are read up to the next multiple of W.
template <class T, int W, int R, int NV, bool kAdd>
PYDISENT_INLINE void product_panel(const T* a, int64_t a_p, int64_t a_r, int64_t rows, const T* b,
                                   int64_t b_p, int64_t depth, T* c, int64_t c_r, int64_t columns) {
  int64_t r = 0;
  for (; r + R <= rows; r += R)
    product_tile<T, W, R, NV, kAdd>(a + r * a_r, a_p, a_r, b, b_p, depth, c + r * c_r, c_r,
                                    columns);
  if constexpr (R > 1)
    product_panel<T, W, R / 2, NV, kAdd>(a + r * a_r, a_p, a_r, rows - r, b, b_p, depth,
                                         c + r * c_r, c_r, columns);
}

template <class T, int W, bool kAdd = false>
PYDISENT_INLINE void product(const T* a, int64_t a_p, int64_t a_r, int64_t rows, const T* b,
                             int64_t b_p, int64_t depth, T* c, int64_t c_r, int64_t columns) {
  constexpr int R = W * sizeof(T) == 64 ? 8 : 4;  // with 32 or 16 registers
  int64_t n = 0;
  for (; n + 2 * W <= columns; n += 2 * W)
    product_panel<T, W, R, 2, kAdd>(a, a_p, a_r, rows, b + n, b_p, depth, c + n, c_r, 2 * W);
  for (; n < columns; n += W)
    product_panel<T, W, R, 1, kAdd>(a, a_p, a_r, rows, b + n, b_p, depth, c + n, c_r, columns - n);
}

// out[j * stride + i] = x[i, j] for m rows and n columns, with zeros for i from m to stride.
template <int W, class S, class T>
PYDISENT_INLINE void load_transposed(const S* x, const int64_t* strides, int64_t m, int64_t n,
                                     T* out, int64_t stride) {
  int64_t whole_rows = 0, whole_columns = 0;
#ifdef PYDISENT_HAS_SHUFFLE
  using V = typename Vector<T, W>::type;
  whole_rows = m / W * W, whole_columns = n / W * W;
  for (int64_t i = 0; i < whole_rows; i += W)
    for (int64_t j = 0; j < whole_columns; j += W) {
      V rows[W];
      for (int r = 0; r < W; ++r) {
        const S* from = x + (i + r) * strides[0] + j * strides[1];
        if (sizeof(S) == sizeof(T) && strides[1] == 1) {
          std::memcpy(&rows[r], from, sizeof(V));
        } else {
          T lanes[W];
          for (int c = 0; c < W; ++c) lanes[c] = widen(from[c * strides[1]]);
          std::memcpy(&rows[r], lanes, sizeof(V));
        }
      }
      transpose<W>(rows);
      for (int r = 0; r < W; ++r) *reinterpret_cast<V*>(out + (j + r) * stride + i) = rows[r];
    }
#endif
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = j < whole_columns ? whole_rows : 0; i < m; ++i)
      out[j * stride + i] = widen(x[i * strides[0] + j * strides[1]]);
    for (int64_t i = m; i < stride; ++i) out[j * stride + i] = 0;
  }
}

}  // namespace pydisent
