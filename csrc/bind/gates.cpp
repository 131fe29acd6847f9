#include "../include/gates.h"

#include "common.h"

namespace pydisent {
namespace {

using Two = std::tuple<Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Least work per thread, in elements.
constexpr int64_t kGrain = 1 << 13;

// (M, J, L) strides of (M, L) or (M, J, L) logits
void set_strides(const Tensor& x, int64_t* strides) {
  strides[0] = x.stride(0), strides[1] = x.dim() == 3 ? x.stride(1) : 0;
  strides[2] = x.stride(x.dim() - 1);
}

// One call's operands: (M, L) gates, or (M, J, L) gates of the masks' sides.
struct GatesCall {
  GatesParams p{};
  const Tensor& like;
  int sides = 0;

  explicit GatesCall(const Tensor& rise, int64_t dims) : like(rise) {
    p.dtype = dtype_of(rise, "logits");
    STD_TORCH_CHECK(rise.dim() == dims, "logits must have shape (M, L), or (M, J, L) for masks");
    p.masks = rise.size(0), p.rectangles = dims == 3 ? rise.size(1) : 1;
    STD_TORCH_CHECK(p.rectangles >= 1, "logits must have J >= 1");
  }

  std::vector<int64_t> shape(const Tensor& x) const {
    if (like.dim() == 2) return {p.masks, x.size(1)};
    return {p.masks, p.rectangles, x.size(x.dim() - 1)};
  }

  void add_side(const Tensor& rise, const Tensor* fall) {
    check_like(rise, "logits", like, like.scalar_type());
    check_shape(rise, "logits", shape(rise));
    GateLogits& side = p.sides[sides++];
    side.length = rise.size(rise.dim() - 1);
    STD_TORCH_CHECK(side.length >= 1, "logits must have L >= 1");
    side.rise = rise.data_ptr();
    set_strides(rise, side.rise_strides);
    if (!fall) return;
    check_like(*fall, "logits", like, like.scalar_type());
    check_shape(*fall, "logits", shape(rise));
    side.fall = fall->data_ptr();
    set_strides(*fall, side.fall_strides);
  }

  void set_grad(const Tensor& grad) {
    check_like(grad, "grad", like, like.scalar_type());
    if (sides == 1)
      check_shape(grad, "grad", {p.masks, p.sides[0].length});
    else
      check_shape(grad, "grad", {p.masks, p.sides[0].length, p.sides[1].length});
    p.grad = grad.data_ptr();
    set_strides(grad, p.grad_strides);
  }

  Tensor gradient(const Tensor& x, void*& pointer) const {
    Tensor made = empty(like, shape(x), like.scalar_type());
    pointer = made.data_ptr();
    return made;
  }

  template <class Kernel>
  void run(const Kernel& kernel) const {
    const int64_t masks = sides == 1 ? kGateRows : masks_per_item(p.rectangles);
    const int64_t area = sides == 1 ? p.sides[0].length : p.sides[0].length * p.sides[1].length;
    if (p.masks > 0)
      torch::stable::parallel_for(0, ceil_div(p.masks, masks),
                                  std::max<int64_t>(1, kGrain / (masks * area)),
                                  [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  }
};

Tensor rows_forward(const Tensor& rise, const Tensor* fall) {
  GatesCall call(rise, 2);
  call.add_side(rise, fall);
  Tensor out = call.gradient(rise, call.p.out);
  call.run(band_gate_cpu);
  return out;
}

Tensor cumax(const Tensor logits) { return rows_forward(logits, nullptr); }

Tensor band_gate(const Tensor rise, const Tensor fall) { return rows_forward(rise, &fall); }

Tensor cumax_backward(const Tensor grad, const Tensor logits) {
  GatesCall call(logits, 2);
  call.add_side(logits, nullptr);
  call.set_grad(grad);
  Tensor result = call.gradient(logits, call.p.sides[0].grad_rise);
  call.run(band_gate_backward_cpu);
  return result;
}

Two band_gate_backward(const Tensor grad, const Tensor rise, const Tensor fall) {
  GatesCall call(rise, 2);
  call.add_side(rise, &fall);
  call.set_grad(grad);
  Tensor grad_rise = call.gradient(rise, call.p.sides[0].grad_rise);
  Tensor grad_fall = call.gradient(rise, call.p.sides[0].grad_fall);
  call.run(band_gate_backward_cpu);
  return {grad_rise, grad_fall};
}

Tensor band_mask(const Tensor rise_h, const Tensor fall_h, const Tensor rise_w,
                 const Tensor fall_w) {
  GatesCall call(rise_h, 3);
  call.add_side(rise_h, &fall_h);
  call.add_side(rise_w, &fall_w);
  Tensor out = empty(rise_h, {call.p.masks, call.p.sides[0].length, call.p.sides[1].length},
                     rise_h.scalar_type());
  call.p.out = out.data_ptr();
  call.run(band_mask_cpu);
  return out;
}

Four band_mask_backward(const Tensor grad, const Tensor rise_h, const Tensor fall_h,
                        const Tensor rise_w, const Tensor fall_w) {
  GatesCall call(rise_h, 3);
  call.add_side(rise_h, &fall_h);
  call.add_side(rise_w, &fall_w);
  call.set_grad(grad);
  Tensor grad_rise_h = call.gradient(rise_h, call.p.sides[0].grad_rise);
  Tensor grad_fall_h = call.gradient(rise_h, call.p.sides[0].grad_fall);
  Tensor grad_rise_w = call.gradient(rise_w, call.p.sides[1].grad_rise);
  Tensor grad_fall_w = call.gradient(rise_w, call.p.sides[1].grad_fall);
  call.run(band_mask_backward_cpu);
  return {grad_rise_h, grad_fall_h, grad_rise_w, grad_fall_w};
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("cumax", TORCH_BOX(&pydisent::cumax));
  m.impl("cumax_backward", TORCH_BOX(&pydisent::cumax_backward));
  m.impl("band_gate", TORCH_BOX(&pydisent::band_gate));
  m.impl("band_gate_backward", TORCH_BOX(&pydisent::band_gate_backward));
  m.impl("band_mask", TORCH_BOX(&pydisent::band_mask));
  m.impl("band_mask_backward", TORCH_BOX(&pydisent::band_mask_backward));
}
