// What the bindings of CUDA's kernels need beside those kernels.
#include <cstdlib>

#include "../../../csrc/include/spectral.h"
#include "../../../csrc/include/tangent.h"
#include "cuda_runtime.h"

int cuda_launches() { return cuda_on_cpu::launches; }

extern "C" int aoti_torch_get_current_cuda_stream(int, void** stream) {
  *stream = nullptr;
  return 0;
}

namespace pydisent {

void check_launch(int error) {
  if (error) std::abort();
}

// The CPU's kernels are not to be reached.
void activation_tangent_cpu(const ActivationTangentParams&, int64_t, int64_t) { std::abort(); }
void activation_tangent_backward_cpu(const ActivationTangentParams&, int64_t, int64_t) {
  std::abort();
}
void activation_tangent_leak_cpu(const ActivationTangentParams&) { std::abort(); }
void masked_power_iteration_cpu(const PowerIterationParams&, int64_t, int64_t) { std::abort(); }
void masked_power_iteration_backward_cpu(const PowerIterationBackwardParams&, int64_t, int64_t) {
  std::abort();
}

}  // namespace pydisent
