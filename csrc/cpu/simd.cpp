#include "simd.h"

namespace pydisent {

static InstructionSet detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const char* limit = std::getenv("PYDISENT_INSTRUCTION_SET");
  if (!avx2 || (limit && !std::strcmp(limit, "baseline"))) return InstructionSet::baseline;
  if (!avx512 || (limit && !std::strcmp(limit, "avx2"))) return InstructionSet::avx2;
  return InstructionSet::avx512;
#else
  return InstructionSet::baseline;
#endif
}

InstructionSet instruction_set() {
  static const InstructionSet found = detect();
  return found;
}

const char* instruction_set_name() {
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace pydisent
