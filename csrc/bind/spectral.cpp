#include "../include/spectral.h"

#include "common.h"

namespace pydisent {
namespace {

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Least work per thread, in multiply-adds.
constexpr int64_t kGrain = 1 << 17;

int64_t samples_per_thread(int64_t work_of_a_sample) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work_of_a_sample));
}

void check_inputs(const Tensor& gram, const Tensor& probe, const Tensor& mask, int64_t iterations) {
  STD_TORCH_CHECK(gram.dim() == 3 && probe.dim() == 3,
                  "gram and probe must have shapes (B, m, m) and (B, m, k)");
  const int64_t batch = gram.size(0), m = gram.size(1), k = probe.size(2);
  check_shape(gram, "gram", {batch, m, m});
  check_shape(probe, "probe", {batch, m, k});
  check_shape(mask, "mask", {m, k});
  check_like(probe, "probe", gram, gram.scalar_type());
  check_like(mask, "mask", gram, gram.scalar_type());
  STD_TORCH_CHECK(iterations >= 1, "iterations must be an integer >= 1");
}

template <class Run>
Four power_iteration(const Tensor& gram, const Tensor& probe, const Tensor& mask,
                     int64_t iterations, double eps, const Run& run) {
  check_inputs(gram, probe, mask, iterations);
  const int64_t batch = gram.size(0), m = gram.size(1), k = probe.size(2);
  PowerIterationParams p{};
  p.dtype = dtype_of(gram, "gram");
  const ScalarType wide = compute_type(p.dtype == DType::f64), narrow = gram.scalar_type();
  Tensor vectors = empty(gram, {batch, m, k}, narrow), norms = empty(gram, {batch, k}, narrow);
  Tensor iterates = empty(gram, {batch, iterations + 1, k, m}, wide);
  Tensor iterate_norms = empty(gram, {batch, iterations, k}, wide);
  p.gram = gram.data_ptr(), p.probe = probe.data_ptr(), p.mask = mask.data_ptr();
  p.vectors = vectors.data_ptr(), p.norms = norms.data_ptr();
  p.iterates = iterates.data_ptr(), p.iterate_norms = iterate_norms.data_ptr();
  p.batch = batch, p.m = m, p.k = k, p.iterations = iterations, p.eps = eps;
  copy_strides(gram, p.gram_strides);
  copy_strides(probe, p.probe_strides);
  copy_strides(mask, p.mask_strides);
  if (batch > 0) run(p);
  return {vectors, norms, iterates, iterate_norms};
}

// The arguments shared by the adjoint's CPU and CUDA versions; allocates grad_probe.
PowerIterationBackwardParams backward_params(const Tensor& grad_vectors, const Tensor& grad_norms,
                                             const Tensor& gram, const Tensor& mask,
                                             const Tensor& iterates, const Tensor& iterate_norms,
                                             double eps, Tensor& grad_probe) {
  STD_TORCH_CHECK(iterate_norms.dim() == 3, "iterate_norms must have shape (B, T, k)");
  check_inputs(gram, grad_vectors, mask, iterate_norms.size(1));
  PowerIterationBackwardParams p{};
  p.dtype = dtype_of(gram, "gram");
  p.batch = gram.size(0), p.m = gram.size(1), p.k = mask.size(1);
  p.iterations = iterate_norms.size(1), p.eps = eps;
  const ScalarType wide = compute_type(p.dtype == DType::f64);
  check_shape(grad_norms, "grad_norms", {p.batch, p.k});
  check_shape(iterates, "iterates", {p.batch, p.iterations + 1, p.k, p.m});
  check_shape(iterate_norms, "iterate_norms", {p.batch, p.iterations, p.k});
  check_like(grad_norms, "grad_norms", gram, gram.scalar_type());
  check_like(iterates, "iterates", gram, wide);
  check_like(iterate_norms, "iterate_norms", gram, wide);
  grad_probe = empty(gram, {p.batch, p.m, p.k}, gram.scalar_type());
  p.grad_vectors = grad_vectors.data_ptr(), p.grad_norms = grad_norms.data_ptr();
  p.gram = gram.data_ptr(), p.mask = mask.data_ptr();
  p.iterates = iterates.data_ptr(), p.iterate_norms = iterate_norms.data_ptr();
  p.grad_probe = grad_probe.data_ptr();
  copy_strides(grad_vectors, p.grad_vectors_strides);
  copy_strides(grad_norms, p.grad_norms_strides);
  copy_strides(gram, p.gram_strides);
  copy_strides(mask, p.mask_strides);
  return p;
}

Four forward_cpu(const Tensor gram, const Tensor probe, const Tensor mask, int64_t iterations,
                 double eps) {
  return power_iteration(gram, probe, mask, iterations, eps, [](const PowerIterationParams& p) {
    const int64_t grain = samples_per_thread(p.m * p.m * (p.k * p.iterations + 1));
    torch::stable::parallel_for(0, p.batch, grain, [&](int64_t begin, int64_t end) {
      masked_power_iteration_cpu(p, begin, end);
    });
  });
}

std::tuple<Tensor, Tensor> backward_cpu(const Tensor grad_vectors, const Tensor grad_norms,
                                        const Tensor gram, const Tensor mask, const Tensor iterates,
                                        const Tensor iterate_norms, double eps) {
  const Tensor saved = in_order(iterates);
  const Tensor saved_norms = in_order(iterate_norms);
  Tensor grad_probe;
  auto p =
      backward_params(grad_vectors, grad_norms, gram, mask, saved, saved_norms, eps, grad_probe);
  Tensor grad_gram = empty(gram, {p.batch, p.m, p.m}, gram.scalar_type());
  p.grad_gram = grad_gram.data_ptr();
  const int64_t grain = samples_per_thread(2 * p.m * p.m * p.k * p.iterations);
  if (p.batch > 0)
    torch::stable::parallel_for(0, p.batch, grain, [&](int64_t begin, int64_t end) {
      masked_power_iteration_backward_cpu(p, begin, end);
    });
  return {grad_gram, grad_probe};
}

#ifdef PYDISENT_WITH_CUDA
Four forward_cuda(const Tensor gram, const Tensor probe, const Tensor mask, int64_t iterations,
                  double eps) {
  const torch::stable::accelerator::DeviceGuard guard(gram.get_device_index());
  return power_iteration(gram, probe, mask, iterations, eps, [&](const PowerIterationParams& p) {
    check_launch(masked_power_iteration_cuda(p, current_stream(gram)));
  });
}

std::tuple<Tensor, Tensor> backward_cuda(const Tensor grad_vectors, const Tensor grad_norms,
                                         const Tensor gram, const Tensor mask,
                                         const Tensor iterates, const Tensor iterate_norms,
                                         double eps) {
  const torch::stable::accelerator::DeviceGuard guard(gram.get_device_index());
  const Tensor saved = in_order(iterates);
  const Tensor saved_norms = in_order(iterate_norms);
  Tensor grad_probe;
  auto p =
      backward_params(grad_vectors, grad_norms, gram, mask, saved, saved_norms, eps, grad_probe);
  const int64_t depth = p.iterations * p.k;
  Tensor weights = empty(gram, {p.batch, depth, p.m}, saved.scalar_type());
  p.weights = weights.data_ptr();
  if (p.batch > 0) check_launch(masked_power_iteration_backward_cuda(p, current_stream(gram)));
  Tensor before = saved;  // V_0 ... V_{T-1}
  before = torch::stable::narrow(before, 1, 0, p.iterations);
  before = torch::stable::reshape(before, {p.batch, depth, p.m});
  Tensor grad_gram = torch::stable::matmul(torch::stable::transpose(weights, 1, 2), before);
  return {in_dtype(grad_gram, gram.scalar_type()), grad_probe};
}
#endif

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("masked_power_iteration", TORCH_BOX(&pydisent::forward_cpu));
  m.impl("masked_power_iteration_backward", TORCH_BOX(&pydisent::backward_cpu));
}

#ifdef PYDISENT_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(pydisent, CUDA, m) {
  m.impl("masked_power_iteration", TORCH_BOX(&pydisent::forward_cuda));
  m.impl("masked_power_iteration_backward", TORCH_BOX(&pydisent::backward_cuda));
}
#endif
