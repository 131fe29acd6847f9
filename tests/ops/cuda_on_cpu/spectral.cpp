// The CUDA kernels of masked power iteration against those for the CPU, on the CPU.
#include "../../../csrc/include/spectral.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "compare.h"

using pydisent::DType;

namespace {

struct Case {
  int64_t batch, m, k, iterations;
  bool transposed;  // the matrix by columns
};

bool run(const Case& c) {
  std::printf("B %ld, m %ld, k %ld, T %ld%s\n", long(c.batch), long(c.m), long(c.k),
              long(c.iterations), c.transposed ? ", transposed" : "");
  std::mt19937_64 random(0);
  std::normal_distribution<double> normal;
  auto draw = [&](int64_t count) {
    Numbers numbers(count);
    for (double& x : numbers) x = normal(random);
    return numbers;
  };
  const int64_t m = c.m, k = c.k, steps = c.iterations, vectors = c.batch * m * k;
  const Numbers gram = draw(c.batch * m * m), probe = draw(vectors), mask = draw(m * k);
  pydisent::PowerIterationParams p{};
  p.gram = gram.data(), p.probe = probe.data(), p.mask = mask.data();
  p.batch = c.batch, p.m = m, p.k = k, p.iterations = steps, p.eps = 1e-3, p.dtype = DType::f64;
  const int64_t rows[3] = {m * m, c.transposed ? 1 : m, c.transposed ? m : 1};
  const int64_t columns[3] = {m * k, k, 1};
  std::copy_n(rows, 3, p.gram_strides), std::copy_n(columns, 3, p.probe_strides);
  p.mask_strides[0] = k, p.mask_strides[1] = 1;
  Numbers found[2][4];
  for (int way = 0; way < 2; ++way) {
    const int64_t sizes[4] = {vectors, c.batch * k, vectors * (steps + 1), c.batch * steps * k};
    for (int i = 0; i < 4; ++i) found[way][i].assign(sizes[i], NAN);
    p.vectors = found[way][0].data(), p.norms = found[way][1].data();
    p.iterates = found[way][2].data(), p.iterate_norms = found[way][3].data();
    if (way)
      pydisent::masked_power_iteration_cuda(p, nullptr);
    else
      pydisent::masked_power_iteration_cpu(p, 0, c.batch);
  }
  bool fine = same("vectors", found[0][0], found[1][0]) & same("norms", found[0][1], found[1][1]) &
              same("iterates", found[0][2], found[1][2]) &
              same("their norms", found[0][3], found[1][3]);

  const Numbers grad_vectors = draw(vectors), grad_norms = draw(c.batch * k);
  pydisent::PowerIterationBackwardParams q{};
  q.grad_vectors = grad_vectors.data(), q.grad_norms = grad_norms.data();
  q.gram = gram.data(), q.mask = mask.data();
  q.iterates = found[0][2].data(), q.iterate_norms = found[0][3].data();
  q.batch = c.batch, q.m = m, q.k = k, q.iterations = steps, q.eps = p.eps, q.dtype = DType::f64;
  std::copy_n(columns, 3, q.grad_vectors_strides), std::copy_n(rows, 3, q.gram_strides);
  q.grad_norms_strides[0] = k, q.grad_norms_strides[1] = 1;
  q.mask_strides[0] = k, q.mask_strides[1] = 1;
  Numbers grad_gram[2], grad_probe[2], weights(c.batch * steps * k * m, NAN);
  for (int way = 0; way < 2; ++way) {
    grad_gram[way].assign(c.batch * m * m, 0), grad_probe[way].assign(vectors, NAN);
    q.grad_gram = grad_gram[way].data(), q.grad_probe = grad_probe[way].data();
    q.weights = weights.data();
    if (way)
      pydisent::masked_power_iteration_backward_cuda(q, nullptr);
    else
      pydisent::masked_power_iteration_backward_cpu(q, 0, c.batch);
  }
  // The product that is left to the matrix library.
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t row = 0; row < steps * k; ++row)
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < m; ++j)
          grad_gram[1][(b * m + i) * m + j] += weights[(b * steps * k + row) * m + i] *
                                               found[0][2][(b * (steps + 1) * k + row) * m + j];
  fine &= same("grad_gram", grad_gram[0], grad_gram[1]);
  return fine & same("grad_probe", grad_probe[0], grad_probe[1]);
}

}  // namespace

int main() {
  bool fine = true;
  const Case cases[] = {{2, 5, 2, 2, false},
                        {1, 1, 1, 1, false},
                        {1, 33, 9, 2, true},
                        {1, 300, 3, 1, false},
                        {1, 40, 35, 2, true}};
  for (const Case& c : cases) fine &= run(c);
  return fine ? 0 : 1;
}
