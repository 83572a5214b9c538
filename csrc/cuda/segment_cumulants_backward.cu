// The gradient of the cumulants is a polynomial in the centred value with the same coefficients for all rows of a
// segment. One thread for each column reads x once and writes once.
#include "scalar.h"
#include "segment_cumulants_rows.cuh"
#include "../include/cumulants.h"

namespace latentcmp {
namespace {

__device__ __forceinline__ double tiny_of(float) { return 1.17549435e-38; }
__device__ __forceinline__ double tiny_of(double) { return 2.2250738585072014e-308; }

template <class T>
struct Cotangent {
  const T* grad;
  const T* out;
  const T* residual;
};

// In powers of (x - centre) * scale - left, scale a power of two near 1 / deviation, so that they fit float32.
template <class T, int K>
struct Polynomial {
  T centre, scale, left, coefficient[K];
};

template <class T, int K>
__device__ __forceinline__ Polynomial<T, K> polynomial_of(
    const LcSegmentCumulants& in, const Cotangent<T>& from, int64_t segment, int64_t column, double rows) {
  const int64_t offset = segment * in.order * in.columns + column;
  double g[K + 1] = {}, k[K + 1] = {}, coefficient[K];
  LC_UNROLL
  for (int m = 1; m <= K; ++m) {
    if (m > in.order) continue;
    g[m] = double(from.grad[offset + (m - 1) * in.columns]);
    k[m] = double(from.out[offset + (m - 1) * in.columns]);
  }
  if (in.root) through_roots<K>(g, k, tiny_of(T(0)));
  gradient_coefficients<K>(g, k, rows, coefficient);
  const bool scaled = K > 4 && sizeof(T) == 4 && k[2] > 1e-60;
  const double unit = scaled ? exp2(double(ilogb(k[2]) / 2)) : 1.0;
  Polynomial<T, K> p{T(k[1]), T(1.0 / unit), T(0), {}};
  if (from.residual) p.left = T(double(from.residual[segment * in.columns + column]) / unit);
  double power = 1.0;
  LC_UNROLL
  for (int j = 0; j < K; ++j, power *= unit) p.coefficient[j] = T(coefficient[j] * power);
  return p;
}

template <class X, int K>
__device__ __forceinline__ void gradient_of_rows(
    const LcSegmentCumulants& in, const Cotangent<typename WideOf<X>::type>& from, Rows rows, int64_t segment_rows,
    int64_t column, X* dx) {
  typedef typename WideOf<X>::type T;
  constexpr int R = 8;
  const Polynomial<T, K> p = polynomial_of<T, K>(in, from, rows.segment, column, double(segment_rows));
  const X* x = static_cast<const X*>(in.x) + column;
  for (int64_t row = rows.first; row < rows.last; row += R) {
    T value[R];
    LC_UNROLL
    for (int r = 0; r < R; ++r) value[r] = row + r < rows.last ? widen(x[(row + r) * in.row_stride]) : T(0);
    LC_UNROLL
    for (int r = 0; r < R; ++r) {
      const T d = (value[r] - p.centre) * p.scale - p.left;
      T slope = p.coefficient[K - 1];
      LC_UNROLL
      for (int j = K - 2; j >= 0; --j) slope = slope * d + p.coefficient[j];
      if (row + r < rows.last) narrow(slope, dx + (row + r) * in.columns + column);
    }
  }
}

template <class X, int K>
__global__ void __launch_bounds__(BLOCK_THREADS)
backward_segments(LcSegmentCumulants in, Cotangent<typename WideOf<X>::type> from, X* dx) {
  const int64_t segment = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t column = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (segment >= in.segments || column >= in.columns) return;
  const Rows rows = rows_of(in, segment);
  if (rows.count() == 0 || rows.count() > CHUNK_ROWS) return;
  gradient_of_rows<X, K>(in, from, rows, rows.count(), column, dx);
}

template <class X, int K>
__global__ void __launch_bounds__(BLOCK_THREADS)
backward_chunks(LcSegmentCumulants in, Cotangent<typename WideOf<X>::type> from, X* dx) {
  const int64_t column = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  const Rows rows = chunk_in(in, blockIdx.x, int(threadIdx.y));
  if (column >= in.columns || rows.count() == 0) return;
  gradient_of_rows<X, K>(in, from, rows, rows_of(in, rows.segment).count(), column, dx);
}

template <class X, int K>
int32_t launch(const LcSegmentCumulants& in, const void* grad, const void* out, const void* residual, void* dx) {
  typedef typename WideOf<X>::type T;
  const cudaStream_t stream = static_cast<cudaStream_t>(in.stream);
  const Cotangent<T> from{static_cast<const T*>(grad), static_cast<const T*>(out), static_cast<const T*>(residual)};
  const unsigned wide = in.columns <= 32 ? 32 : in.columns <= 64 ? 64 : BLOCK_THREADS;
  const dim3 block(wide, BLOCK_THREADS / wide);
  const unsigned panels = unsigned((in.columns + wide - 1) / wide);
  const dim3 grid(unsigned((in.segments + block.y - 1) / block.y), panels);
  backward_segments<X, K><<<grid, block, 0, stream>>>(in, from, static_cast<X*>(dx));
  if (in.rows > CHUNK_ROWS) {
    const dim3 pair(64, 2), windows(unsigned(window_count(in)), unsigned((in.columns + 63) / 64));
    backward_chunks<X, K><<<windows, pair, 0, stream>>>(in, from, static_cast<X*>(dx));
  }
  return int32_t(cudaGetLastError());
}

template <class X>
int32_t launch_order(const LcSegmentCumulants& in, const void* grad, const void* out, const void* residual, void* dx) {
  return in.order > 4 ? launch<X, 8>(in, grad, out, residual, dx) : launch<X, 4>(in, grad, out, residual, dx);
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cuda_segment_cumulants_backward(const LcSegmentCumulants* in, const void* grad, const void* out,
                                                  const void* residual, void* dx) {
  if (in->order < 1 || in->order > 8) return LC_BAD_ARGUMENT;
  if (in->rows == 0 || in->segments == 0 || in->columns == 0) return LC_OK;
  switch (in->type) {
    case LC_FLOAT32: return launch_order<float>(*in, grad, out, residual, dx);
    case LC_FLOAT64: return launch_order<double>(*in, grad, out, residual, dx);
    case LC_FLOAT16: return launch_order<__half>(*in, grad, out, residual, dx);
    case LC_BFLOAT16: return launch_order<__nv_bfloat16>(*in, grad, out, residual, dx);
    default: return LC_BAD_ARGUMENT;
  }
}
