// Entry point: checks, the choice of the instruction set, one problem after another. Threads are the caller's.
#include <cstdlib>
#include <memory>
#include "instruction_set.h"
#include "cutoff_losses_work.h"

namespace latentcmp {
namespace {

constexpr int64_t CACHE_LINE = 64;

bool valid(const LcCutoffLosses& in) {
  bool result = in.columns >= 1 && in.problems >= 0 && in.alphas >= 1;
  for (const LcFold& fold : in.folds) result = result && fold.count >= 1 && fold.rank >= 0;
  return result;
}

struct Free {
  void operator()(double* p) const { std::free(p); }
};

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cpu_cutoff_losses(const LcCutoffLosses* in, double* losses) {
  if (!valid(*in)) return LC_BAD_ARGUMENT;
  const int64_t lines = scratch_doubles(*in) * int64_t(sizeof(double)) / CACHE_LINE + 1;
  const std::unique_ptr<double, Free> scratch(static_cast<double*>(std::aligned_alloc(CACHE_LINE, lines * CACHE_LINE)));
  if (!scratch) return LC_NO_MEMORY;
  const CutoffLossesKernel problem_losses = LC_FOR_INSTRUCTION_SET(cutoff_losses_kernel);
  for (int64_t i = 0; i < in->problems; ++i) problem_losses(*in, i, scratch.get(), losses + i * in->alphas);
  return LC_OK;
}
