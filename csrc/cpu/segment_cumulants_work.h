// What the entry points hand to the kernels of one instruction set.
#pragma once
#include <cstdint>
#include "../include/latentcmp.h"

namespace latentcmp {

// A longer segment is cut at multiples of this from its own first row, so the cuts, and with them the bits of
// the result, depend neither on the threads nor on what else is in the batch.
constexpr int64_t CHUNK_ROWS = 2048;

// From one row of a partial state to the next: the last pack of columns may reach beyond them.
inline int64_t partial_stride(int64_t columns) { return columns + 64; }

struct Forward {
  const LcSegments* in;
  void* out;
  void* residual;
  bool streaming;       // write past the caches
  void* (*scratch)();   // of the calling thread
};

struct Backward {
  const LcSegments* in;
  const void* grad;
  const void* out;
  const void* residual;
  void* dx;
  bool streaming;
  void* (*scratch)();
};

// The kernels of one input type and one order class (up to 4, up to 8).
struct SegmentKernels {
  int order;  // powers carried: partial states hold order + 1 rows
  void (*forward_segments)(const Forward&, int64_t first, int64_t last);
  void (*forward_chunk)(const Forward&, int64_t first_row, int64_t last_row, double* partial);
  void (*forward_merge)(const Forward&, int64_t segment, const double* partials);
  void (*backward_segments)(const Backward&, int64_t first, int64_t last);
  void (*backward_chunk)(const Backward&, int64_t segment, int64_t first_row, int64_t last_row);
};

using KernelTable = SegmentKernels (*)(int32_t type, int32_t order);
SegmentKernels segment_kernels_baseline(int32_t type, int32_t order);
SegmentKernels segment_kernels_avx2(int32_t type, int32_t order);
SegmentKernels segment_kernels_avx512(int32_t type, int32_t order);
constexpr int64_t SCRATCH_BYTES = int64_t(1) << 20;

}  // namespace latentcmp
