#include "../include/toy.h"

#include "common.h"

namespace pydisent {
namespace {

// Work that pays for waking a thread, in elements.
constexpr int64_t kGrain = 1 << 15;

Tensor output_like(const Tensor& x) {
  return empty(x, {x.sizes().data(), x.sizes().data() + x.dim()}, x.scalar_type());
}

Tensor weighted_square(const Tensor x_, double weight) {
  const Tensor x = torch::stable::contiguous(x_);
  Tensor out = output_like(x);
  const WeightedSquareParams p{x.data_ptr(), nullptr, out.data_ptr(), weight, dtype_of(x, "x")};
  torch::stable::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    weighted_square_cpu(p, begin, end);
  });
  return out;
}

Tensor weighted_square_backward(const Tensor grad_, const Tensor x_, double weight) {
  check_like(grad_, "grad", x_, x_.scalar_type());
  const Tensor x = torch::stable::contiguous(x_), grad = torch::stable::contiguous(grad_);
  Tensor out = output_like(x);
  const WeightedSquareParams p{x.data_ptr(), grad.data_ptr(), out.data_ptr(), weight,
                               dtype_of(x, "x")};
  torch::stable::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    weighted_square_backward_cpu(p, begin, end);
  });
  return out;
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("weighted_square", TORCH_BOX(&pydisent::weighted_square));
  m.impl("weighted_square_backward", TORCH_BOX(&pydisent::weighted_square_backward));
}
