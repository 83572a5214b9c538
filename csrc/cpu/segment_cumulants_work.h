// Between the entry points and the kernels of one instruction set.
#pragma once
#include <cstdint>
#include "../include/latentcmp.h"

namespace latentcmp {

// A longer segment is split at multiples of this from its own first row, so the bits of the result depend neither on
// the number of threads nor on the other segments.
constexpr int64_t CHUNK_ROWS = 2048;

// Between rows of a partial state; the last pack of columns may extend beyond `columns`.
inline int64_t partial_stride(int64_t columns) { return columns + 64; }

struct Forward {
  const LcSegmentCumulants* in;
  void* out;
  void* residual;
  bool streaming;       // non-temporal stores
  void* (*scratch)();   // of the calling thread
};

struct Backward {
  const LcSegmentCumulants* in;
  const void* grad;
  const void* out;
  const void* residual;
  void* dx;
  bool streaming;
  void* (*scratch)();
};

// The kernels of one input type for orders up to 4 or up to 8.
struct SegmentKernels {
  int order;  // highest power summed: partial states hold order + 1 rows
  void (*forward_segments)(const Forward&, int64_t first, int64_t last);
  void (*forward_chunk)(const Forward&, int64_t first_row, int64_t last_row, double* partial);
  void (*forward_merge)(const Forward&, int64_t segment, const double* partials);
  void (*backward_segments)(const Backward&, int64_t first, int64_t last);
  void (*backward_chunk)(const Backward&, int64_t segment, int64_t first_row, int64_t last_row);
};

SegmentKernels segment_cumulants_kernels_baseline(int32_t type, int32_t order);
SegmentKernels segment_cumulants_kernels_avx2(int32_t type, int32_t order);
SegmentKernels segment_cumulants_kernels_avx512(int32_t type, int32_t order);
constexpr int64_t SCRATCH_BYTES = int64_t(1) << 20;

}  // namespace latentcmp
