// Singular value decompositions of many small matrices on chip: the rows of each are made orthogonal where they lie,
// and the rotations that do it, kept below them, are the left singular vectors.
#include "../include/latentcmp.h"
#include "jacobi.cuh"
#include "launch.cuh"

namespace latentcmp {
namespace {

template <class Team>
__global__ void __launch_bounds__(MAX_THREADS) decompose_rows(LcSmallSvd in, int) {
  extern __shared__ double memory[];
  const int count = int(in.count), columns = int(in.columns), rows = columns + count, blocks = Team::blocks();
  const int64_t problem = blockIdx.x / blocks;
  const Columns<Team> w{memory, count, rows | 1, columns, rows};
  double* lengths = memory + share_of(count, blocks) * w.stride;
  const double* from = in.rows + problem * in.count * in.columns;
  w.each(0, [&](int j, double* column) {
    for (int i = my_lane(); i < rows; i += WARP)
      column[i] = i < columns ? from[int64_t(j) * columns + i] : double(i - columns == j);
  });
  Team::sync();
  orthogonalise(w, reinterpret_cast<int*>(lengths + count));
  measure(w, lengths);
  double* u = in.u + problem * in.count * in.rank;
  double* vh = in.vh + problem * in.rank * in.columns;
  w.each(0, [&](int j, double* column) {
    const int place = place_of(w, j, lengths);
    if (place >= in.rank) return;
    const double s = sqrt(lengths[j]);
    if (my_lane() == 0) in.s[problem * in.rank + place] = s;
    for (int i = my_lane(); i < columns; i += WARP) vh[place * in.columns + i] = s == 0 ? 0.0 : column[i] / s;
    for (int i = my_lane(); i < count; i += WARP) u[i * in.rank + place] = column[columns + i];
  });
  Team::sync();  // no block may end while others still read its lengths
}

const TeamKernel<LcSmallSvd> KERNEL{decompose_rows<Block>, decompose_rows<Cluster>};
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

LC_API int32_t lc_cuda_small_svd_fit(int64_t count, int64_t columns) { return shape_for(count, columns).blocks > 0; }

LC_API int32_t lc_cuda_small_svd(const LcSmallSvd* in) {
  const Shape shape = shape_for(in->count, in->columns);
  const bool sound = in->problems >= 0 && in->rank >= 1 && in->rank <= in->count && in->rank <= in->columns;
  return sound && shape.blocks > 0 ? KERNEL.launch(shape, *in) : int32_t(LC_BAD_ARGUMENT);
}
