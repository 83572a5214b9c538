// One-sided Jacobi rotations: columns made orthogonal are left singular vectors times singular values. Those of the
// Cholesky factor of a positive semidefinite matrix are its eigenvectors, their squared lengths its eigenvalues, and no
// second matrix is needed (Veselic and Hari, Numer. Math. 56, 627 (1989)). A shift of the diagonal by a few roundings
// keeps every column above zero, so the eigenvectors of a deficient matrix are orthonormal too; it is taken off the
// eigenvalues again.
#pragma once
#include "../include/latentcmp.h"
#include "team.cuh"

namespace latentcmp {

constexpr double ROUNDING = 2.220446049250313e-16;
constexpr double NOTHING = 1e-280;  // of a smaller trace the shift would leave the range of numbers: taken for 0
constexpr int MAX_SWEEPS = 40;      // 6 to 16 are met; a bound, so that no input runs for ever

// The lower triangle of a block of `gram` (row stride `stride`), shifted; returns the shift.
template <class Team>
__device__ double load_shifted(const Columns<Team>& w, const double* gram, int64_t stride) {
  double trace = 0;
  for (int i = my_lane(); i < w.n; i += WARP) trace += gram[i * (stride + 1)];
  trace = warp_sum(trace);
  const double shift = trace > NOTHING ? w.n * ROUNDING * trace : 1.0;
  w.each(0, [&](int j, double* column) {
    for (int i = my_lane(); i < w.n; i += WARP)
      column[i] = i < j ? 0.0 : gram[j * stride + i] + (i == j ? shift : 0.0);
  });
  Team::sync();
  return shift;
}

// In place; `pivot` is this block's room for one column.
template <class Team>
__device__ void factorise(const Columns<Team>& w, double shift, double* pivot) {
  for (int p = 0; p < w.n; ++p) {
    const double* from = w[p];
    const double root = sqrt(fmax(from[p], shift / 4));  // rounding can eat the shift
    for (int i = p + int(threadIdx.x); i < w.n; i += blockDim.x) pivot[i] = i == p ? root : from[i] / root;
    Team::sync();
    w.each(p, [&](int j, double* column) {
      for (int i = j + my_lane(); i < w.n; i += WARP)
        column[i] = j == p ? pivot[i] : column[i] - pivot[i] * pivot[j];
    });
    Team::sync();
  }
}

// Makes columns a and b orthogonal in their first elements if they are not; every lane of a warp takes part, with no
// elements where there is no pair.
__device__ inline bool rotate(double* a, double* b, int measured, int rows, int lanes, double tolerance) {
  double aa = 0, bb = 0, ab = 0;
  const int first = threadIdx.x % lanes;
  for (int i = first; i < measured; i += lanes) {
    aa += a[i] * a[i];
    bb += b[i] * b[i];
    ab += a[i] * b[i];
  }
  aa = warp_sum(aa, lanes), bb = warp_sum(bb, lanes), ab = warp_sum(ab, lanes);
  if (!(fabs(ab) > tolerance * sqrt(aa) * sqrt(bb))) return false;
  const double slope = (bb - aa) / (2 * ab);
  const double tangent = copysign(1 / (fabs(slope) + sqrt(1 + slope * slope)), slope);
  const double cosine = 1 / sqrt(1 + tangent * tangent), sine = cosine * tangent, half = sine / (1 + cosine);
  for (int i = first; i < rows; i += lanes) {  // Rutishauser's form: small angles leave no rounding of the cosine
    const double u = a[i], v = b[i];
    a[i] = u - sine * (v + half * u);
    b[i] = v + sine * (u - half * v);
  }
  return true;
}

// Rotates all pairs, those of one round of a tournament at once, until a whole sweep finds nothing to do.
template <class Team>
__device__ void orthogonalise(const Columns<Team>& w, int* flag) {
  const int pairs = (w.n + 1) / 2, rounds = 2 * pairs - 1, blocks = Team::blocks();
  const int share = int(share_of(pairs, blocks));
  int lanes = WARP;
  while (lanes * share > int(blockDim.x)) lanes /= 2;
  const int pair = int(threadIdx.x) / lanes * blocks + Team::rank();
  const double tolerance = ROUNDING * sqrt(double(w.measured));
  bool turned = true;
  for (int sweep = 0; turned && sweep < MAX_SWEEPS; ++sweep) {
    turned = false;
    for (int round = 0; round < rounds; ++round) {
      const int ahead = round + pair, behind = round - pair;
      const int p = pair == 0 ? rounds : ahead < rounds ? ahead : ahead - rounds;
      const int q = behind < 0 ? behind + rounds : behind;
      const bool plays = pair < pairs && p < w.n && q < w.n;
      turned |= rotate(w[plays ? p : 0], w[plays ? q : 0], plays ? w.measured : 0, w.rows, lanes, tolerance);
      Team::sync();
    }
    turned = Team::any(turned, flag);
  }
}

// Squared lengths of this block's columns, into its room for n numbers.
template <class Team>
__device__ void measure(const Columns<Team>& w, double* lengths) {
  w.each(0, [&](int j, double* column) {
    double sum = 0;
    for (int i = my_lane(); i < w.measured; i += WARP) sum += column[i] * column[i];
    sum = warp_sum(sum);
    if (my_lane() == 0) lengths[j] = sum;
  });
  Team::sync();
}

// Where column j of this block stands when the longest comes first.
template <class Team>
__device__ int place_of(const Columns<Team>& w, int j, double* lengths) {
  int place = 0;
  for (int i = my_lane(); i < w.n; i += WARP) {
    const double other = Team::seen_in(lengths, i % Team::blocks())[i];
    place += other > lengths[j] || (i < j && !(lengths[j] > other));
  }
  return warp_sum(place);
}

// The `out.rank` largest, in falling order.
template <class Team>
__device__ void write_spectrum(const Columns<Team>& w, double shift, double* lengths, const LcSpectrum& out,
                               int64_t problem) {
  double* squares = out.squares + problem * out.rank;
  double* directions = out.directions + problem * out.rank * w.n;
  measure(w, lengths);
  w.each(0, [&](int j, double* column) {
    const int place = place_of(w, j, lengths);
    if (place >= out.rank) return;
    if (my_lane() == 0) squares[place] = lengths[j] - shift;
    const double norm = sqrt(lengths[j]);
    for (int i = my_lane(); i < w.n; i += WARP) directions[i * out.rank + place] = column[i] / norm;
  });
  Team::sync();  // no block may end while others still read its lengths
}

}  // namespace latentcmp
