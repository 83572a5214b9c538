// The rows that a thread block processes, computed on the device: the host does not read ptr.
#pragma once
#include <cstdint>
#include "../include/latentcmp.h"

namespace latentcmp {

// A longer segment is split at multiples of this from its own first row, one block for each piece.
constexpr int64_t CHUNK_ROWS = 1024;
constexpr int BLOCK_THREADS = 128;

struct Rows {
  int64_t segment, first, last;
  __device__ int64_t count() const { return last - first; }
};

// Rows of one segment, clamped to the rows of x.
__device__ inline Rows rows_of(const LcSegmentCumulants& in, int64_t segment) {
  const int64_t first = min(max(in.ptr[segment], int64_t(0)), in.rows);
  const int64_t last = min(max(in.ptr[segment + 1], first), in.rows);
  return {segment, first, last};
}

// The segment that contains a row: the last one that starts at it or before.
__device__ inline int64_t segment_of(const LcSegmentCumulants& in, int64_t row) {
  int64_t low = 0, high = in.segments;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (in.ptr[middle] <= row) low = middle;
    else high = middle;
  }
  return low;
}

// A window is CHUNK_ROWS rows of x counted from row 0. Pieces of at most two long segments start in it: of the one that
// contains its first row (slot 0), and of one that starts after it (slot 1).
__device__ inline Rows long_segment(const LcSegmentCumulants& in, int64_t window, int slot) {
  const int64_t begin = window * CHUNK_ROWS, end = min(begin + CHUNK_ROWS, in.rows);
  const Rows rows = rows_of(in, segment_of(in, slot == 0 ? begin : end - 1));
  const bool here = slot == 0 ? rows.first <= begin : rows.first > begin;
  return here && rows.count() > CHUNK_ROWS ? rows : Rows{rows.segment, 0, 0};
}

// The piece that starts in a window; empty where there is none.
__device__ inline Rows chunk_in(const LcSegmentCumulants& in, int64_t window, int slot) {
  const Rows rows = long_segment(in, window, slot);
  const int64_t begin = window * CHUNK_ROWS;
  const int64_t skipped = slot == 0 ? (begin - rows.first + CHUNK_ROWS - 1) / CHUNK_ROWS * CHUNK_ROWS : 0;
  const int64_t first = rows.first + skipped;
  if (rows.count() == 0 || first >= rows.last || first >= begin + CHUNK_ROWS) return {rows.segment, 0, 0};
  return {rows.segment, first, min(first + CHUNK_ROWS, rows.last)};
}

// Index of the partial state of the piece that starts at a row.
__device__ inline int64_t partial_index(const Rows& segment, int64_t first) {
  const int64_t window = first / CHUNK_ROWS;
  return 2 * window + (segment.first > window * CHUNK_ROWS ? 1 : 0);
}

inline int64_t window_count(const LcSegmentCumulants& in) { return (in.rows + CHUNK_ROWS - 1) / CHUNK_ROWS; }

}  // namespace latentcmp
