// Entry point: checks, the choice of the instruction set, the distribution of rows over threads.
#include "centred_rows_work.h"
#include "instruction_set.h"

namespace latentcmp {
namespace {

constexpr int64_t TASK_NUMBERS = int64_t(1) << 15;  // for fewer, starting a thread takes longer than the work

bool valid(const LcCentredRows& in) {
  return in.count >= 0 && in.columns >= 1 && (in.type == LC_FLOAT32 || in.type == LC_FLOAT64);
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cpu_centred_rows(const LcCentredRows* in) {
  if (!valid(*in)) return LC_BAD_ARGUMENT;
  const CentredRowsKernel centre_rows = LC_FOR_INSTRUCTION_SET(centred_rows_kernel)(in->type);
  const int64_t rows = 1 + TASK_NUMBERS / in->columns, tasks = (in->count + rows - 1) / rows;
#pragma omp parallel for schedule(static) num_threads(in->threads) if (in->threads > 1 && tasks > 1)
  for (int64_t i = 0; i < tasks; ++i) {
    const int64_t first = i * rows;
    centre_rows(*in, first, first + rows < in->count ? first + rows : in->count);
  }
  return LC_OK;
}
