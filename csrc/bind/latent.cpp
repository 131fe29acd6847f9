#include "../include/latent.h"

#include "common.h"

namespace pydisent {
namespace {

using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Least work per thread, in elements.
constexpr int64_t kGrain = 1 << 14;

std::vector<int64_t> sizes_of(const Tensor& x) {
  return {x.sizes().data(), x.sizes().data() + x.dim()};
}

// One call's operands, shaped as mu: strided matrices, or contiguous copies of anything else.
struct GaussianCall {
  GaussianParams p{};
  const Tensor& mu;
  std::vector<int64_t> sizes;
  std::vector<Tensor> copies;
  ScalarType narrow, wide;

  explicit GaussianCall(const Tensor& mu_) : mu(mu_), sizes(sizes_of(mu_)) {
    p.dtype = dtype_of(mu, "mu");
    p.count = mu.numel();
    narrow = mu.scalar_type(), wide = compute_type(p.dtype == DType::f64);
    copies.reserve(5);
    p.mu = operand(mu, "mu", narrow);
  }

  Strided operand(const Tensor& x, const char* name, ScalarType dtype) {
    check_like(x, name, mu, dtype);
    check_shape(x, name, sizes);
    if (x.dim() == 2) return {x.data_ptr(), x.size(1), x.stride(0), x.stride(1)};
    copies.push_back(in_order(x));
    const int64_t columns = std::max<int64_t>(p.count, 1);
    return {copies.back().data_ptr(), columns, columns, 1};
  }

  Tensor output(ScalarType dtype, void*& pointer) {
    Tensor made = empty(mu, sizes, dtype);
    pointer = made.data_ptr();
    return made;
  }

  template <class Kernel>
  void run(const Kernel& kernel) {
    if (p.count > 0)
      torch::stable::parallel_for(0, ceil_div(p.count, kLatentChunk), kGrain / kLatentChunk,
                                  [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  }
};

Tensor gaussian_kl(const Tensor mu, const Tensor logvar) {
  GaussianCall call(mu);
  call.p.logvar = call.operand(logvar, "logvar", call.narrow);
  Tensor kl = call.output(call.wide, call.p.kl);
  call.run(gaussian_cpu);
  return kl;
}

Two gaussian_kl_backward(const Tensor grad_kl, const Tensor mu, const Tensor logvar) {
  GaussianCall call(mu);
  call.p.logvar = call.operand(logvar, "logvar", call.narrow);
  call.p.grad_kl = call.operand(grad_kl, "grad_kl", call.wide);
  Tensor grad_mu = call.output(call.narrow, call.p.grad_mu);
  Tensor grad_logvar = call.output(call.narrow, call.p.grad_logvar);
  call.run(gaussian_backward_cpu);
  return {grad_mu, grad_logvar};
}

Two reparameterized_sample(const Tensor mu, const Tensor logvar, const Tensor noise) {
  GaussianCall call(mu);
  call.p.logvar = call.operand(logvar, "logvar", call.narrow);
  call.p.noise = call.operand(noise, "noise", call.narrow);
  Tensor z = call.output(call.narrow, call.p.z), kl = call.output(call.wide, call.p.kl);
  call.run(gaussian_cpu);
  return {z, kl};
}

Three reparameterized_sample_backward(const Tensor grad_z, const Tensor grad_kl, const Tensor mu,
                                      const Tensor logvar, const Tensor noise) {
  GaussianCall call(mu);
  call.p.logvar = call.operand(logvar, "logvar", call.narrow);
  call.p.noise = call.operand(noise, "noise", call.narrow);
  call.p.grad_z = call.operand(grad_z, "grad_z", call.narrow);
  call.p.grad_kl = call.operand(grad_kl, "grad_kl", call.wide);
  Tensor grad_mu = call.output(call.narrow, call.p.grad_mu);
  Tensor grad_logvar = call.output(call.narrow, call.p.grad_logvar);
  Tensor grad_noise = call.output(call.narrow, call.p.grad_noise);
  call.run(gaussian_backward_cpu);
  return {grad_mu, grad_logvar, grad_noise};
}

SimplicityParams simplicity_params(const Tensor& codes_a, const Tensor& codes_b,
                                   const Tensor& target_a, const Tensor& target_b,
                                   const Tensor& dimension) {
  SimplicityParams p{};
  p.dtype = dtype_of(codes_a, "codes_a");
  STD_TORCH_CHECK(codes_a.dim() == 2, "codes_a must have shape (B, d)");
  p.batch = codes_a.size(0), p.columns = codes_a.size(1);
  const Tensor* codes[2] = {&codes_a, &codes_b};
  const Tensor* targets[2] = {&target_a, &target_b};
  for (int i = 0; i < 2; ++i) {
    for (const Tensor* x : {codes[i], targets[i]}) {
      check_shape(*x, "codes and targets", {p.batch, p.columns});
      check_like(*x, "codes and targets", codes_a, codes_a.scalar_type());
    }
    p.codes[i] = codes[i]->data_ptr(), p.targets[i] = targets[i]->data_ptr();
    copy_strides(*codes[i], p.code_strides[i]);
    copy_strides(*targets[i], p.target_strides[i]);
  }
  check_shape(dimension, "dimension", {p.batch});
  check_like(dimension, "dimension", codes_a, ScalarType::Long);
  p.dimension = static_cast<const int64_t*>(dimension.data_ptr());
  p.dimension_stride = dimension.stride(0);
  return p;
}

template <class Kernel>
void run_rows(const SimplicityParams& p, const Kernel& kernel) {
  const int64_t work = kSimplicityRows * std::max<int64_t>(p.columns, 1);
  if (p.batch > 0)
    torch::stable::parallel_for(0, ceil_div(p.batch, kSimplicityRows),
                                std::max<int64_t>(1, kGrain / work),
                                [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
}

Tensor perceptual_simplicity_loss(const Tensor codes_a, const Tensor codes_b, const Tensor target_a,
                                  const Tensor target_b, const Tensor dimension, double weight) {
  SimplicityParams p = simplicity_params(codes_a, codes_b, target_a, target_b, dimension);
  std::vector<double> sums(ceil_div(p.batch, kSimplicityRows));
  p.sums = sums.data();
  run_rows(p, perceptual_simplicity_cpu);
  double total = 0;
  for (double sum : sums) total += sum;
  Tensor loss = empty(codes_a, {}, compute_type(p.dtype == DType::f64));
  store_scalar(loss, total * (weight / std::max<int64_t>(p.batch, 1)));
  return loss;
}

Four perceptual_simplicity_loss_backward(const Tensor grad, const Tensor codes_a,
                                         const Tensor codes_b, const Tensor target_a,
                                         const Tensor target_b, const Tensor dimension,
                                         double weight) {
  SimplicityParams p = simplicity_params(codes_a, codes_b, target_a, target_b, dimension);
  check_like(grad, "grad", codes_a, compute_type(p.dtype == DType::f64));
  p.scale = scalar_of(grad, "grad") * (2 * weight / std::max<int64_t>(p.batch, 1));
  Tensor made[4];
  void** pointers[4] = {&p.grad_codes[0], &p.grad_codes[1], &p.grad_targets[0], &p.grad_targets[1]};
  for (int i = 0; i < 4; ++i) {
    made[i] = empty(codes_a, {p.batch, p.columns}, codes_a.scalar_type());
    *pointers[i] = made[i].data_ptr();
  }
  run_rows(p, perceptual_simplicity_backward_cpu);
  return {made[0], made[1], made[2], made[3]};
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("gaussian_kl", TORCH_BOX(&pydisent::gaussian_kl));
  m.impl("gaussian_kl_backward", TORCH_BOX(&pydisent::gaussian_kl_backward));
  m.impl("reparameterized_sample", TORCH_BOX(&pydisent::reparameterized_sample));
  m.impl("reparameterized_sample_backward", TORCH_BOX(&pydisent::reparameterized_sample_backward));
  m.impl("perceptual_simplicity_loss", TORCH_BOX(&pydisent::perceptual_simplicity_loss));
  m.impl("perceptual_simplicity_loss_backward",
         TORCH_BOX(&pydisent::perceptual_simplicity_loss_backward));
}
