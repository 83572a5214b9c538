// Squared errors of ridge maps of every strength: one thread processes one column of the target in one problem, so the
// order of every sum is fixed.
#include "../include/latentcmp.h"

namespace latentcmp {
namespace {

constexpr int BLOCK_THREADS = 128;  // columns
constexpr int ROWS = 8;             // held in registers

struct Column {
  int64_t problem, index;
  bool inside;
};

__device__ inline Column my_column(const LcRidgeFold& in) {
  const int64_t index = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  return {int64_t(blockIdx.x), index, index < in.columns};
}

__device__ inline const double* target(const LcRidgeFold& in, const Column& at, int64_t row) {
  return in.y + (at.problem * (in.count + in.other_count) + row) * in.columns + at.index;
}

// Adds factor * from[n] to block[n] for row + n < rows.
__device__ inline void add_multiple(double* block, double factor, const double* from, int64_t row, int64_t rows) {
#pragma unroll
  for (int n = 0; n < ROWS; ++n)
    if (row + n < rows) block[n] += factor * from[n];
}

// Coefficients of the fitted rows along the directions, into the workspace.
__global__ void __launch_bounds__(BLOCK_THREADS) local_ridge_project(LcRidgeFold in, double* workspace) {
  const Column at = my_column(in);
  if (!at.inside) return;
  double* coefficients = workspace + at.problem * in.rank * in.columns + at.index;
  const double* directions = in.directions + at.problem * in.count * in.rank;
  const double* y = target(in, at, in.start);
  for (int64_t row = 0; row < in.rank; row += ROWS) {
    double block[ROWS] = {};
    for (int64_t i = 0; i < in.count; ++i)
      add_multiple(block, y[i * in.columns], directions + i * in.rank + row, row, in.rank);
#pragma unroll
    for (int n = 0; n < ROWS; ++n)
      if (row + n < in.rank) coefficients[(row + n) * in.columns] = block[n];
  }
}

__global__ void __launch_bounds__(BLOCK_THREADS)
local_ridge_squares(LcRidgeFold in, const double* workspace, double* squares) {
  const Column at = my_column(in);
  if (!at.inside) return;
  const double* coefficients = workspace + at.problem * in.rank * in.columns + at.index;
  const double* projected = in.projected + at.problem * in.rank * in.other_count;
  const double* y = target(in, at, in.other_start);
  for (int64_t a = 0; a < in.n_strengths; ++a) {
    const double* filters = in.filters + (at.problem * in.n_strengths + a) * in.rank;
    double sum = 0;
    for (int64_t row = 0; row < in.other_count; row += ROWS) {
      double block[ROWS];  // the residual
#pragma unroll
      for (int n = 0; n < ROWS; ++n) block[n] = row + n < in.other_count ? y[(row + n) * in.columns] : 0.0;
      for (int64_t i = 0; i < in.rank; ++i) {
        const double factor = -filters[i] * coefficients[i * in.columns];
        add_multiple(block, factor, projected + i * in.other_count + row, row, in.other_count);
      }
#pragma unroll
      for (int n = 0; n < ROWS; ++n) sum += block[n] * block[n];
    }
    squares[(at.problem * in.n_strengths + a) * in.columns + at.index] = sum;
  }
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cuda_local_ridge(const LcRidgeFold* in, double* squares, double* workspace) {
  if (in->columns < 1 || in->n_strengths < 1 || in->problems < 0) return LC_BAD_ARGUMENT;
  if (in->count < 1 || in->other_count < 1 || in->rank < 1) return LC_BAD_ARGUMENT;
  if (in->problems == 0) return LC_OK;
  const cudaStream_t stream = static_cast<cudaStream_t>(in->stream);
  const dim3 block(BLOCK_THREADS);
  const dim3 grid(unsigned(in->problems), unsigned((in->columns + BLOCK_THREADS - 1) / BLOCK_THREADS));
  local_ridge_project<<<grid, block, 0, stream>>>(*in, workspace);
  local_ridge_squares<<<grid, block, 0, stream>>>(*in, workspace, squares);
  return int32_t(cudaGetLastError());
}
