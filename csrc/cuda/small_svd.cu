// Singular value decompositions of many small matrices in shared memory: the rows of each are orthogonalised in place,
// and the product of the rotations, stored below them, holds the left singular vectors.
#include "../include/latentcmp.h"
#include "jacobi.cuh"
#include "launch.cuh"

namespace latentcmp {
namespace {

template <class Team>
__global__ void __launch_bounds__(MAX_THREADS) small_svd_kernel(LcSmallSvd in, int) {
  extern __shared__ double memory[];
  const int count = int(in.count), columns = int(in.columns), rows = columns + count, blocks = Team::blocks();
  const int64_t problem = blockIdx.x / blocks;
  const Columns<Team> w{memory, count, rows | 1, columns, rows};
  double* norms = memory + share_of(count, blocks) * w.stride;
  const double* from = in.rows + problem * in.count * in.columns;
  w.each(0, [&](int j, double* column) {
    for (int i = my_lane(); i < rows; i += WARP)
      column[i] = i < columns ? from[int64_t(j) * columns + i] : double(i - columns == j);
  });
  Team::sync();
  orthogonalise(w, reinterpret_cast<int*>(norms + count));
  squared_norms(w, norms);
  double* u = in.u + problem * in.count * in.rank;
  double* vh = in.vh + problem * in.rank * in.columns;
  w.each(0, [&](int j, double* column) {
    const int place = place_of(w, j, norms);
    if (place >= in.rank) return;
    const double s = sqrt(norms[j]);
    if (my_lane() == 0) in.s[problem * in.rank + place] = s;
    for (int i = my_lane(); i < columns; i += WARP) vh[place * in.columns + i] = s == 0 ? 0.0 : column[i] / s;
    for (int i = my_lane(); i < count; i += WARP) u[i * in.rank + place] = column[columns + i];
  });
  Team::sync();  // other blocks still read the norms of this one
}

const TeamKernel<LcSmallSvd> KERNEL{small_svd_kernel<Block>, small_svd_kernel<Cluster>};
constexpr int64_t MAX_COLUMNS = 1 << 20;

Shape shape_for(int64_t count, int64_t columns) {
  if (columns < 1 || columns > MAX_COLUMNS) return {};
  return KERNEL.shape_for(count, [=](int64_t blocks, int64_t) {
    return share_of(count, blocks) * ((columns + count) | 1) + count + 1;
  });
}

}  // namespace
}  // namespace latentcmp

using namespace latentcmp;

LC_API int32_t lc_cuda_small_svd_fits(int64_t count, int64_t columns) { return shape_for(count, columns).blocks > 0; }

LC_API int32_t lc_cuda_small_svd(const LcSmallSvd* in) {
  const Shape shape = shape_for(in->count, in->columns);
  const bool valid = in->problems >= 0 && in->rank >= 1 && in->rank <= in->count && in->rank <= in->columns;
  return valid && shape.blocks > 0 ? KERNEL.launch(shape, *in) : int32_t(LC_BAD_ARGUMENT);
}
