// The instruction set whose kernels the library calls.
#pragma once

namespace latentcmp {

enum class InstructionSet { BASELINE, AVX2, AVX512 };

// The widest that this CPU supports, or the narrower one that LATENTCMP_ISA names: "baseline", "avx2" or "avx512". Any
// other value is ignored here; the loader in latentcmp/_runtime/native.py refuses it. Read once.
InstructionSet instruction_set();

// The one of three functions that was compiled for the instruction set in use.
template <class Function>
Function for_instruction_set(Function baseline, Function avx2, Function avx512) {
  switch (instruction_set()) {
    case InstructionSet::AVX512: return avx512;
    case InstructionSet::AVX2: return avx2;
    default: return baseline;
  }
}

#if defined(LATENTCMP_X86)
#define LC_FOR_INSTRUCTION_SET(name) latentcmp::for_instruction_set(name##_baseline, name##_avx2, name##_avx512)
#else
#define LC_FOR_INSTRUCTION_SET(name) name##_baseline
#endif

}  // namespace latentcmp
