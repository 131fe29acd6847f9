#include "../include/doubling.h"

#include "common.h"

namespace pydisent {
namespace {

// Least work per thread, in products.
constexpr int64_t kGrain = 1 << 17;

Tensor channels_last(const Tensor& x) {
  const std::vector<int64_t> sizes = {x.size(0), x.size(1), x.size(2), x.size(3)};
  const std::vector<int64_t> strides = {sizes[1] * sizes[2] * sizes[3], 1, sizes[3] * sizes[1],
                                        sizes[1]};
  bool fits = true;
  for (int64_t d = 0; d < 4; ++d) fits &= sizes[d] == 1 || x.stride(d) == strides[d];
  if (fits || x.numel() == 0) return x;
  Tensor copy = empty_strided(x, sizes, strides, x.scalar_type());
  torch::stable::copy_(copy, x);
  return copy;
}

Tensor doubling_convolution(const Tensor x, const Tensor weight) {
  DoublingParams p{};
  p.dtype = dtype_of(x, "x");
  STD_TORCH_CHECK(x.dim() == 4 && weight.dim() == 4, "x, weight must have shapes (B, C, H, W) and ",
                  "(C, D, 4, 4)");
  p.batch = x.size(0), p.channels = x.size(1), p.height = x.size(2), p.width = x.size(3);
  p.outputs = weight.size(1);
  check_shape(weight, "weight", {p.channels, p.outputs, 4, 4});
  check_like(weight, "weight", x, x.scalar_type());
  const Tensor last = channels_last(x);
  Tensor out = empty(x, {p.batch, p.outputs, 2 * p.height, 2 * p.width}, x.scalar_type());
  p.x = last.data_ptr(), p.weight = weight.data_ptr(), p.out = out.data_ptr();
  copy_strides(weight, p.weight_strides);
  const int64_t work = std::max<int64_t>(1, 16 * p.outputs * p.height * p.width * p.channels);
  if (out.numel() > 0)
    torch::stable::parallel_for(
        0, p.batch, ceil_div(kGrain, work),
        [&](int64_t begin, int64_t end) { doubling_convolution_cpu(p, begin, end); });
  return out;
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("doubling_convolution", TORCH_BOX(&pydisent::doubling_convolution));
}
