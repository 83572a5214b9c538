// Eigendecomposition of one small symmetric matrix: Householder reflections to a tridiagonal matrix, then implicit QL
// steps (Golub and Van Loan, Matrix Computations, sec. 8.3).
#pragma once
#include <cmath>
#include "inner_products.h"

namespace latentcmp {
namespace {

constexpr double EPSILON = 2.220446049250313e-16;
constexpr double NEGLIGIBLE = 1e-290;  // a squared norm that is taken as 0, before it underflows
constexpr int MAX_STEPS = 60;          // QL steps for one eigenvalue; 1 to 3 are typical

// A matrix as Q T Q', T tridiagonal and Q = H[n - 1] ... H[1]. Row i of `rows` holds the vector v of the reflection
// H[i] = 1 - tau[i] v v', in its first i elements and zeros behind them. All arrays have `stride` elements a row.
struct Tridiagonal {
  double *rows, *diagonal, *beside, *tau;  // beside[i] is T[i + 1][i]; on entry rows holds the matrix, both triangles
  int64_t n, stride;

  double* row(int64_t i) const { return rows + i * stride; }
};

// Makes `row` the vector of the reflection that maps its first m elements to multiples of the last of them.
inline void make_reflection(double* row, int64_t m, int64_t stride, double& multiple, double& tau) {
  const double last = row[m - 1];
  for (int64_t c = m - 1; c < stride; ++c) row[c] = 0;
  const double rest = inner_product(row, row, padded(m));
  multiple = last, tau = 0;
  if (!(rest > NEGLIGIBLE)) {
    for (int64_t c = 0; c < m; ++c) row[c] = 0;
    return;
  }
  multiple = -std::copysign(std::sqrt(last * last + rest), last);
  tau = (multiple - last) / multiple;
  const double scale = 1 / (last - multiple);
  for (int64_t c = 0; c < m - 1; ++c) row[c] *= scale;
  row[m - 1] = 1;
}

// Subtracts v[i] w + w[i] v from N rows from row i on, then writes their products with `next`.
template <int N>
inline void update_rows(const Tridiagonal& t, int64_t i, int64_t length, const double* v, const double* w,
                        const double* next, double* products) {
  Wide sums[GROUP] = {}, by_v[N], by_w[N];
  for (int n = 0; n < N; ++n) by_v[n] = v[i + n] - Wide{}, by_w[n] = w[i + n] - Wide{};
  for (int64_t c = 0; c < length; c += LANE) {
    const Wide of_v = load(v + c), of_w = load(w + c), of_next = load(next + c);
    for (int n = 0; n < N; ++n) {
      const Wide value = load(t.row(i + n) + c) - by_v[n] * of_w - by_w[n] * of_v;
      store(t.row(i + n) + c, value);
      sums[n] += value * of_next;
    }
  }
  double values[GROUP];
  sum_lanes(sums, values);
  for (int n = 0; n < N; ++n) products[i + n] = values[n];
}

// In place; `w` and `products` hold `stride` elements each. The update of a reflection, A - v w' - w v', is made in the
// pass over A that the next reflection needs.
inline void tridiagonalise(const Tridiagonal& t, double* w, double* products) {
  for (int64_t c = 0; c < t.stride; ++c) w[c] = 0;
  const double* v = w;  // zeros: nothing to subtract yet
  for (int64_t i = t.n - 1; i >= 1; --i) {
    double* row = t.row(i);
    const double by_v = v[i], by_w = w[i];
    add_multiple(row, -by_v, w, padded(i + 1));
    add_multiple(row, -by_w, v, padded(i + 1));
    t.diagonal[i] = row[i];
    make_reflection(row, i, t.stride, t.beside[i - 1], t.tau[i]);
    int64_t j = 0;
    for (; j + GROUP <= i; j += GROUP) update_rows<GROUP>(t, j, padded(i), v, w, row, products);
    for (; j < i; ++j) update_rows<1>(t, j, padded(i), v, w, row, products);
    for (int64_t c = i; c < t.stride; ++c) products[c] = 0;
    const double half = 0.5 * t.tau[i] * t.tau[i] * inner_product(products, row, padded(i));
    for (int64_t c = 0; c < t.stride; ++c) w[c] = t.tau[i] * products[c] - half * row[c];
    v = row;
  }
  t.diagonal[0] = t.row(0)[0];
}

// Q' x in place.
inline void rotate_forward(const Tridiagonal& t, double* x) {
  for (int64_t i = t.n - 1; i >= 2; --i)
    add_multiple(x, -t.tau[i] * inner_product(t.row(i), x, padded(i)), t.row(i), padded(i));
}

// Q x in place.
inline void rotate_back(const Tridiagonal& t, double* x) {
  for (int64_t i = 2; i < t.n; ++i)
    add_multiple(x, -t.tau[i] * inner_product(t.row(i), x, padded(i)), t.row(i), padded(i));
}

// Q' into `to`, n rows of `stride` elements.
inline void form_rotation(const Tridiagonal& t, double* to) {
  for (int64_t i = 0; i < t.n; ++i)
    for (int64_t c = 0; c < t.stride; ++c) to[i * t.stride + c] = c == i;
  for (int64_t i = 2; i < t.n; ++i)
    for (int64_t j = 0; j < i; ++j) {
      double* row = to + j * t.stride;
      add_multiple(row, -t.tau[i] * inner_product(t.row(i), row, padded(i)), t.row(i), padded(i));
    }
}

// Rotation i is one of rows i and i + 1.
struct Rotations {
  double *cosine, *sine;
};

// Applies rotations of rows first .. last and the row behind each, the last one first, to some columns. One of the two
// rows is that of the next rotation too and stays in registers.
template <int COLUMNS>
inline void rotate_columns(double* rows, int64_t stride, const Rotations& rotations, int64_t first, int64_t last) {
  constexpr int PACKS = COLUMNS / LANE;
  Wide carried[PACKS];
  for (int p = 0; p < PACKS; ++p) carried[p] = load(rows + last * stride + p * LANE);
  for (int64_t i = last - 1; i >= first; --i) {
    const Wide cosine = rotations.cosine[i] - Wide{}, sine = rotations.sine[i] - Wide{};
    double* row = rows + i * stride;
    for (int p = 0; p < PACKS; ++p) {
      const Wide upper = load(row + p * LANE), lower = carried[p];
      store(row + stride + p * LANE, sine * upper + cosine * lower);
      carried[p] = cosine * upper - sine * lower;
    }
  }
  for (int p = 0; p < PACKS; ++p) store(rows + first * stride + p * LANE, carried[p]);
}

inline void rotate_rows(double* rows, int64_t stride, const Rotations& rotations, int64_t first, int64_t last) {
  constexpr int64_t WIDE = 2 * STRIDE_STEP;
  int64_t start = 0;
  for (; start + WIDE <= stride; start += WIDE) rotate_columns<WIDE>(rows + start, stride, rotations, first, last);
  if (start < stride) rotate_columns<STRIDE_STEP>(rows + start, stride, rotations, first, last);
}

// One implicit QL step on the unreduced block first .. last; returns the first rotated row.
inline int64_t ql_step(double* d, double* e, int64_t first, int64_t last, const Rotations& rotations) {
  double g = (d[first + 1] - d[first]) / (2 * e[first]);
  g = d[last] - d[first] + e[first] / (g + std::copysign(std::sqrt(g * g + 1), g));
  double sine = 1, cosine = 1, shift = 0;
  for (int64_t i = last - 1; i >= first; --i) {
    const double f = sine * e[i], b = cosine * e[i], norm = std::sqrt(f * f + g * g);
    if (i + 1 < last) e[i + 1] = norm;
    if (norm == 0) {
      d[i + 1] -= shift, e[last] = 0;
      return i + 1;
    }
    sine = f / norm, cosine = g / norm;
    g = d[i + 1] - shift;
    const double r = (d[i] - g) * sine + 2 * cosine * b;
    shift = sine * r;
    d[i + 1] = g + shift;
    g = cosine * r - b;
    rotations.cosine[i] = cosine, rotations.sine[i] = sine;
  }
  d[first] -= shift, e[first] = g, e[last] = 0;
  return first;
}

// The eigenvalues of T into `d`; `rows` become eigenvectors of the matrix where they are Q' before. e holds n elements,
// the last of them unused.
inline void diagonalise(double* d, double* e, int64_t n, double* rows, int64_t stride, const Rotations& rotations) {
  double norm = 0;
  for (int64_t i = 0; i < n; ++i) norm = std::max(norm, std::fabs(d[i]) + (i + 1 < n ? 2 * std::fabs(e[i]) : 0));
  const double negligible = 0.25 * EPSILON * norm;
  for (int64_t first = 0; first < n; ++first)
    for (int step = 0; step < MAX_STEPS; ++step) {
      int64_t last = first;
      while (last < n - 1 && std::fabs(e[last]) > negligible) ++last;
      if (last == first) break;
      const int64_t rotated = ql_step(d, e, first, last, rotations);
      rotate_rows(rows, stride, rotations, rotated, last);
    }
}

// Whether T < bound, for several bounds: all pivots of bound - T are positive then.
constexpr int BOUNDS = 8;
inline void mark_above(const Tridiagonal& t, const double* bounds, bool* above) {
  constexpr int PACKS = BOUNDS / LANE;
  Wide bound[PACKS], pivot[PACKS];
  PackBits positive[PACKS];
  for (int p = 0; p < PACKS; ++p) {
    bound[p] = load(bounds + p * LANE);
    pivot[p] = bound[p] - t.diagonal[0];
    positive[p] = pivot[p] > Wide{};
  }
  for (int64_t i = 1; i < t.n; ++i) {
    const Wide square = t.beside[i - 1] * t.beside[i - 1] - Wide{};
    for (int p = 0; p < PACKS; ++p) {
      pivot[p] = bound[p] - t.diagonal[i] - square / pivot[p];
      positive[p] &= pivot[p] > Wide{};
    }
  }
  for (int p = 0; p < BOUNDS; ++p) above[p] = positive[p / LANE][p % LANE] != 0;
}

// The largest eigenvalue of T, positive semidefinite but for rounding, in intervals BOUNDS + 1 times smaller each time.
inline double largest_eigenvalue(const Tridiagonal& t) {
  double low = 0, high = 0;
  for (int64_t i = 0; i < t.n; ++i) {
    low = std::max(low, t.diagonal[i]);
    const double left = i ? std::fabs(t.beside[i - 1]) : 0, right = i + 1 < t.n ? std::fabs(t.beside[i]) : 0;
    high = std::max(high, t.diagonal[i] + left + right);
  }
  while (high - low > EPSILON * high) {
    double bounds[BOUNDS];
    bool above[BOUNDS];
    for (int p = 0; p < BOUNDS; ++p) bounds[p] = low + (high - low) * ((p + 1.0) / (BOUNDS + 1.0));
    mark_above(t, bounds, above);
    const double before = high - low;
    int p = 0;
    while (p < BOUNDS && !above[p]) ++p;
    if (p < BOUNDS) high = bounds[p];
    if (p > 0) low = bounds[p - 1];
    if (!(high - low < before)) break;
  }
  return high;
}

// x = (T + shift)^-1 x for a shift above 0. No pivot is below the shift but by rounding, as T is positive semidefinite.
inline void solve_shifted(const Tridiagonal& t, double shift, double* x, double* pivots) {
  pivots[0] = std::max(t.diagonal[0] + shift, shift);
  for (int64_t i = 1; i < t.n; ++i) {
    const double factor = t.beside[i - 1] / pivots[i - 1];
    pivots[i] = std::max(t.diagonal[i] + shift - factor * t.beside[i - 1], shift);
    x[i] -= factor * x[i - 1];
  }
  x[t.n - 1] /= pivots[t.n - 1];
  for (int64_t i = t.n - 2; i >= 0; --i) x[i] = (x[i] - t.beside[i] * x[i + 1]) / pivots[i];
}

}  // namespace
}  // namespace latentcmp
