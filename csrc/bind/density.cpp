#include "../include/density.h"

#include <cmath>
#include <string>

#include "common.h"

namespace pydisent {
namespace {

using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

// Least work per thread, in exponentials.
constexpr int64_t kGrain = 1 << 14;
// Maximum number of work items of the backward, each with a (B, d) part of grad_z.
constexpr int64_t kChunks = 16;

int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

void set_weights(AggregatePosteriorParams& p, int64_t dataset_size, const std::string& estimator) {
  STD_TORCH_CHECK(dataset_size >= 1, "dataset_size must be an integer >= 1");
  const double count = static_cast<double>(dataset_size), others = static_cast<double>(p.batch - 1);
  if (estimator == "mws") {
    p.own_weight = p.following_weight = p.other_weight =
        -std::log(static_cast<double>(p.batch)) - std::log(count);
    return;
  }
  STD_TORCH_CHECK(estimator == "mss", "estimator must be one of 'mws', 'mss'");
  STD_TORCH_CHECK(dataset_size >= p.batch, "dataset_size must be at least the batch size");
  if (p.batch == 1) return;
  p.own_weight = -std::log(count);
  p.following_weight = std::log((count - others) / (count * others));
  p.other_weight = -std::log(others);
}

// Owns the inputs, in the dtype of the arithmetic, while the kernels run.
struct Inputs {
  Tensor z, mu, logvar, table;
  AggregatePosteriorParams p{};
  ScalarType wide;

  Inputs(const Tensor& from_z, const Tensor& from_mu, const Tensor& from_logvar,
         int64_t dataset_size, const std::string& estimator) {
    STD_TORCH_CHECK(from_z.dim() == 2, "z must have shape (B, d)");
    p.batch = from_z.size(0), p.d = from_z.size(1);
    p.is_double = dtype_of(from_z, "z") == DType::f64;
    wide = compute_type(p.is_double);
    for (const auto& [x, name] : {std::pair(&from_mu, "mu"), std::pair(&from_logvar, "logvar")}) {
      check_shape(*x, name, {p.batch, p.d});
      check_like(*x, name, from_z, from_z.scalar_type());
    }
    z = prepare(from_z), mu = prepare(from_mu), logvar = prepare(from_logvar);
    if (p.batch == 0) return;
    set_weights(p, dataset_size, estimator);
    p.z = z.data_ptr(), p.mu = mu.data_ptr(), p.logvar = logvar.data_ptr();
    p.padded = round_up(p.batch, kDensityLanes);
    p.chunk = std::max<int64_t>(128, round_up((p.batch + kChunks - 1) / kChunks, kDensityLanes));
    table = empty(z, {p.d, 3, p.padded}, wide);
    p.table = table.data_ptr();
    torch::stable::parallel_for(0, p.d, grain(p.batch), [&](int64_t begin, int64_t end) {
      aggregate_posterior_table_cpu(p, begin, end);
    });
  }

  Tensor prepare(const Tensor& x) const { return in_order(in_dtype(x, wide)); }

  static int64_t grain(int64_t work) {
    return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work));
  }
};

Two forward_cpu(const Tensor z, const Tensor mu, const Tensor logvar, int64_t dataset_size,
                std::string estimator) {
  Inputs inputs(z, mu, logvar, dataset_size, estimator);
  AggregatePosteriorParams& p = inputs.p;
  Tensor log_joint = empty(z, {p.batch}, inputs.wide);
  Tensor log_marginals = empty(z, {p.batch, p.d}, inputs.wide);
  p.log_joint = log_joint.data_ptr(), p.log_marginals = log_marginals.data_ptr();
  const int64_t blocks = (p.batch + kDensityRows - 1) / kDensityRows;
  const int64_t grain = Inputs::grain(kDensityRows * p.batch * (p.d + 1));
  if (blocks > 0)
    torch::stable::parallel_for(0, blocks, grain, [&](int64_t begin, int64_t end) {
      aggregate_posterior_cpu(p, begin, end);
    });
  return {log_joint, log_marginals};
}

Three backward_cpu(const Tensor grad_joint, const Tensor grad_marginals, const Tensor z,
                   const Tensor mu, const Tensor logvar, const Tensor log_joint,
                   const Tensor log_marginals, int64_t dataset_size, std::string estimator) {
  Inputs inputs(z, mu, logvar, dataset_size, estimator);
  AggregatePosteriorParams& p = inputs.p;
  const auto vector = [&](const Tensor& x, const char* name, bool is_joint) {
    is_joint ? check_shape(x, name, {p.batch}) : check_shape(x, name, {p.batch, p.d});
    check_like(x, name, z, inputs.wide);
    return in_order(x);
  };
  const Tensor on_joint = vector(grad_joint, "grad_joint", true);
  const Tensor on_marginals = vector(grad_marginals, "grad_marginals", false);
  const Tensor joint = vector(log_joint, "log_joint", true);
  const Tensor marginals = vector(log_marginals, "log_marginals", false);
  Tensor grad_z = empty(z, {p.batch, p.d}, inputs.wide);
  Tensor grad_mu = empty(z, {p.batch, p.d}, inputs.wide);
  Tensor grad_logvar = empty(z, {p.batch, p.d}, inputs.wide);
  if (p.batch > 0) {
    const int64_t chunks = (p.batch + p.chunk - 1) / p.chunk;
    Tensor partials = empty(z, {chunks, p.batch, p.d}, inputs.wide);
    p.grad_joint = on_joint.data_ptr(), p.grad_marginals = on_marginals.data_ptr();
    p.log_joint = joint.data_ptr(), p.log_marginals = marginals.data_ptr();
    p.partials = partials.data_ptr(), p.grad_z = grad_z.data_ptr();
    p.grad_mu = grad_mu.data_ptr(), p.grad_logvar = grad_logvar.data_ptr();
    const int64_t work = p.chunk * p.batch * (p.d + 1);
    torch::stable::parallel_for(0, chunks, Inputs::grain(work), [&](int64_t begin, int64_t end) {
      aggregate_posterior_backward_cpu(p, begin, end);
    });
    torch::stable::parallel_for(
        0, p.batch, Inputs::grain(chunks * p.d),
        [&](int64_t begin, int64_t end) { aggregate_posterior_sum_cpu(p, begin, end); });
  }
  const ScalarType narrow = z.scalar_type();
  return {in_dtype(grad_z, narrow), in_dtype(grad_mu, narrow), in_dtype(grad_logvar, narrow)};
}

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("aggregate_posterior", TORCH_BOX(&pydisent::forward_cpu));
  m.impl("aggregate_posterior_backward", TORCH_BOX(&pydisent::backward_cpu));
}
