#include "../include/toy.h"

#include "simd.h"

namespace pydisent {
namespace {

template <class S>
PYDISENT_INLINE void squares(const WeightedSquareParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  const S* x = static_cast<const S*>(p.x);
  S* out = static_cast<S*>(p.out);
  const T weight = static_cast<T>(p.weight);
  for (int64_t i = begin; i < end; ++i) {
    const T value = widen(x[i]);
    out[i] = narrow<S>(weight * value * value);
  }
}

template <class S>
PYDISENT_INLINE void slopes(const WeightedSquareParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  const S *x = static_cast<const S*>(p.x), *grad = static_cast<const S*>(p.grad);
  S* out = static_cast<S*>(p.out);
  const T weight = static_cast<T>(2 * p.weight);
  for (int64_t i = begin; i < end; ++i)
    out[i] = narrow<S>(weight * T(widen(x[i])) * T(widen(grad[i])));
}

#define PYDISENT_INSTANTIATE(S)                                                                 \
  template <int BYTES>                                                                          \
  PYDISENT_INLINE void squares_##S(const WeightedSquareParams& p, int64_t begin, int64_t end) { \
    squares<S>(p, begin, end);                                                                  \
  }                                                                                             \
  template <int BYTES>                                                                          \
  PYDISENT_INLINE void slopes_##S(const WeightedSquareParams& p, int64_t begin, int64_t end) {  \
    slopes<S>(p, begin, end);                                                                   \
  }                                                                                             \
  PYDISENT_MULTIVERSION(run_squares_##S, WeightedSquareParams, squares_##S)                     \
  PYDISENT_MULTIVERSION(run_slopes_##S, WeightedSquareParams, slopes_##S)

PYDISENT_INSTANTIATE(Half)
PYDISENT_INSTANTIATE(BFloat16)
PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void weighted_square_cpu(const WeightedSquareParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(squares)
}

void weighted_square_backward_cpu(const WeightedSquareParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(slopes)
}

}  // namespace pydisent
