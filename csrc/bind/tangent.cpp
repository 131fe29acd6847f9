#include "../include/tangent.h"

#include <array>
#include <numeric>
#include <optional>
#include <string>

#include "common.h"

namespace pydisent {
namespace {

// Least work per thread, in elements.
constexpr int64_t kGrain = 1 << 15;
constexpr int64_t kPositionsPerBlock = 1024, kMostChunks = 256;

Activation activation_of(const std::string& kind) {
  constexpr std::array<const char*, 8> names = {"relu", "leaky_relu", "prelu", "translated_prelu",
                                                "tanh", "sigmoid",    "silu",  "softplus"};
  for (size_t i = 0; i < names.size(); ++i)
    if (kind == names[i]) return static_cast<Activation>(i);
  STD_TORCH_CHECK(false, "kind must be a name of pydisent.ops.tangent, got ", kind);
}

// Whether the strides are dense and without overlap, in some order of dimensions.
bool is_dense(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return strides[a] < strides[b]; });
  int64_t expected = 1;
  for (size_t d : order) {
    if (sizes[d] == 1) continue;
    if (strides[d] != expected) return false;
    expected *= sizes[d];
  }
  return true;
}

// The memory order shared by the kernel's operands.
struct Layout {
  std::vector<int64_t> sizes, strides;  // of h and of each tangent
  int64_t positions = 1;

  Layout(const Tensor& h, const Tensor& tangents) {
    sizes.assign(h.sizes().data(), h.sizes().data() + h.dim());
    strides.assign(tangents.strides().data() + 1, tangents.strides().data() + 1 + h.dim());
    for (int64_t size : sizes) positions *= size;
    if (!is_dense(sizes, strides)) strides = contiguous_strides(sizes);
  }

  // Whether the last dimensions of x have this layout; strides of size-one dimensions are ignored.
  bool fits(const Tensor& x) const {
    const int64_t skip = x.dim() - static_cast<int64_t>(sizes.size());
    for (size_t d = 0; d < sizes.size(); ++d)
      if (sizes[d] > 1 && x.stride(skip + d) != strides[d]) return false;
    return true;
  }

  // Uninitialised tensor like x in this layout.
  Tensor empty_for(const Tensor& x) const {
    std::vector<int64_t> full_sizes = sizes, full_strides = strides;
    if (x.dim() > static_cast<int64_t>(sizes.size())) {
      full_sizes.insert(full_sizes.begin(), x.size(0));
      full_strides.insert(full_strides.begin(), positions);
    }
    return empty_strided(x, full_sizes, full_strides, x.scalar_type());
  }

  // x itself if it has this layout, otherwise a copy that has.
  Tensor arrange(const Tensor& x) const {
    if (fits(x)) return x;
    Tensor copy = empty_for(x);
    torch::stable::copy_(copy, x);
    return copy;
  }
};

// Owns one call's operands in the kernel's layout, which the parameters point to.
struct Call {
  ActivationTangentParams p{};
  Layout layout;
  Tensor h, tangents;
  std::optional<Tensor> leak, threshold;

  Call(const Tensor& h_, const Tensor& tangents_, const std::string& kind,
       const std::optional<Tensor>& leak_, const std::optional<Tensor>& threshold_,
       double negative_slope, double beta, double softplus_threshold, bool turn, bool cuda)
      : layout(h_, tangents_), h(h_), tangents(tangents_) {
    p.kind = activation_of(kind);
    p.h_type = dtype_of(h, "h");
    p.tangents_type = dtype_of(tangents, "tangents");
    p.turn = turn, p.negative_slope = negative_slope;
    p.beta = beta, p.softplus_threshold = softplus_threshold;
    std::vector<int64_t> sizes = layout.sizes;
    sizes.insert(sizes.begin(), tangents.size(0));
    check_shape(tangents, "tangents", sizes);
    check_like(tangents, "tangents", h, tangents.scalar_type());
    h = layout.arrange(h);
    tangents = layout.arrange(tangents);
    p.h = h.data_ptr(), p.tangents = tangents.data_ptr();
    p.count = tangents.size(0), p.positions = layout.positions;
    p.tangents_stride = tangents.stride(0);
    set_channels(leak_, threshold_, cuda);
  }

  void set_channels(const std::optional<Tensor>& leak_, const std::optional<Tensor>& threshold_,
                    bool cuda) {
    const bool needs_threshold = p.kind == Activation::translated_prelu;
    const bool needs_leak = needs_threshold || p.kind == Activation::prelu;
    STD_TORCH_CHECK(needs_leak == leak_.has_value(), "leak: wanted by (translated_)prelu alone");
    STD_TORCH_CHECK(needs_threshold == threshold_.has_value(),
                    "threshold: wanted by translated_prelu alone");
    int64_t wanted = 1;
    for (const auto* x : {&leak_, &threshold_})
      if (*x) wanted = std::max(wanted, (*x)->numel());
    const int64_t channels = layout.sizes.size() > 1 ? layout.sizes[1] : 1;
    const bool per_channel = wanted > 1;
    STD_TORCH_CHECK(!per_channel || wanted == channels,
                    "leak, threshold must have shapes (C,), (1,)");
    p.channels = per_channel ? channels : 1;
    p.inner = per_channel ? layout.strides[1] : std::max<int64_t>(p.positions, 1);
    p.leak_channels = leak_ ? leak_->numel() : 1;
    p.leak = values_of(leak_, leak, cuda);
    p.threshold = values_of(threshold_, threshold, cuda);
  }

  // On CUDA as given, which needs no extra kernel; on the CPU one double per channel.
  ChannelValues values_of(const std::optional<Tensor>& x, std::optional<Tensor>& kept, bool cuda) {
    if (!x) return {};
    STD_TORCH_CHECK(x->device() == h.device(), "leak, threshold: must be on the device of h");
    STD_TORCH_CHECK(x->numel() == 1 || x->numel() == p.channels,
                    "leak, threshold must have shapes (C,), (1,)");
    if (cuda)
      return {x->data_ptr(), x->numel() > 1 ? x->stride(0) : 0, dtype_of(*x, "leak, threshold")};
    Tensor wide = in_dtype(*x, ScalarType::Double);
    wide = torch::stable::reshape(wide, {-1});
    if (x->numel() == p.channels) {
      kept = in_order(wide);
    } else {
      kept = empty(wide, {p.channels}, ScalarType::Double);
      torch::stable::copy_(*kept, wide);
    }
    return {kept->data_ptr(), 1, DType::f64};
  }

  int64_t plan_chunks() {
    const int64_t blocks = (p.positions + kPositionsPerBlock - 1) / kPositionsPerBlock;
    p.chunk = std::max<int64_t>(1, (blocks + kMostChunks - 1) / kMostChunks) * kPositionsPerBlock;
    return (p.positions + p.chunk - 1) / p.chunk;
  }

  int64_t chunks_per_thread() const {
    return std::max<int64_t>(1, kGrain / (p.chunk * std::max<int64_t>(1, p.count)));
  }
};

// Runs the kernel into out, or into a buffer of the kernel's layout that is then copied to out.
template <class Run>
void run_into(Call& call, Tensor& out, const Run& run) {
  const bool direct = call.layout.fits(out);
  Tensor target = direct ? out : call.layout.empty_for(out);
  call.p.out = target.data_ptr();
  call.p.out_stride = target.stride(0);
  run();
  if (!direct) torch::stable::copy_(out, target);
}

void forward(Call& call, Tensor& out, bool cuda) {
  if (call.p.positions == 0 || call.p.count == 0) return;
  run_into(call, out, [&] {
#ifdef PYDISENT_WITH_CUDA
    if (cuda) return check_launch(activation_tangent_cuda(call.p, current_stream(call.h)));
#endif
    const int64_t chunks = call.plan_chunks();
    torch::stable::parallel_for(
        0, chunks, call.chunks_per_thread(),
        [&](int64_t begin, int64_t end) { activation_tangent_cpu(call.p, begin, end); });
  });
}

void backward_cpu(Call& call) {
  ActivationTangentParams& p = call.p;
  const int64_t chunks = call.plan_chunks();
  std::vector<double> partials(p.leak.data ? chunks * p.channels : 0, 0.0);
  p.leak_partials = partials.data();
  torch::stable::parallel_for(0, chunks, call.chunks_per_thread(), [&](int64_t begin, int64_t end) {
    activation_tangent_backward_cpu(p, begin, end);
  });
  if (p.leak.data) activation_tangent_leak_cpu(p);
}

#ifdef PYDISENT_WITH_CUDA
void backward_cuda(Call& call) {
  ActivationTangentParams& p = call.p;
  const bool wide = p.h_type == DType::f64 || p.tangents_type == DType::f64;
  Tensor outside, partials;
  if (p.leak.data) {
    outside = empty(call.h, {p.positions}, compute_type(wide));
    const int64_t splits = activation_tangent_leak_splits(p);
    partials = empty(call.h, {splits, p.leak_channels}, ScalarType::Double);
    p.outside = outside.data_ptr();
    p.leak_partials = static_cast<double*>(partials.data_ptr());
  }
  check_launch(activation_tangent_backward_cuda(p, current_stream(call.h)));
}
#endif

// The gradients of the channels, in the shape and dtype of the leak.
Tensor finish_leak(Call& call, const Tensor& total, const Tensor& leak) {
  Tensor result = total;
  if (leak.numel() != call.p.channels) {  // one shared leak with a threshold per channel
    std::vector<int64_t> dims = {0};
    result = torch::stable::sum(result, dims);
  }
  result = in_dtype(result, leak.scalar_type());
  std::vector<int64_t> sizes(leak.sizes().data(), leak.sizes().data() + leak.dim());
  return torch::stable::reshape(result, sizes);
}

#define PYDISENT_ARGUMENTS                                                                         \
  const Tensor h, const Tensor tangents, const std::string kind, const std::optional<Tensor> leak, \
      const std::optional<Tensor> threshold, double negative_slope, double beta,                   \
      double softplus_threshold, bool turn
#define PYDISENT_PARAMETERS \
  h, tangents, kind, leak, threshold, negative_slope, beta, softplus_threshold, turn

template <bool kCuda>
Tensor activation_tangent(PYDISENT_ARGUMENTS) {
  Call call(PYDISENT_PARAMETERS, kCuda);
  Tensor out = pydisent::empty_like(tangents);
  forward(call, out, kCuda);
  return out;
}

template <bool kCuda>
void activation_tangent_in_place(PYDISENT_ARGUMENTS) {
  Call call(PYDISENT_PARAMETERS, kCuda);
  Tensor out = tangents;
  forward(call, out, kCuda);
}

template <bool kCuda>
std::tuple<Tensor, Tensor, Tensor> activation_tangent_backward(const Tensor grad,
                                                               PYDISENT_ARGUMENTS) {
  Call call(PYDISENT_PARAMETERS, kCuda);
  std::vector<int64_t> sizes(tangents.sizes().data(), tangents.sizes().data() + tangents.dim());
  check_shape(grad, "grad", sizes);
  check_like(grad, "grad", h, tangents.scalar_type());
  const Tensor cotangents = call.layout.arrange(grad);
  call.p.grad = cotangents.data_ptr(), call.p.grad_stride = cotangents.stride(0);
  Tensor grad_h = pydisent::empty_like(h), grad_tangents = pydisent::empty_like(tangents);
  // On CUDA in the leak's shape and dtype, else one double per channel.
  Tensor total = !leak   ? empty(h, {0}, h.scalar_type())
                 : kCuda ? pydisent::empty_like(*leak)
                         : empty(h, {call.p.channels}, ScalarType::Double);
  call.p.grad_leak = total.data_ptr();
  if (call.p.positions == 0) {
    torch::stable::zero_(total);
  } else {
    const bool direct = call.layout.fits(grad_h);
    Tensor target = direct ? grad_h : call.layout.empty_for(grad_h);
    call.p.grad_h = target.data_ptr();
    run_into(call, grad_tangents, [&] {
#ifdef PYDISENT_WITH_CUDA
      if constexpr (kCuda) return backward_cuda(call);
#endif
      backward_cpu(call);
    });
    if (!direct) torch::stable::copy_(grad_h, target);
  }
  if (leak && !kCuda) total = finish_leak(call, total, *leak);
  return {grad_h, grad_tangents, total};
}

#ifdef PYDISENT_WITH_CUDA
Tensor forward_cuda(PYDISENT_ARGUMENTS) {
  const torch::stable::accelerator::DeviceGuard guard(h.get_device_index());
  return activation_tangent<true>(PYDISENT_PARAMETERS);
}

void in_place_cuda(PYDISENT_ARGUMENTS) {
  const torch::stable::accelerator::DeviceGuard guard(h.get_device_index());
  activation_tangent_in_place<true>(PYDISENT_PARAMETERS);
}

std::tuple<Tensor, Tensor, Tensor> adjoint_cuda(const Tensor grad, PYDISENT_ARGUMENTS) {
  const torch::stable::accelerator::DeviceGuard guard(h.get_device_index());
  return activation_tangent_backward<true>(grad, PYDISENT_PARAMETERS);
}
#endif

}  // namespace
}  // namespace pydisent

STABLE_TORCH_LIBRARY_IMPL(pydisent, CPU, m) {
  m.impl("activation_tangent", TORCH_BOX(&pydisent::activation_tangent<false>));
  m.impl("activation_tangent_", TORCH_BOX(&pydisent::activation_tangent_in_place<false>));
  m.impl("activation_tangent_backward", TORCH_BOX(&pydisent::activation_tangent_backward<false>));
}

#ifdef PYDISENT_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(pydisent, CUDA, m) {
  m.impl("activation_tangent", TORCH_BOX(&pydisent::forward_cuda));
  m.impl("activation_tangent_", TORCH_BOX(&pydisent::in_place_cuda));
  m.impl("activation_tangent_backward", TORCH_BOX(&pydisent::adjoint_cuda));
}
#endif
