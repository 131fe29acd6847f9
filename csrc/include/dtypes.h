// Storage types of the kernels' arguments, independent of torch.
#pragma once

#include <cstdint>

namespace pydisent {

enum class DType : int { f16, bf16, f32, f64 };

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

}  // namespace pydisent
