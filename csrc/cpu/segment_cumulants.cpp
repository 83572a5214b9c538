// Entry points: check, choose the instruction set, cut the work, share it among threads.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>
#include "instruction_set.h"
#include "segment_cumulants_work.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace latentcmp {
namespace {

constexpr int64_t STREAM_BYTES = int64_t(4) << 20;  // outputs beyond this leave the caches anyway
constexpr int64_t LARGEST_TASK = int64_t(1) << 20;  // each task starts with a fetch from cold memory
constexpr int64_t TASKS_PER_THREAD = 16;
constexpr int64_t PARALLEL_BYTES = int64_t(1) << 18;  // below it waking threads costs more than it saves

struct Chunk {
  int64_t segment, first, last;
};

struct Plan {
  int64_t segments_per_task;
  int64_t tasks;
  int threads;
  std::vector<Chunk> chunks;        // of long segments, in order
  std::vector<int64_t> long_first;  // index of the first chunk of each long segment
};

struct FreeScratch {
  void operator()(void* p) const { std::free(p); }
};

void* thread_scratch() {
  static thread_local std::unique_ptr<void, FreeScratch> scratch(std::aligned_alloc(4096, SCRATCH_BYTES));
  return scratch.get();
}

KernelTable kernel_table() {
#if defined(LATENTCMP_X86)
  switch (instruction_set()) {
    case InstructionSet::AVX512: return segment_kernels_avx512;
    case InstructionSet::AVX2: return segment_kernels_avx2;
    default: break;
  }
#endif
  return segment_kernels_baseline;
}

int64_t element_bytes(int32_t type) { return type == LC_FLOAT64 ? 8 : type == LC_FLOAT32 ? 4 : 2; }

int32_t check(const LcSegments& in) {
  const bool sane = in.rows >= 0 && in.columns >= 0 && in.segments >= 0 && in.order >= 1 && in.order <= 8 &&
                    in.type >= LC_FLOAT32 && in.type <= LC_BFLOAT16;
  if (!sane) return LC_BAD_ARGUMENT;
  if (in.ptr[0] != 0 || in.ptr[in.segments] != in.rows) return LC_BAD_OFFSETS;
  int64_t falls = 0;
  for (int64_t s = 0; s < in.segments; ++s) falls += in.ptr[s + 1] < in.ptr[s];
  return falls ? LC_BAD_OFFSETS : LC_OK;
}

Plan make_plan(const LcSegments& in) {
  Plan plan;
  const int64_t bytes = in.rows * in.columns * element_bytes(in.type);
  plan.threads = bytes < PARALLEL_BYTES || in.threads < 1 ? 1 : in.threads;
  const int64_t tasks = std::max(bytes / LARGEST_TASK, plan.threads * TASKS_PER_THREAD);
  plan.segments_per_task = 1 + in.segments / tasks;
  plan.tasks = (in.segments + plan.segments_per_task - 1) / plan.segments_per_task;
  for (int64_t s = 0; s < in.segments; ++s) {
    if (in.ptr[s + 1] - in.ptr[s] <= CHUNK_ROWS) continue;
    plan.long_first.push_back(int64_t(plan.chunks.size()));
    for (int64_t row = in.ptr[s]; row < in.ptr[s + 1]; row += CHUNK_ROWS)
      plan.chunks.push_back({s, row, row + CHUNK_ROWS < in.ptr[s + 1] ? row + CHUNK_ROWS : in.ptr[s + 1]});
  }
  return plan;
}

bool scratch_for_all(int threads) {
  int missing = 0;
#pragma omp parallel num_threads(threads) reduction(+ : missing) if (threads > 1)
  missing += thread_scratch() == nullptr;
  return missing == 0;
}

void run_forward(const Forward& job, const SegmentKernels& kernels, const Plan& plan, double* partials) {
  const LcSegments& in = *job.in;
  const int64_t chunks = int64_t(plan.chunks.size()), longs = int64_t(plan.long_first.size());
  const int64_t partial = (kernels.order + 1) * partial_stride(in.columns);
#pragma omp parallel num_threads(plan.threads) if (plan.threads > 1)
  {
#pragma omp for schedule(dynamic) nowait
    for (int64_t i = 0; i < chunks; ++i)
      kernels.forward_chunk(job, plan.chunks[i].first, plan.chunks[i].last, partials + i * partial);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < plan.tasks; ++i) {
      const int64_t first = i * plan.segments_per_task, last = first + plan.segments_per_task;
      kernels.forward_segments(job, first, last < in.segments ? last : in.segments);
    }
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < longs; ++i) {
      const int64_t first = plan.long_first[i];
      kernels.forward_merge(job, plan.chunks[first].segment, partials + first * partial);
    }
  }
}

void run_backward(const Backward& job, const SegmentKernels& kernels, const Plan& plan) {
  const LcSegments& in = *job.in;
  const int64_t chunks = int64_t(plan.chunks.size());
#pragma omp parallel num_threads(plan.threads) if (plan.threads > 1)
  {
#pragma omp for schedule(dynamic) nowait
    for (int64_t i = 0; i < chunks; ++i)
      kernels.backward_chunk(job, plan.chunks[i].segment, plan.chunks[i].first, plan.chunks[i].last);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < plan.tasks; ++i) {
      const int64_t first = i * plan.segments_per_task, last = first + plan.segments_per_task;
      kernels.backward_segments(job, first, last < in.segments ? last : in.segments);
    }
  }
}

bool aligned(const void* p, int64_t row_bytes) { return reinterpret_cast<uintptr_t>(p) % 64 == 0 && row_bytes % 64 == 0; }

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cpu_segment_cumulants(const LcSegments* in, void* out, void* residual) try {
  if (const int32_t code = check(*in)) return code;
  if (in->segments == 0 || in->columns == 0) return LC_OK;
  const Plan plan = make_plan(*in);
  const SegmentKernels kernels = kernel_table()(in->type, in->order);
  std::vector<double> partials(plan.chunks.size() * (kernels.order + 1) * partial_stride(in->columns));
  if (!scratch_for_all(plan.threads)) return LC_NO_MEMORY;
  const int64_t row_bytes = in->columns * (in->type == LC_FLOAT64 ? 8 : 4);
  const bool large = in->segments * in->order * row_bytes > STREAM_BYTES;
  const bool streaming = large && aligned(out, row_bytes) && aligned(residual, row_bytes);
  run_forward({in, out, residual, streaming, thread_scratch}, kernels, plan, partials.data());
  return LC_OK;
} catch (const std::bad_alloc&) {
  return LC_NO_MEMORY;
}

LC_API int32_t lc_cpu_segment_cumulants_backward(const LcSegments* in, const void* grad, const void* out,
                                                 const void* residual, void* dx) try {
  if (const int32_t code = check(*in)) return code;
  if (in->rows == 0 || in->columns == 0) return LC_OK;
  const Plan plan = make_plan(*in);
  if (!scratch_for_all(plan.threads)) return LC_NO_MEMORY;
  const int64_t row_bytes = in->columns * element_bytes(in->type);
  const bool streaming = in->rows * row_bytes > STREAM_BYTES && aligned(dx, row_bytes);
  const SegmentKernels kernels = kernel_table()(in->type, in->order);
  run_backward({in, grad, out, residual, dx, streaming, thread_scratch}, kernels, plan);
  return LC_OK;
} catch (const std::bad_alloc&) {
  return LC_NO_MEMORY;
}

LC_API void lc_cpu_advise_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, first = (reinterpret_cast<uintptr_t>(memory) + page - 1) & ~(page - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + bytes) & ~(page - 1);
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}
