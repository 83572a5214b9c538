// Entry point: checks, the choice of the instruction set, one problem after another. Threads are the caller's.
#include <cstdlib>
#include <memory>
#include "instruction_set.h"
#include "local_ridge_work.h"

namespace latentcmp {
namespace {

constexpr int64_t CACHE_LINE = 64;

bool valid(const LcLocalRidge& in) {
  bool result = in.columns >= 1 && in.problems >= 0 && in.n_strengths >= 1 && in.n_targets >= 0;
  for (int64_t i = 0; i < in.n_targets; ++i) result = result && in.targets[i].columns >= 1;
  return result && in.first_count >= 1 && in.first_count < in.count;
}

struct Free {
  void operator()(double* p) const { std::free(p); }
};

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cpu_local_ridge(const LcLocalRidge* in, double* errors) {
  if (!valid(*in)) return LC_BAD_ARGUMENT;
  const int64_t bytes = Workspace(*in, nullptr).doubles * int64_t(sizeof(double));  // whole cache lines
  const std::unique_ptr<double, Free> memory(static_cast<double*>(std::aligned_alloc(CACHE_LINE, bytes)));
  if (!memory) return LC_NO_MEMORY;
  const LocalRidgeKernel problem_errors = LC_FOR_INSTRUCTION_SET(local_ridge_kernel);
  for (int64_t i = 0; i < in->problems; ++i) problem_errors(*in, i, memory.get(), errors + i);
  return LC_OK;
}
