// The CUDA kernels of tangents through activations against those for the CPU, on the CPU.
#include "../../../csrc/include/tangent.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "compare.h"

using pydisent::Activation;
using pydisent::DType;

namespace {

// inner odd: positions are taken one by one; else 16 bytes at a time.
template <class S>
bool run(Activation kind, int64_t inner, bool turn, double epsilon) {
  const int64_t batch = 3, channels = 4, tangents = 3, positions = batch * channels * inner;
  std::printf("activation %d, %ld positions of %ld bytes%s\n", int(kind), long(positions),
              long(sizeof(S)), turn ? ", there and back" : "");
  std::mt19937_64 random(0);
  std::normal_distribution<double> normal;
  auto draw = [&](int64_t count) {
    std::vector<S> numbers(count);
    for (S& x : numbers) x = static_cast<S>(3 * normal(random));
    return numbers;
  };
  const auto h = draw(positions), moving = draw(tangents * positions);
  const auto grad = draw(tangents * positions);
  const Numbers leak = {0.1, 0.2, -0.3, 0.4}, threshold = {-0.5, 0.0, 0.5, 1.0};
  pydisent::ActivationTangentParams p{};
  p.h = h.data(), p.tangents = moving.data(), p.grad = grad.data();
  const bool translated = kind == Activation::translated_prelu;
  const bool learned = translated || kind == Activation::prelu;
  p.leak = learned ? leak.data() : nullptr, p.threshold = translated ? threshold.data() : nullptr;
  p.count = tangents, p.positions = positions, p.channels = channels, p.inner = inner;
  p.tangents_stride = p.grad_stride = p.out_stride = positions;
  p.chunk = positions, p.negative_slope = 0.2, p.beta = 1.5, p.softplus_threshold = 4;
  p.kind = kind, p.turn = turn;
  p.h_type = p.tangents_type = sizeof(S) == 8 ? DType::f64 : DType::f32;

  std::vector<S> out[2], grad_tangents[2], grad_h[2], outside(positions);
  Numbers grad_leak[2];
  for (int way = 0; way < 2; ++way) {
    for (auto* made : {&out[way], &grad_tangents[way]}) made->assign(tangents * positions, NAN);
    grad_h[way].assign(positions, NAN), grad_leak[way].assign(channels, NAN);
    Numbers partials(channels, 0.0);
    p.leak_partials = partials.data(), p.outside = outside.data();
    p.grad_leak = grad_leak[way].data(), p.grad_h = grad_h[way].data();
    p.out = out[way].data();
    way ? void(pydisent::activation_tangent_cuda(p, nullptr))
        : pydisent::activation_tangent_cpu(p, 0, 1);
    p.out = grad_tangents[way].data();
    if (way) {
      pydisent::activation_tangent_backward_cuda(p, nullptr);
    } else {
      pydisent::activation_tangent_backward_cpu(p, 0, 1);
      if (learned) pydisent::activation_tangent_leak_cpu(p);
    }
  }
  auto agree = [&](const char* what, const std::vector<S>* made) {
    return same(what, Numbers(made[0].begin(), made[0].end()),
                Numbers(made[1].begin(), made[1].end()), epsilon);
  };
  bool fine = agree("products", out) & agree("grad_tangents", grad_tangents);
  if (!is_piecewise_linear(kind)) fine &= agree("grad_h", grad_h);
  if (learned) fine &= same("grad_leak", grad_leak[0], grad_leak[1], epsilon);
  return fine;
}

}  // namespace

int main() {
  bool fine = true;
  for (int kind = 0; kind <= static_cast<int>(Activation::softplus); ++kind)
    for (bool turn : {false, true}) {
      fine &= run<double>(static_cast<Activation>(kind), 5, turn, 2e-16);
      fine &= run<float>(static_cast<Activation>(kind), 48, turn, 1e-7);
    }
  return fine ? 0 : 1;
}
