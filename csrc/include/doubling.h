// The 4×4 transposed convolution of stride 2 and padding 1 to few channels. S is the storage type.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace pydisent {

struct DoublingParams {
  const void* x;       // (B, H, W, C) contiguous of S
  const void* weight;  // (C, D, 4, 4) of S, strides weight_strides
  void* out;           // (B, D, 2H, 2W) contiguous of S
  int64_t batch, channels, outputs, height, width;
  int64_t weight_strides[4];
  DType dtype;
};

// Runs samples [begin, end) on the calling thread.
void doubling_convolution_cpu(const DoublingParams& p, int64_t begin, int64_t end);

}  // namespace pydisent
