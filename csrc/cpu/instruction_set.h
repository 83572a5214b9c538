// Which of the instruction sets the kernels are compiled for this machine runs.
#pragma once

namespace latentcmp {

enum class InstructionSet { BASELINE, AVX2, AVX512 };

// The widest there is, or what LATENTCMP_ISA allows ("baseline", "avx2", "avx512"); found once.
InstructionSet instruction_set();

}  // namespace latentcmp
