#include "instruction_set.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include "../include/latentcmp.h"

namespace latentcmp {
namespace {

constexpr const char* NAMES[] = {"baseline", "avx2", "avx512"};  // in the order of InstructionSet

InstructionSet supported() {
#if defined(LATENTCMP_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx512) return InstructionSet::AVX512;
  if (avx2) return InstructionSet::AVX2;
#endif
  return InstructionSet::BASELINE;
}

InstructionSet requested() {
  const char* name = std::getenv("LATENTCMP_ISA");
  for (int i = 0; name && i < 3; ++i)
    if (std::strcmp(name, NAMES[i]) == 0) return InstructionSet(i);
  return InstructionSet::AVX512;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = std::min(supported(), requested());
  return chosen;
}

}  // namespace latentcmp

LC_API const char* lc_cpu_instruction_set() { return latentcmp::NAMES[int(latentcmp::instruction_set())]; }
