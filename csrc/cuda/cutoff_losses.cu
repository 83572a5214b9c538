// Squared errors of every cutoff: one thread processes one column of the target in one problem, so the order of every
// sum is fixed.
#include "../include/latentcmp.h"

namespace latentcmp {
namespace {

constexpr int BLOCK_THREADS = 128;  // columns
constexpr int ROWS = 8;             // held in registers

struct Column {
  int64_t problem, index;
  bool inside;
};

__device__ inline Column my_column(const LcCutoffLosses& in) {
  const int64_t index = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  return {int64_t(blockIdx.x), index, index < in.columns};
}

__device__ inline double target(const LcCutoffLosses& in, const LcFold& fold, const Column& at, int64_t i) {
  return in.y[fold.rows[at.problem * fold.count + i] * in.row_stride + at.index];
}

// Subtracts the sum over i in first .. last of left[i][row + n] right[i], for row + n < rows.
__device__ inline void subtract(double* block, const double* left, int64_t row, int64_t rows, const double* right,
                                int64_t columns, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    const double factor = right[i * columns];
    const double* from = left + i * rows + row;
#pragma unroll
    for (int n = 0; n < ROWS; ++n)
      if (row + n < rows) block[n] -= from[n] * factor;
  }
}

// Workspace: the negated coefficients in rows 0 .. rank, the mean over the rows of both folds in row `rank`.
__global__ void __launch_bounds__(BLOCK_THREADS)
cutoff_losses_project(LcCutoffLosses in, int32_t fitted, double* workspace) {
  const Column at = my_column(in);
  if (!at.inside) return;
  const LcFold& fold = in.folds[fitted];
  double* coefficients = workspace + at.problem * (fold.rank + 1) * in.columns + at.index;
  double mean = 0;
  for (int side = 0; side < 2; ++side)
    for (int64_t i = 0; i < in.folds[side].count; ++i) mean += target(in, in.folds[side], at, i);
  mean /= double(in.folds[0].count + in.folds[1].count);
  coefficients[fold.rank * in.columns] = mean;
  const double* directions = fold.directions + at.problem * fold.count * fold.rank;
  for (int64_t row = 0; row < fold.kept[at.problem * in.alphas]; row += ROWS) {
    double block[ROWS] = {};
    for (int64_t i = 0; i < fold.count; ++i) {
      const double centred = target(in, fold, at, i) - mean;
      subtract(block, directions + i * fold.rank, row, fold.rank, &centred, 0, 0, 1);
    }
#pragma unroll
    for (int n = 0; n < ROWS; ++n)
      if (row + n < fold.rank) coefficients[(row + n) * in.columns] = block[n];
  }
}

// ROWS rows at a time, alphas in descending order, so that directions are only added.
__global__ void __launch_bounds__(BLOCK_THREADS)
cutoff_losses_squares(LcCutoffLosses in, int32_t fitted, const double* workspace, double* squares) {
  const Column at = my_column(in);
  if (!at.inside) return;
  const LcFold &fold = in.folds[fitted], &other = in.folds[1 - fitted];
  const double* coefficients = workspace + at.problem * (fold.rank + 1) * in.columns + at.index;
  const double* projected = fold.projected + at.problem * fold.rank * other.count;
  const int64_t* kept = fold.kept + at.problem * in.alphas;
  const double mean = coefficients[fold.rank * in.columns];
  double* sums = squares + at.problem * in.alphas * in.columns + at.index;
  for (int64_t row = 0; row < other.count; row += ROWS) {
    double block[ROWS];  // the negated residual
#pragma unroll
    for (int n = 0; n < ROWS; ++n) block[n] = row + n < other.count ? mean - target(in, other, at, row + n) : 0.0;
    int64_t done = 0;
    for (int64_t a = in.alphas - 1; a >= 0; --a) {
      subtract(block, projected, row, other.count, coefficients, in.columns, done, kept[a]);
      double sum = row == 0 ? 0.0 : sums[a * in.columns];
#pragma unroll
      for (int n = 0; n < ROWS; ++n) sum += block[n] * block[n];
      sums[a * in.columns] = sum;
      done = kept[a];
    }
  }
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cuda_cutoff_losses(const LcCutoffLosses* in, int32_t fitted, double* squares, double* workspace) {
  if (in->columns < 1 || in->alphas < 1 || in->problems < 0 || fitted < 0 || fitted > 1) return LC_BAD_ARGUMENT;
  if (in->problems == 0) return LC_OK;
  const cudaStream_t stream = static_cast<cudaStream_t>(in->stream);
  const dim3 block(BLOCK_THREADS);
  const dim3 grid(unsigned(in->problems), unsigned((in->columns + BLOCK_THREADS - 1) / BLOCK_THREADS));
  cutoff_losses_project<<<grid, block, 0, stream>>>(*in, fitted, workspace);
  cutoff_losses_squares<<<grid, block, 0, stream>>>(*in, fitted, workspace, squares);
  return int32_t(cudaGetLastError());
}
