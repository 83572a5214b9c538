// Rows minus a centre and their squared norms, in one pass; compiled once for each instruction set, whose name is
// LATENTCMP_ISA.
#include "centred_rows_work.h"
#include "simd.h"

namespace latentcmp {
namespace {

constexpr int64_t AHEAD = 4;  // rows between the one that is read and the one that is prefetched
constexpr int PACKS = 2;      // independent sums
constexpr int64_t LANE = LANES<double>, STEP = PACKS * LANE;

template <class X>
void fetch(const X* row, int64_t columns) {
  for (int64_t c = 0; c < columns; c += 64 / int64_t(sizeof(X))) prefetch(row + c);
}

// One row into `to`; returns its squared norm.
template <class X>
double centre_row(const X* from, const double* centre, double* to, int64_t columns) {
  Pack<double> sums[PACKS] = {};
  int64_t c = 0;
  for (; c + STEP <= columns; c += STEP)
    for (int p = 0; p < PACKS; ++p) {
      const Pack<double> v = load_wide(from + c + p * LANE) - load(centre + c + p * LANE);
      store(to + c + p * LANE, v);
      sums[p] += v * v;
    }
  double sum = 0;
  for (; c < columns; ++c) {
    to[c] = double(from[c]) - centre[c];
    sum += to[c] * to[c];
  }
  for (int l = 0; l < LANE; ++l) sum += sums[0][l] + sums[1][l];
  return sum;
}

template <class X>
void centre_rows(const LcCentredRows& in, int64_t first, int64_t last) {
  const X* x = static_cast<const X*>(in.x);
  for (int64_t i = first; i < last; ++i) {
    if (i + AHEAD < last) fetch(x + in.rows[i + AHEAD] * in.row_stride, in.columns);
    double* to = in.out + i * in.out_stride;
    in.squares[i * in.squares_stride] = centre_row(x + in.rows[i] * in.row_stride, in.centre, to, in.columns);
  }
}

}  // namespace

CentredRowsKernel LC_OF_ISA(centred_rows_kernel)(int32_t type) {
  return type == LC_FLOAT64 ? centre_rows<double> : centre_rows<float>;
}

}  // namespace latentcmp
