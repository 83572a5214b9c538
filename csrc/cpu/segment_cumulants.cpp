// Entry points: checks, the choice of the instruction set, the distribution of segments over threads.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>
#include "instruction_set.h"
#include "segment_cumulants_work.h"

namespace latentcmp {
namespace {

constexpr int64_t STREAM_BYTES = int64_t(4) << 20;  // larger outputs do not stay in cache
constexpr int64_t LARGEST_TASK = int64_t(1) << 20;  // bytes; each task starts with cache misses
constexpr int64_t TASKS_PER_THREAD = 16;
constexpr int64_t PARALLEL_BYTES = int64_t(1) << 18;  // for fewer, starting threads takes longer than the work

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

int64_t element_bytes(int32_t type) { return type == LC_FLOAT64 ? 8 : type == LC_FLOAT32 ? 4 : 2; }

int32_t check(const LcSegmentCumulants& in) {
  const bool valid = in.rows >= 0 && in.columns >= 0 && in.segments >= 0 && in.order >= 1 && in.order <= 8 &&
                    in.type >= LC_FLOAT32 && in.type <= LC_BFLOAT16;
  if (!valid) return LC_BAD_ARGUMENT;
  if (in.ptr[0] != 0 || in.ptr[in.segments] != in.rows) return LC_BAD_OFFSETS;
  int64_t decreases = 0;
  for (int64_t s = 0; s < in.segments; ++s) decreases += in.ptr[s + 1] < in.ptr[s];
  return decreases ? LC_BAD_OFFSETS : LC_OK;
}

Plan make_plan(const LcSegmentCumulants& in) {
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
  int failures = 0;
#pragma omp parallel num_threads(threads) reduction(+ : failures) if (threads > 1)
  failures += thread_scratch() == nullptr;
  return failures == 0;
}

void run_forward(const Forward& job, const SegmentKernels& kernels, const Plan& plan, double* partials) {
  const LcSegmentCumulants& in = *job.in;
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
  const LcSegmentCumulants& in = *job.in;
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

bool aligned(const void* p, int64_t row_bytes) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0 && row_bytes % 64 == 0;
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cpu_segment_cumulants(const LcSegmentCumulants* in, void* out, void* residual) try {
  if (const int32_t code = check(*in)) return code;
  if (in->segments == 0 || in->columns == 0) return LC_OK;
  const Plan plan = make_plan(*in);
  const SegmentKernels kernels = LC_FOR_INSTRUCTION_SET(segment_cumulants_kernels)(in->type, in->order);
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

LC_API int32_t lc_cpu_segment_cumulants_backward(const LcSegmentCumulants* in, const void* grad, const void* out,
                                                 const void* residual, void* dx) try {
  if (const int32_t code = check(*in)) return code;
  if (in->rows == 0 || in->columns == 0) return LC_OK;
  const Plan plan = make_plan(*in);
  if (!scratch_for_all(plan.threads)) return LC_NO_MEMORY;
  const int64_t row_bytes = in->columns * element_bytes(in->type);
  const bool streaming = in->rows * row_bytes > STREAM_BYTES && aligned(dx, row_bytes);
  const SegmentKernels kernels = LC_FOR_INSTRUCTION_SET(segment_cumulants_kernels)(in->type, in->order);
  run_backward({in, grad, out, residual, dx, streaming, thread_scratch}, kernels, plan);
  return LC_OK;
} catch (const std::bad_alloc&) {
  return LC_NO_MEMORY;
}
