#include "../include/constriction.h"

#include "common.h"

namespace pydisent {
namespace {

using Two = std::tuple<Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Least work per thread, in elements times steps.
constexpr int64_t kGrain = 1 << 15;
// Minimum number of work items, if there are enough channels: enough for a machine's threads.
constexpr int64_t kItems = 32;
// Bytes of a block, with two planes per channel, such that the L2 cache holds three blocks; and the
// maximum number of channels in a block. In a channels-last map a block covers whole cache lines of
// each pixel, at least two: adjacent lines are fetched together.
constexpr int64_t kBlockBytes = 1 << 18, kBlock = 16, kLastBlock = 64, kLine = 16;
// Up to this many codes, masks are cheap enough to reread that a block need not exceed the channels
// that share one read: the whole block then fits in the L1 cache.
constexpr int64_t kFewCodes = 2;

// Owns one call's operands in the kernel's layout, which the parameters point to.
struct Call {
  ConstrictionParams p{};
  Tensor x, masks, scales, shifts;
  std::vector<int64_t> sizes, strides;  // of x and of tensors laid out like it
  ScalarType narrow, wide;

  Call(const Tensor& x_, const Tensor& masks_, const Tensor& scales_, const Tensor& shifts_)
      : x(x_), masks(masks_), scales(scales_), shifts(shifts_), narrow(x_.scalar_type()) {
    STD_TORCH_CHECK(x.dim() == 4, "x must have shape (B, C, H, W)");
    STD_TORCH_CHECK(masks.dim() == 4, "masks must have shape (B, N, H, W)");
    sizes.assign(x.sizes().data(), x.sizes().data() + 4);
    p.batch = sizes[0], p.channels = sizes[1], p.pixels = sizes[2] * sizes[3];
    p.codes = masks.size(1);
    p.dtype = dtype_of(x, "x"), p.mask_type = dtype_of(masks, "masks");
    wide = compute_type(p.dtype == DType::f64);
    check_shape(masks, "masks", {sizes[0], p.codes, sizes[2], sizes[3]});
    check_like(masks, "masks", x, masks.scalar_type());
    set_layout();
    x = arrange(x);
    masks = in_order(masks);
    scales = style(scales, "scales"), shifts = style(shifts, "shifts");
    p.x = x.data_ptr(), p.masks = masks.data_ptr();
    p.scales = scales.data_ptr(), p.shifts = shifts.data_ptr();
    plan();
  }

  // Contiguous, unless x is channels-last but not contiguous.
  void set_layout() {
    strides = {sizes[1] * p.pixels, p.pixels, sizes[3], 1};
    const std::vector<int64_t> last = {sizes[1] * p.pixels, 1, sizes[3] * sizes[1], sizes[1]};
    p.channels_last = x.numel() > 0 && !fits(x, strides) && fits(x, last);
    if (p.channels_last) strides = last;
  }

  bool fits(const Tensor& t, const std::vector<int64_t>& wanted) const {
    for (int64_t d = 0; d < 4; ++d)
      if (sizes[d] > 1 && t.stride(d) != wanted[d]) return false;
    return true;
  }

  Tensor empty_map() const { return empty_strided(x, sizes, strides, x.scalar_type()); }

  // t itself if it has the kernel's layout of x, otherwise a copy that has.
  Tensor arrange(const Tensor& t) const {
    if (t.numel() == 0 || fits(t, strides)) return t;
    Tensor copy = empty_map();
    torch::stable::copy_(copy, t);
    return copy;
  }

  Tensor style(const Tensor& t, const char* name) const {
    check_shape(t, name, {p.batch, p.codes, p.channels});
    check_like(t, name, x, t.scalar_type());
    return in_order(in_dtype(t, wide));
  }

  Tensor statistics(const Tensor& t, const char* name) const {
    check_shape(t, name, {p.batch, 3, p.channels});
    check_like(t, name, x, wide);
    return in_order(t);
  }

  // Groups depend on the shapes alone, and fix the order in which channels are summed: results
  // depend neither on the number of threads nor on the layout.
  void plan() {
    p.padded = ceil_div(p.pixels, kConstrictionLanes) * kConstrictionLanes;
    const int64_t lines = ceil_div(p.channels, kLine);
    const int64_t wanted = ceil_div(kItems, std::max<int64_t>(p.batch, 1));
    p.group_channels = kLine * std::max<int64_t>(1, ceil_div(lines, wanted));
    p.groups = std::max<int64_t>(1, ceil_div(p.channels, p.group_channels));
    const int64_t plane = 2 * std::max<int64_t>(p.padded, 1) * (wide == ScalarType::Double ? 8 : 4);
    const int64_t fitting = kBlockBytes / plane / kConstrictionTogether * kConstrictionTogether;
    p.block = p.channels_last ? std::clamp(fitting / kLine * kLine, 2 * kLine, kLastBlock)
                              : std::clamp<int64_t>(fitting, kConstrictionTogether, kBlock);
    if (!p.channels_last && p.codes <= kFewCodes) p.block = kConstrictionTogether;
    p.block = std::min(p.block, p.group_channels);
  }

  template <class Kernel>
  void run(const Kernel& kernel) const {
    const int64_t work = p.group_channels * p.padded * (p.codes + 1);
    torch::stable::parallel_for(0, p.batch * p.groups, grain(work),
                                [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  }

  static int64_t grain(int64_t work) {
    return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work));
  }
};

Two forward_cpu(const Tensor x, const Tensor masks, const Tensor scales, const Tensor shifts,
                double eps) {
  Call call(x, masks, scales, shifts);
  call.p.eps = eps;
  Tensor out = call.empty_map();
  Tensor statistics = empty(x, {call.p.batch, 3, call.p.channels}, call.wide);
  call.p.out = out.data_ptr(), call.p.statistics = statistics.data_ptr();
  call.run(spatial_constriction_cpu);
  return {out, statistics};
}

Four backward_cpu(const Tensor grad_out, const Tensor grad_statistics, const Tensor x,
                  const Tensor masks, const Tensor scales, const Tensor shifts,
                  const Tensor statistics) {
  Call call(x, masks, scales, shifts);
  ConstrictionParams& p = call.p;
  check_shape(grad_out, "grad_out", call.sizes);
  check_like(grad_out, "grad_out", x, call.narrow);
  const Tensor grad = call.arrange(grad_out);
  const Tensor saved = call.statistics(statistics, "statistics");
  const Tensor on_statistics = call.statistics(grad_statistics, "grad_statistics");
  Tensor grad_x = call.empty_map();
  Tensor grad_masks = empty(masks, {p.batch, p.codes, x.size(2), x.size(3)}, masks.scalar_type());
  Tensor grad_scales = empty(x, {p.batch, p.codes, p.channels}, call.wide);
  Tensor grad_shifts = empty(x, {p.batch, p.codes, p.channels}, call.wide);
  Tensor partials = empty(x, {p.batch, p.groups, p.codes + 1, p.padded}, call.wide);
  p.grad_out = grad.data_ptr(), p.grad_statistics = on_statistics.data_ptr();
  p.statistics = saved.data_ptr(), p.partials = partials.data_ptr();
  p.out = grad_x.data_ptr(), p.grad_masks = grad_masks.data_ptr();
  p.grad_scales = grad_scales.data_ptr(), p.grad_shifts = grad_shifts.data_ptr();
  call.run(spatial_constriction_backward_cpu);
  torch::stable::parallel_for(
      0, p.batch, Call::grain(p.padded * (p.codes + 1) * p.groups),
      [&](int64_t begin, int64_t end) { spatial_constriction_masks_cpu(p, begin, end); });
  return {grad_x, grad_masks, in_dtype(grad_scales, scales.scalar_type()),
          in_dtype(grad_shifts, shifts.scalar_type())};
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("spatial_constriction", TORCH_BOX(&pydisent::forward_cpu));
  m.impl("spatial_constriction_backward", TORCH_BOX(&pydisent::backward_cpu));
}
