#include "../include/doubling.h"

#include <algorithm>

#include "product.h"
#include "simd.h"

namespace pydisent {
namespace {

// Each pixel contributes a 4×4 block to each output, its channels' product with the kernel's taps;
// blocks of neighbours overlap by half.
constexpr int kTaps = 16;

// Adds the blocks of a row of pixels to an output. Blocks of every other pixel are disjoint, so
// that no load waits for a recent store.
template <class T>
PYDISENT_INLINE void add_blocks(const T* from, int64_t stride, int64_t count, T* to, int64_t row) {
  for (int64_t first = 0; first < 2; ++first)
    for (int64_t i = first; i < count; i += 2)
      for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 4; ++x) to[y * row + 2 * i + x] += from[i * stride + 4 * y + x];
}

template <class S, int BYTES>
PYDISENT_INLINE void images(const DoublingParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  const int64_t height = p.height, width = p.width, channels = p.channels, row = 2 * width + 2;
  const int64_t sums = p.outputs * kTaps, canvas_size = (2 * height + 2) * row;
  Scratch<T> taps(channels * sums), pixels(width * channels), found(width * sums);
  Scratch<T> canvas(p.outputs * canvas_size);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < sums; ++i)
      taps[c * sums + i] = widen(static_cast<const S*>(
          p.weight)[c * p.weight_strides[0] + i / kTaps * p.weight_strides[1] +
                    i % kTaps / 4 * p.weight_strides[2] + i % 4 * p.weight_strides[3]]);
  for (int64_t item = begin; item < end; ++item) {
    std::fill_n(static_cast<T*>(canvas), p.outputs * canvas_size, T(0));
    const S* x = static_cast<const S*>(p.x) + item * height * width * channels;
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < width * channels; ++j) pixels[j] = widen(x[i * width * channels + j]);
      product<T, BYTES / sizeof(T)>(pixels, 1, channels, width, taps, sums, channels, found, sums,
                                    sums);
      for (int64_t d = 0; d < p.outputs; ++d)
        add_blocks<T>(found + d * kTaps, sums, width, canvas + d * canvas_size + 2 * i * row, row);
    }
    S* out = static_cast<S*>(p.out) + item * p.outputs * 4 * height * width;
    for (int64_t d = 0; d < p.outputs; ++d)
      for (int64_t i = 0; i < 2 * height; ++i, out += 2 * width)
        for (int64_t j = 0; j < 2 * width; ++j)
          out[j] = narrow<S>(canvas[d * canvas_size + (i + 1) * row + j + 1]);
  }
}

#define PYDISENT_INSTANTIATE(S)                                                          \
  template <int BYTES>                                                                   \
  PYDISENT_INLINE void images_##S(const DoublingParams& p, int64_t begin, int64_t end) { \
    images<S, BYTES>(p, begin, end);                                                     \
  }                                                                                      \
  PYDISENT_MULTIVERSION(run_images_##S, DoublingParams, images_##S)

PYDISENT_INSTANTIATE(Half)
PYDISENT_INSTANTIATE(BFloat16)
PYDISENT_INSTANTIATE(float)
PYDISENT_INSTANTIATE(double)

}  // namespace

void doubling_convolution_cpu(const DoublingParams& p, int64_t begin, int64_t end) {
  PYDISENT_DISPATCH_DTYPE(images)
}

}  // namespace pydisent
