// w x², and its adjoint 2 w x g. S is the storage type.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

struct WeightedSquareParams {
  const void* x;     // count of S, contiguous
  const void* grad;  // likewise, of the adjoint
  void* out;         // likewise
  double weight;
  DType dtype;
};

// Elements [begin, end) on the calling thread.
void weighted_square_cpu(const WeightedSquareParams& p, int64_t begin, int64_t end);
void weighted_square_backward_cpu(const WeightedSquareParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
