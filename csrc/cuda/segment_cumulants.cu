// Cumulants of segments: one thread for each column of a segment (or of a piece of a long one).
#include "scalar.h"
#include "segment_cumulants_rows.cuh"
#include "../include/cumulants.h"

namespace latentcmp {
namespace {

constexpr int MAX_ORDER = 8;

// The running state of one column: its mean and sums of powers 0 .. K about it.
template <int K>
struct State {
  double mean;
  double sum[K + 1];
};

template <class T, int K>
constexpr bool SCALED = K > 4 && sizeof(T) == 4;

// The largest power of two below 1 / spread, clamped to a safe range.
__device__ __forceinline__ float power_of_two_under(float spread) {
  const int exponent = min(max((__float_as_int(spread) >> 23) & 255, 27), 227);
  return __int_as_float((254 - exponent) << 23);
}
__device__ __forceinline__ double power_of_two_under(double) { return 1.0; }

// Up to R rows in registers: the second pass reads no memory.
template <class X, int R, int K>
__device__ __forceinline__ State<K> reduce_tile(const X* x, int64_t stride, int rows) {
  typedef typename WideOf<X>::type T;
  T value[R], total = 0, spread = 0;
  LC_UNROLL
  for (int r = 0; r < R; ++r) value[r] = r < rows ? widen(x[r * stride]) : T(0);
  const T first = value[0];
  LC_UNROLL
  for (int r = 1; r < R; ++r) {
    const T d = r < rows ? value[r] - first : T(0);
    total += d;
    spread = fmax(spread, fabs(d));
  }
  const T centre = first + total / T(rows), scale = SCALED<T, K> ? power_of_two_under(spread) : T(1);
  T sum[K] = {};
  LC_UNROLL
  for (int r = 0; r < R; ++r) {
    const T d = r < rows ? (value[r] - centre) * scale : T(0);
    T power = d;
    LC_UNROLL
    for (int k = 0; k < K; ++k, power *= d) sum[k] += power;
  }
  State<K> state{double(centre), {double(rows)}};
  double power = 1.0;
  LC_UNROLL
  for (int k = 0; k < K; ++k) state.sum[k + 1] = double(sum[k]) * (power /= double(scale));
  return state;
}

template <class X, int R, int K>
__device__ __forceinline__ State<K> reduce_rows(const X* x, int64_t stride, int64_t rows) {
  const int64_t tiles = (rows + R - 1) / R;
  State<K> state = reduce_tile<X, R, K>(x, stride, int(rows / tiles));
  for (int64_t i = 1; i < tiles; ++i) {
    const int64_t from = rows * i / tiles, to = rows * (i + 1) / tiles;
    State<K> tile = reduce_tile<X, R, K>(x + from * stride, stride, int(to - from));
    merge_sums<K>(state.mean, state.sum, tile.mean, tile.sum);
  }
  return state;
}

template <class T, int K>
__device__ __forceinline__ void write_column(
    const LcSegmentCumulants& in, int64_t segment, int64_t column, State<K>& state, T* out, T* residual) {
  double k[K + 1];
  cumulants_of_sums<K>(state.mean, state.sum, k);
  if (in.root) signed_roots<K>(k);
  T* to = out + segment * in.order * in.columns + column;
  LC_UNROLL
  for (int m = 1; m <= K; ++m)
    if (m <= in.order) to[(m - 1) * in.columns] = T(k[m]);
  if (residual) residual[segment * in.columns + column] = T(k[1] - double(T(k[1])));
}

// Short segments, blockDim.y of them in a block.
template <class X, int K>
__global__ void __launch_bounds__(BLOCK_THREADS)
forward_segments(LcSegmentCumulants in, typename WideOf<X>::type* out, typename WideOf<X>::type* residual) {
  typedef typename WideOf<X>::type T;
  const int64_t segment = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t column = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (segment >= in.segments || column >= in.columns) return;
  const Rows rows = rows_of(in, segment);
  if (rows.count() > CHUNK_ROWS) return;
  if (rows.count() == 0) {
    for (int m = 0; m < in.order; ++m) out[(segment * in.order + m) * in.columns + column] = T(0);
    if (residual) residual[segment * in.columns + column] = T(0);
    return;
  }
  const X* x = static_cast<const X*>(in.x) + rows.first * in.row_stride + column;
  State<K> state = rows.count() <= 8 ? reduce_tile<X, 8, K>(x, in.row_stride, int(rows.count()))
                                     : reduce_rows<X, 32, K>(x, in.row_stride, rows.count());
  write_column<T, K>(in, segment, column, state, out, residual);
}

// Pieces of long segments into partial states, [2 * windows, K + 1, columns]: means, then sums 1 .. K.
template <class X, int K>
__global__ void __launch_bounds__(BLOCK_THREADS) forward_chunks(LcSegmentCumulants in, double* partials) {
  const int64_t column = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  const Rows rows = chunk_in(in, blockIdx.x, int(threadIdx.y));
  if (column >= in.columns || rows.count() == 0) return;
  const X* x = static_cast<const X*>(in.x) + rows.first * in.row_stride + column;
  const State<K> state = reduce_rows<X, 32, K>(x, in.row_stride, rows.count());
  double* to = partials + (2 * int64_t(blockIdx.x) + threadIdx.y) * (K + 1) * in.columns + column;
  to[0] = state.mean;
  LC_UNROLL
  for (int k = 1; k <= K; ++k) to[k * in.columns] = state.sum[k];
}

// Merges the pieces of the long segment that starts in a window, in the order of its rows.
template <class T, int K>
__global__ void __launch_bounds__(BLOCK_THREADS)
forward_merge(LcSegmentCumulants in, const double* partials, T* out, T* residual) {
  const int64_t column = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  const Rows rows = long_segment(in, blockIdx.x, int(threadIdx.y));
  if (column >= in.columns || rows.count() == 0 || rows.first < int64_t(blockIdx.x) * CHUNK_ROWS) return;
  State<K> state;
  for (int64_t first = rows.first; first < rows.last; first += CHUNK_ROWS) {
    const double* from = partials + partial_index(rows, first) * (K + 1) * in.columns + column;
    State<K> piece{from[0], {double(min(CHUNK_ROWS, rows.last - first))}};
    LC_UNROLL
    for (int k = 1; k <= K; ++k) piece.sum[k] = from[k * in.columns];
    if (first == rows.first) state = piece;
    else merge_sums<K>(state.mean, state.sum, piece.mean, piece.sum);
  }
  write_column<T, K>(in, rows.segment, column, state, out, residual);
}

template <class X, int K>
int32_t launch(const LcSegmentCumulants& in, void* out, void* residual, void* workspace) {
  typedef typename WideOf<X>::type T;
  const cudaStream_t stream = static_cast<cudaStream_t>(in.stream);
  const unsigned wide = in.columns <= 32 ? 32 : in.columns <= 64 ? 64 : BLOCK_THREADS;
  const dim3 block(wide, BLOCK_THREADS / wide);
  const unsigned panels = unsigned((in.columns + wide - 1) / wide);
  const dim3 grid(unsigned((in.segments + block.y - 1) / block.y), panels);
  forward_segments<X, K><<<grid, block, 0, stream>>>(in, static_cast<T*>(out), static_cast<T*>(residual));
  if (in.rows > CHUNK_ROWS) {
    const dim3 pair(64, 2), windows(unsigned(window_count(in)), unsigned((in.columns + 63) / 64));
    double* partials = static_cast<double*>(workspace);
    forward_chunks<X, K><<<windows, pair, 0, stream>>>(in, partials);
    forward_merge<T, K><<<windows, pair, 0, stream>>>(in, partials, static_cast<T*>(out), static_cast<T*>(residual));
  }
  return int32_t(cudaGetLastError());
}

template <class X>
int32_t launch_order(const LcSegmentCumulants& in, void* out, void* residual, void* workspace) {
  return in.order > 4 ? launch<X, 8>(in, out, residual, workspace) : launch<X, 4>(in, out, residual, workspace);
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int64_t lc_cuda_segment_cumulants_workspace(const LcSegmentCumulants* in) {
  if (in->rows <= CHUNK_ROWS) return 0;
  return 2 * window_count(*in) * (in->order > 4 ? 9 : 5) * in->columns * int64_t(sizeof(double));
}

LC_API int32_t lc_cuda_segment_cumulants(const LcSegmentCumulants* in, void* out, void* residual, void* workspace) {
  if (in->order < 1 || in->order > MAX_ORDER) return LC_BAD_ARGUMENT;
  if (in->segments == 0 || in->columns == 0) return LC_OK;
  switch (in->type) {
    case LC_FLOAT32: return launch_order<float>(*in, out, residual, workspace);
    case LC_FLOAT64: return launch_order<double>(*in, out, residual, workspace);
    case LC_FLOAT16: return launch_order<__half>(*in, out, residual, workspace);
    case LC_BFLOAT16: return launch_order<__nv_bfloat16>(*in, out, residual, workspace);
    default: return LC_BAD_ARGUMENT;
  }
}
