// Rows gathered and centred, their Gram matrix, and the eigendecompositions of its two diagonal blocks and of the
// whole, in shared memory. One warp, one block or one cluster of blocks solves a problem.
#include "../include/latentcmp.h"
#include "jacobi.cuh"
#include "launch.cuh"

namespace latentcmp {
namespace {

// The mean of the centred rows is subtracted again: with a large common offset it is the rounding of the first mean.
template <class Team>
__device__ void centre_rows(const LcGramSpectra& in, int64_t problem) {
  const int64_t* rows = in.rows + problem * in.count;
  double* centred = in.centred + problem * in.count * in.columns;
  const int64_t step = int64_t(Team::blocks()) * blockDim.x;
  for (int64_t c = int64_t(Team::rank()) * blockDim.x + threadIdx.x; c < in.columns; c += step) {
    double mean = 0, rest = 0;
    for (int64_t i = 0; i < in.count; ++i) mean += in.x[rows[i] * in.row_stride + c];
    mean /= double(in.count);
    for (int64_t i = 0; i < in.count; ++i) rest += in.x[rows[i] * in.row_stride + c] - mean;
    rest /= double(in.count);
    for (int64_t i = 0; i < in.count; ++i)
      centred[i * in.columns + c] = in.x[rows[i] * in.row_stride + c] - mean - rest;
    in.mean[problem * in.columns + c] = mean + rest;
  }
  Team::sync();
}

// Accumulated in `w` over tiles of columns of the rows, then written out; `panel` holds count x (tile + 1).
template <class Team>
__device__ void form_gram(const LcGramSpectra& in, int64_t problem, const Columns<Team>& w, double* panel,
                          int tile) {
  const double* centred = in.centred + problem * in.count * in.columns;
  for (int64_t start = 0; start < in.columns; start += tile) {
    for (int e = threadIdx.x; e < w.n * tile; e += blockDim.x) {
      const int i = e / tile, c = e % tile;
      panel[i * (tile + 1) + c] = start + c < in.columns ? centred[i * in.columns + start + c] : 0.0;
    }
    __syncthreads();
    w.each(0, [&](int j, double* column) {
      const double* right = panel + j * (tile + 1);
      for (int i = j + my_lane(); i < w.n; i += WARP) {
        const double* left = panel + i * (tile + 1);
        double sum = start == 0 ? 0.0 : column[i];
        for (int c = 0; c < tile; ++c) sum += left[c] * right[c];
        column[i] = sum;
      }
    });
    __syncthreads();
  }
  double* gram = in.gram + problem * in.count * in.count;
  w.each(0, [&](int j, double* column) {
    for (int i = j + my_lane(); i < w.n; i += WARP) gram[i * in.count + j] = gram[j * in.count + i] = column[i];
  });
  Team::sync();
}

template <class Team>
__global__ void __launch_bounds__(MAX_THREADS) gram_spectra_kernel(LcGramSpectra in, int tile) {
  extern __shared__ double memory[];
  const int count = int(in.count), stride = count | 1, blocks = Team::blocks();
  const int64_t problem = blockIdx.x / blocks;
  double* room = memory + share_of(count, blocks) * stride;
  int* flag = reinterpret_cast<int*>(room + count * (tile + 1));
  centre_rows<Team>(in, problem);
  form_gram(in, problem, Columns<Team>{memory, count, stride, count, count}, room, tile);
  for (int part = 0; part < 3; ++part) {
    const LcSpectrum& out = in.spectra[part];
    const Columns<Team> w{memory, int(out.count), stride, int(out.count), int(out.count)};
    const int64_t first = part == 1 ? in.spectra[0].count : 0;
    const double* gram = in.gram + problem * in.count * in.count + first * (in.count + 1);
    const double shift = load_shifted(w, gram, in.count);
    factorise(w, shift, room);
    orthogonalise(w, flag);
    write_spectrum(w, shift, room, out, problem);
  }
}

const TeamKernel<LcGramSpectra> KERNEL{gram_spectra_kernel<Block>, gram_spectra_kernel<Cluster>};

Shape shape_for(int64_t count) {
  return KERNEL.shape_for(count, [count](int64_t blocks, int64_t tile) {
    return share_of(count, blocks) * (count | 1) + count * (tile + 1) + 1;
  });
}

bool valid(const LcGramSpectra& in) {
  const LcSpectrum* parts = in.spectra;
  if (in.columns < 1 || in.problems < 0 || parts[0].count + parts[1].count != in.count || parts[2].count != in.count)
    return false;
  for (int part = 0; part < 3; ++part)
    if (parts[part].count < 1 || parts[part].rank < 1 || parts[part].rank > parts[part].count) return false;
  return true;
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cuda_gram_spectra_fits(int64_t count) { return shape_for(count).blocks > 0; }

LC_API int32_t lc_cuda_gram_spectra(const LcGramSpectra* in) {
  const Shape shape = shape_for(in->count);
  return valid(*in) && shape.blocks > 0 ? KERNEL.launch(shape, *in) : int32_t(LC_BAD_ARGUMENT);
}
