#ifdef PYDISENT_WITH_CUDA
#include <cuda_runtime.h>
#include <torch/csrc/stable/macros.h>

#include <string>

#include "common.h"

namespace pydisent {

void check_launch(int error) { STD_CUDA_CHECK(static_cast<cudaError_t>(error)); }

}  // namespace pydisent
#endif
