#include "../include/doubling.h"

#include <algorithm>

#include "simd.h"

namespace pydisent {
namespace {

// Each pixel gives a 4×4 block of the output, its channels' product with the kernel's taps; the
// blocks of neighbours overlap by half.
constexpr int kTaps = 16;

// The blocks of P pixels, whose channels are P rows of x; P is what fits in registers.
template <class T, int W, int P>
PYDISENT_INLINE void blocks(const T* x, int64_t channels, const T* taps, T* out) {
  using V = typename Vector<T, W>::type;
  V sums[P][kTaps / W] = {};
  for (int64_t c = 0; c < channels; ++c)
    for (int i = 0; i < P; ++i)
      for (int j = 0; j < kTaps / W; ++j)
        sums[i][j] += x[i * channels + c] * reinterpret_cast<const V*>(taps + c * kTaps)[j];
  std::memcpy(out, sums, sizeof(sums));
}

template <class T>
PYDISENT_INLINE void add_blocks(const T* from, int count, T* to, int64_t row) {
  for (int i = 0; i < count; ++i)
    for (int y = 0; y < 4; ++y)
      for (int x = 0; x < 4; ++x) to[y * row + 2 * i + x] += from[i * kTaps + 4 * y + x];
}

template <class S, int BYTES>
PYDISENT_INLINE void images(const DoublingParams& p, int64_t begin, int64_t end) {
  using T = typename ComputeType<S>::type;
  constexpr int W = BYTES / sizeof(T), P = BYTES == 64 ? W / 2 : 2;
  const int64_t height = p.height, width = p.width, channels = p.channels, row = 2 * width + 2;
  Scratch<T> taps(channels * kTaps), pixels(width * channels), canvas((2 * height + 2) * row);
  alignas(64) T found[P * kTaps];
  for (int64_t item = begin; item < end; ++item) {
    const S* weight = static_cast<const S*>(p.weight) + item % p.outputs * p.weight_strides[1];
    for (int64_t c = 0; c < channels; ++c)
      for (int i = 0; i < kTaps; ++i)
        taps[c * kTaps + i] = widen(weight[c * p.weight_strides[0] + i / 4 * p.weight_strides[2] +
                                           i % 4 * p.weight_strides[3]]);
    std::fill_n(static_cast<T*>(canvas), (2 * height + 2) * row, T(0));
    const S* x = static_cast<const S*>(p.x) + item / p.outputs * height * width * channels;
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < width * channels; ++j) pixels[j] = widen(x[i * width * channels + j]);
      T* to = canvas + 2 * i * row;
      int64_t j = 0;
      for (; j + P <= width; j += P) {
        blocks<T, W, P>(pixels + j * channels, channels, taps, found);
        add_blocks(found, P, to + 2 * j, row);
      }
      for (; j < width; ++j) {
        blocks<T, W, 1>(pixels + j * channels, channels, taps, found);
        add_blocks(found, 1, to + 2 * j, row);
      }
    }
    S* out = static_cast<S*>(p.out) + item * 4 * height * width;
    for (int64_t i = 0; i < 2 * height; ++i)
      for (int64_t j = 0; j < 2 * width; ++j)
        out[i * 2 * width + j] = narrow<S>(canvas[(i + 1) * row + j + 1]);
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
