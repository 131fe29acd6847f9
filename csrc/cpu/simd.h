// One source, several instruction sets: kernels are always-inline templates over the vector width,
// and PYDISENT_MULTIVERSION instantiates them under target attributes and picks one at run time.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "convert.h"

#define PYDISENT_INLINE inline __attribute__((always_inline))

#if defined(__clang__)
#define PYDISENT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define PYDISENT_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace pydisent {

enum class InstructionSet : int { baseline, avx2, avx512 };

// The widest set that the processor has and PYDISENT_INSTRUCTION_SET (baseline, avx2) allows.
InstructionSet instruction_set();
const char* instruction_set_name();

template <class T, int W>
struct Vector {
  typedef T type __attribute__((vector_size(W * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <class T, int W>
PYDISENT_INLINE T horizontal_sum(typename Vector<T, W>::type v) {
  T lanes[W];
  std::memcpy(lanes, &v, sizeof(v));
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// sum of a[i] * b[i], in an order that depends only on n
template <class T, int W>
PYDISENT_INLINE T dot(const T* a, const T* b, int64_t n) {
  using V = typename Vector<T, W>::type;
  V sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W)
    for (int j = 0; j < 4; ++j)
      sums[j] +=
          *reinterpret_cast<const V*>(a + i + j * W) * *reinterpret_cast<const V*>(b + i + j * W);
  for (; i + W <= n; i += W)
    sums[0] += *reinterpret_cast<const V*>(a + i) * *reinterpret_cast<const V*>(b + i);
  T total = horizontal_sum<T, W>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
#define PYDISENT_HAS_SHUFFLE 1
// Exchanges the lanes of row a whose index has bit D set with those of row b, D rows on, without.
template <int W, int D, class V, int... I>
PYDISENT_INLINE void exchange(V& a, V& b, std::integer_sequence<int, I...>) {
  const V first = __builtin_shufflevector(a, b, ((I & D) ? W + I - D : I)...);
  b = __builtin_shufflevector(a, b, ((I & D) ? W + I : I + D)...);
  a = first;
}

// Transposes W rows of W lanes in registers.
template <int W, class V, int D = W / 2>
PYDISENT_INLINE void transpose(V* rows) {
  for (int r = 0; r < W; ++r)
    if (!(r & D)) exchange<W, D>(rows[r], rows[r + D], std::make_integer_sequence<int, W>());
  if constexpr (D > 1) transpose<W, V, D / 2>(rows);
}
#endif

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64)))) {}
  ~Scratch() { ::operator delete(data_, std::align_val_t(64)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace pydisent

// PYDISENT_MULTIVERSION(name, Params, body) defines name(p, begin, end), which runs
// body<BYTES>(p, begin, end) for vectors of BYTES bytes.
#if defined(__x86_64__)
#define PYDISENT_MULTIVERSION(name, Params, body)                                          \
  __attribute__((                                                                          \
      target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2,prfchw"))) static void \
  name##_avx512(const Params& p, int64_t begin, int64_t end) {                             \
    body<64>(p, begin, end);                                                               \
  }                                                                                        \
  __attribute__((target("avx2,fma,f16c,bmi2"))) static void name##_avx2(                   \
      const Params& p, int64_t begin, int64_t end) {                                       \
    body<32>(p, begin, end);                                                               \
  }                                                                                        \
  static void name##_baseline(const Params& p, int64_t begin, int64_t end) {               \
    body<16>(p, begin, end);                                                               \
  }                                                                                        \
  static void name(const Params& p, int64_t begin, int64_t end) {                          \
    switch (instruction_set()) {                                                           \
      case InstructionSet::avx512:                                                         \
        return name##_avx512(p, begin, end);                                               \
      case InstructionSet::avx2:                                                           \
        return name##_avx2(p, begin, end);                                                 \
      default:                                                                             \
        return name##_baseline(p, begin, end);                                             \
    }                                                                                      \
  }
#else
#define PYDISENT_MULTIVERSION(name, Params, body) \
  static void name(const Params& p, int64_t begin, int64_t end) { body<16>(p, begin, end); }
#endif

// For p.dtype's type S, run_<name>_S(p, begin, end).
#define PYDISENT_DISPATCH_DTYPE(name)              \
  switch (p.dtype) {                               \
    case DType::f16:                               \
      return run_##name##_Half(p, begin, end);     \
    case DType::bf16:                              \
      return run_##name##_BFloat16(p, begin, end); \
    case DType::f32:                               \
      return run_##name##_float(p, begin, end);    \
    case DType::f64:                               \
      return run_##name##_double(p, begin, end);   \
  }
