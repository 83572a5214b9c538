#include "instruction_set.h"
#include <cstdlib>
#include "../include/latentcmp.h"

namespace latentcmp {
namespace {

InstructionSet choose() {
#if defined(LATENTCMP_X86)
  const char* limit = std::getenv("LATENTCMP_ISA");
  const bool any = !limit || limit[0] == '\0', no512 = !any && limit[3] != '5';
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512 && !no512) return InstructionSet::AVX512;
  if (avx2 && (any || limit[0] == 'a')) return InstructionSet::AVX2;
#endif
  return InstructionSet::BASELINE;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

}  // namespace latentcmp

LC_API const char* lc_cpu_instruction_set() {
  switch (latentcmp::instruction_set()) {
    case latentcmp::InstructionSet::AVX512: return "avx512";
    case latentcmp::InstructionSet::AVX2: return "avx2";
    default: return "baseline";
  }
}
