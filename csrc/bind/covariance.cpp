#include "../include/covariance.h"

#include <optional>

#include "common.h"

namespace pydisent {
namespace {

using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Least work per thread, in multiply-adds.
constexpr int64_t kGrain = 1 << 18;

int64_t items_per_thread(int64_t work_of_an_item) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work_of_an_item));
}

Samples samples_of(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.dim() == 2, name, " must have shape (B, d)");
  Samples samples{x.data_ptr(), x.size(1), {}};
  copy_strides(x, samples.strides);
  return samples;
}

Samples samples_of(const std::optional<Tensor>& x, const char* name, const Tensor& like) {
  if (!x) return {};
  check_shape(*x, name, {like.size(0), like.size(1)});
  check_like(*x, name, like, like.scalar_type());
  return samples_of(*x, name);
}

// Fills the outputs of p, and returns the sums of squares off and on the diagonal.
std::pair<double, double> run_covariance(CovarianceParams& p) {
  const int64_t d = p.right.columns, tiles = ceil_div(d, kCovarianceTile);
  std::vector<double> sums(2 * tiles);
  p.sums = sums.data();
  const int64_t work = p.batch * p.left.columns * std::min(d, kCovarianceTile);
  torch::stable::parallel_for(0, tiles, items_per_thread(work),
                              [&](int64_t begin, int64_t end) { covariance_cpu(p, begin, end); });
  std::pair<double, double> total(0, 0);
  for (int64_t i = 0; i < tiles; ++i) total.first += sums[2 * i], total.second += sums[2 * i + 1];
  return total;
}

void run_adjoint(CovarianceAdjointParams& p) {
  const int64_t tiles = ceil_div(p.columns, kAdjointTile);
  const int64_t items = ceil_div(p.batch, kAdjointRows) * tiles;
  const int64_t work = kAdjointRows * p.samples.columns * std::min(p.columns, kAdjointTile);
  if (items > 0)
    torch::stable::parallel_for(0, items, items_per_thread(work), [&](int64_t begin, int64_t end) {
      covariance_adjoint_cpu(p, begin, end);
    });
}

Three covariance_penalty(const Tensor mu, const std::optional<Tensor> logvar, double lambda_od,
                         double lambda_d) {
  CovarianceParams p{};
  p.dtype = dtype_of(mu, "mu");
  p.left = p.right = samples_of(mu, "mu");
  p.logvar = samples_of(logvar, "logvar", mu);
  p.batch = mu.size(0), p.symmetric = true;
  const int64_t d = mu.size(1);
  const ScalarType wide = compute_type(p.dtype == DType::f64);
  Tensor penalty = empty(mu, {}, wide), means = empty(mu, {2, d}, wide);
  Tensor covariance = empty(mu, {d, d}, wide);
  p.means = means.data_ptr(), p.covariance = covariance.data_ptr();
  const auto [off, on] = run_covariance(p);
  store_scalar(penalty, lambda_od * off + lambda_d * on);
  return {penalty, means, covariance};
}

Two covariance_penalty_backward(const Tensor grad, const Tensor mu,
                                const std::optional<Tensor> logvar, const Tensor means,
                                const Tensor covariance, double lambda_od, double lambda_d) {
  CovarianceAdjointParams p{};
  p.dtype = dtype_of(mu, "mu");
  p.samples = samples_of(mu, "mu");
  p.logvar = samples_of(logvar, "logvar", mu);
  const int64_t d = mu.size(1);
  const ScalarType wide = compute_type(p.dtype == DType::f64);
  check_like(grad, "grad", mu, wide);
  check_like(means, "means", mu, wide);
  check_like(covariance, "covariance", mu, wide);
  check_shape(means, "means", {2, d});
  check_shape(covariance, "covariance", {d, d});
  const Tensor saved_means = in_order(means);
  Tensor grad_mu = empty(mu, {mu.size(0), d}, mu.scalar_type());
  Tensor grad_logvar =
      logvar ? empty(mu, {mu.size(0), d}, mu.scalar_type()) : empty(mu, {0}, mu.scalar_type());
  p.means = saved_means.data_ptr(), p.covariance = covariance.data_ptr();
  copy_strides(covariance, p.covariance_strides);
  p.out = grad_mu.data_ptr(), p.grad_logvar = logvar ? grad_logvar.data_ptr() : nullptr;
  p.batch = mu.size(0), p.columns = d, p.symmetric = true;
  p.lambda_od = lambda_od, p.lambda_d = lambda_d;
  p.scale = 4 * scalar_of(grad, "grad") / std::max<int64_t>(p.batch, 1);
  run_adjoint(p);
  return {grad_mu, grad_logvar};
}

Four cross_covariance_penalty(const Tensor y, const Tensor z) {
  CovarianceParams p{};
  p.dtype = dtype_of(y, "y");
  p.left = samples_of(y, "y"), p.right = samples_of(z, "z");
  check_like(z, "z", y, y.scalar_type());
  check_shape(z, "z", {y.size(0), z.size(1)});
  p.batch = y.size(0);
  const int64_t k = y.size(1), d = z.size(1);
  const ScalarType wide = compute_type(p.dtype == DType::f64);
  Tensor penalty = empty(y, {}, wide), covariance = empty(y, {k, d}, wide);
  Tensor y_means = empty(y, {2, k}, wide), z_means = empty(y, {2, d}, wide);
  p.left_means = y_means.data_ptr(), p.means = z_means.data_ptr();
  p.covariance = covariance.data_ptr();
  store_scalar(penalty, run_covariance(p).first);
  return {penalty, y_means, z_means, covariance};
}

// Gradient of one operand: the other one, centred, times the covariance or its transpose.
Tensor cross_gradient(const Tensor& other, const Tensor& means, const Tensor& covariance,
                      bool transposed, double scale) {
  CovarianceAdjointParams p{};
  p.dtype = dtype_of(other, "y");
  p.samples = samples_of(other, "y");
  p.batch = other.size(0), p.columns = covariance.size(transposed ? 0 : 1), p.scale = scale;
  p.means = means.data_ptr(), p.covariance = covariance.data_ptr();
  copy_strides(covariance, p.covariance_strides);
  if (transposed) std::swap(p.covariance_strides[0], p.covariance_strides[1]);
  Tensor out = empty(other, {p.batch, p.columns}, other.scalar_type());
  p.out = out.data_ptr();
  run_adjoint(p);
  return out;
}

Two cross_covariance_penalty_backward(const Tensor grad, const Tensor y, const Tensor z,
                                      const Tensor y_means, const Tensor z_means,
                                      const Tensor covariance) {
  STD_TORCH_CHECK(y.dim() == 2 && z.dim() == 2, "y and z must have shapes (B, k) and (B, d)");
  const ScalarType wide = compute_type(dtype_of(y, "y") == DType::f64);
  check_shape(z, "z", {y.size(0), z.size(1)});
  check_shape(y_means, "y_means", {2, y.size(1)});
  check_shape(z_means, "z_means", {2, z.size(1)});
  check_shape(covariance, "covariance", {y.size(1), z.size(1)});
  check_like(z, "z", y, y.scalar_type());
  for (const Tensor* x : {&grad, &y_means, &z_means, &covariance})
    check_like(*x, "grad, y_means, z_means, covariance", y, wide);
  const double scale = 2 * scalar_of(grad, "grad") / std::max<int64_t>(y.size(0), 1);
  const Tensor left = in_order(y_means), right = in_order(z_means);
  return {cross_gradient(z, right, covariance, true, scale),
          cross_gradient(y, left, covariance, false, scale)};
}

Two third_central_moment_penalty(const Tensor z, const std::optional<Tensor> logvar) {
  ThirdMomentParams p{};
  p.dtype = dtype_of(z, "z");
  p.samples = samples_of(z, "z");
  p.logvar = samples_of(logvar, "logvar", z);
  p.batch = z.size(0);
  const int64_t d = z.size(1);
  const bool is_double = p.dtype == DType::f64;
  Tensor penalty = empty(z, {}, compute_type(is_double));
  Tensor moments = empty(z, {4, d}, compute_type(is_double));
  p.moments = moments.data_ptr();
  torch::stable::parallel_for(0, ceil_div(d, kCovarianceTile),
                              items_per_thread(16 * p.batch * kCovarianceTile),
                              [&](int64_t begin, int64_t end) { third_moment_cpu(p, begin, end); });
  double total = 0;
  for (int64_t i = 3 * d; i < 4 * d; ++i) {
    const double third = is_double ? static_cast<const double*>(p.moments)[i]
                                   : static_cast<const float*>(p.moments)[i];
    total += third * third;
  }
  store_scalar(penalty, total);
  return {penalty, moments};
}

Two third_central_moment_penalty_backward(const Tensor grad, const Tensor z,
                                          const std::optional<Tensor> logvar,
                                          const Tensor moments) {
  ThirdMomentParams p{};
  p.dtype = dtype_of(z, "z");
  p.samples = samples_of(z, "z");
  p.logvar = samples_of(logvar, "logvar", z);
  p.batch = z.size(0);
  const int64_t d = z.size(1);
  const ScalarType wide = compute_type(p.dtype == DType::f64);
  check_shape(moments, "moments", {4, d});
  check_like(moments, "moments", z, wide);
  check_like(grad, "grad", z, wide);
  const Tensor saved = in_order(moments);
  Tensor grad_z = empty(z, {p.batch, d}, z.scalar_type());
  Tensor grad_logvar =
      logvar ? empty(z, {p.batch, d}, z.scalar_type()) : empty(z, {0}, z.scalar_type());
  p.moments = saved.data_ptr(), p.out = grad_z.data_ptr();
  p.grad_logvar = grad_logvar.data_ptr();
  p.scale = 6 * scalar_of(grad, "grad") / std::max<int64_t>(p.batch, 1);
  if (p.batch > 0)
    torch::stable::parallel_for(
        0, ceil_div(p.batch, kAdjointRows), items_per_thread(16 * d * kAdjointRows),
        [&](int64_t begin, int64_t end) { third_moment_adjoint_cpu(p, begin, end); });
  return {grad_z, grad_logvar};
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("covariance_penalty", TORCH_BOX(&pydisent::covariance_penalty));
  m.impl("covariance_penalty_backward", TORCH_BOX(&pydisent::covariance_penalty_backward));
  m.impl("cross_covariance_penalty", TORCH_BOX(&pydisent::cross_covariance_penalty));
  m.impl("cross_covariance_penalty_backward",
         TORCH_BOX(&pydisent::cross_covariance_penalty_backward));
  m.impl("third_central_moment_penalty", TORCH_BOX(&pydisent::third_central_moment_penalty));
  m.impl("third_central_moment_penalty_backward",
         TORCH_BOX(&pydisent::third_central_moment_penalty_backward));
}
