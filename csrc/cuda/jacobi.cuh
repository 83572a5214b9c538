// One-sided Jacobi rotations: the orthogonalised columns are left singular vectors times singular values. Those of the
// Cholesky factor of a positive semidefinite matrix are its eigenvectors, their squared norms its eigenvalues, and no
// second matrix is needed (Veselic and Hari, Numer. Math. 56, 627 (1989)). The diagonal is shifted by a few roundings, so that no
// column is zero and the eigenvectors of a singular matrix are orthonormal too; the eigenvalues are shifted back.
#pragma once
#include "../include/latentcmp.h"
#include "team.cuh"

namespace latentcmp {

constexpr double ROUNDING = 2.220446049250313e-16;
constexpr double MIN_TRACE = 1e-280;  // below it the shift would underflow: the matrix is taken as 0
constexpr int MAX_SWEEPS = 40;        // 6 to 16 are typical

// The lower triangle of a block of `gram` (row stride `stride`), shifted; returns the shift.
template <class Team>
__device__ double load_shifted(const Columns<Team>& w, const double* gram, int64_t stride) {
  double trace = 0;
  for (int i = my_lane(); i < w.n; i += WARP) trace += gram[i * (stride + 1)];
  trace = warp_sum(trace);
  const double shift = trace > MIN_TRACE ? w.n * ROUNDING * trace : 1.0;
  w.each(0, [&](int j, double* column) {
    for (int i = my_lane(); i < w.n; i += WARP)
      column[i] = i < j ? 0.0 : gram[j * stride + i] + (i == j ? shift : 0.0);
  });
  Team::sync();
  return shift;
}

// Cholesky factorisation in place; `pivot` is memory of this block for one column.
template <class Team>
__device__ void factorise(const Columns<Team>& w, double shift, double* pivot) {
  for (int p = 0; p < w.n; ++p) {
    const double* from = w[p];
    const double root = sqrt(fmax(from[p], shift / 4));  // rounding can exceed the shift
    for (int i = p + int(threadIdx.x); i < w.n; i += blockDim.x) pivot[i] = i == p ? root : from[i] / root;
    Team::sync();
    w.each(p, [&](int j, double* column) {
      for (int i = j + my_lane(); i < w.n; i += WARP)
        column[i] = j == p ? pivot[i] : column[i] - pivot[i] * pivot[j];
    });
    Team::sync();
  }
}

// Orthogonalises columns a and b in their first `measured` elements; false where they are orthogonal already. All lanes
// of a warp take part, with no elements where there is no pair.
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
  for (int i = first; i < rows; i += lanes) {  // Rutishauser's form is accurate for small angles
    const double u = a[i], v = b[i];
    a[i] = u - sine * (v + half * u);
    b[i] = v + sine * (u - half * v);
  }
  return true;
}

// Round-robin sweeps over all pairs, those of one round in parallel, until a sweep rotates none.
template <class Team>
__device__ void orthogonalise(const Columns<Team>& w, int* flag) {
  const int pairs = (w.n + 1) / 2, rounds = 2 * pairs - 1, blocks = Team::blocks();
  const int share = int(share_of(pairs, blocks));
  int lanes = WARP;
  while (lanes * share > int(blockDim.x)) lanes /= 2;
  const int pair = int(threadIdx.x) / lanes * blocks + Team::rank();
  const double tolerance = ROUNDING * sqrt(double(w.measured));
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < MAX_SWEEPS; ++sweep) {
    rotated = false;
    for (int round = 0; round < rounds; ++round) {
      const int ahead = round + pair, behind = round - pair;
      const int p = pair == 0 ? rounds : ahead < rounds ? ahead : ahead - rounds;
      const int q = behind < 0 ? behind + rounds : behind;
      const bool active = pair < pairs && p < w.n && q < w.n;
      rotated |= rotate(w[active ? p : 0], w[active ? q : 0], active ? w.measured : 0, w.rows, lanes, tolerance);
      Team::sync();
    }
    rotated = Team::any(rotated, flag);
  }
}

// Writes the squared norms of this block's columns to `norms`, which holds n numbers.
template <class Team>
__device__ void squared_norms(const Columns<Team>& w, double* norms) {
  w.each(0, [&](int j, double* column) {
    double sum = 0;
    for (int i = my_lane(); i < w.measured; i += WARP) sum += column[i] * column[i];
    sum = warp_sum(sum);
    if (my_lane() == 0) norms[j] = sum;
  });
  Team::sync();
}

// The rank of column j of this block in descending order of the norms.
template <class Team>
__device__ int place_of(const Columns<Team>& w, int j, double* norms) {
  int place = 0;
  for (int i = my_lane(); i < w.n; i += WARP) {
    const double other = Team::address_in(norms, i % Team::blocks())[i];
    place += other > norms[j] || (i < j && !(norms[j] > other));
  }
  return warp_sum(place);
}

// The `out.rank` largest, in descending order.
template <class Team>
__device__ void write_spectrum(const Columns<Team>& w, double shift, double* norms, const LcSpectrum& out,
                               int64_t problem) {
  double* squares = out.squares + problem * out.rank;
  double* directions = out.directions + problem * out.rank * w.n;
  squared_norms(w, norms);
  w.each(0, [&](int j, double* column) {
    const int place = place_of(w, j, norms);
    if (place >= out.rank) return;
    if (my_lane() == 0) squares[place] = norms[j] - shift;
    const double norm = sqrt(norms[j]);
    for (int i = my_lane(); i < w.n; i += WARP) directions[i * out.rank + place] = column[i] / norm;
  });
  Team::sync();  // other blocks still read the norms of this one
}

}  // namespace latentcmp
