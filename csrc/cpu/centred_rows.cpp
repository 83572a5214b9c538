// Entry point: check, choose the instruction set, share the rows among threads.
#include "centred_rows_work.h"
#include "instruction_set.h"

namespace latentcmp {
namespace {

constexpr int64_t TASK_NUMBERS = int64_t(1) << 15;  // below it waking a thread costs more than it saves

CentredKernel kernel(int32_t type) {
#if defined(LATENTCMP_X86)
  switch (instruction_set()) {
    case InstructionSet::AVX512: return centred_kernel_avx512(type);
    case InstructionSet::AVX2: return centred_kernel_avx2(type);
    default: break;
  }
#endif
  return centred_kernel_baseline(type);
}

bool sane(const LcCentredRows& in) {
  return in.count >= 0 && in.columns >= 1 && (in.type == LC_FLOAT32 || in.type == LC_FLOAT64);
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cpu_centred_rows(const LcCentredRows* in) {
  if (!sane(*in)) return LC_BAD_ARGUMENT;
  const CentredKernel centre_rows = kernel(in->type);
  const int64_t rows = 1 + TASK_NUMBERS / in->columns, tasks = (in->count + rows - 1) / rows;
#pragma omp parallel for schedule(static) num_threads(in->threads) if (in->threads > 1 && tasks > 1)
  for (int64_t i = 0; i < tasks; ++i) {
    const int64_t first = i * rows;
    centre_rows(*in, first, first + rows < in->count ? first + rows : in->count);
  }
  return LC_OK;
}
