// Errors of one test row for all targets; compiled once for each instruction set, whose name is LATENTCMP_ISA.
//
// Rows enter as differences to the first of them, times a power of two, minus their mean: equal rows are zeros exactly
// and no square overflows. A loss is a quadratic form in the filter f, |y_o|^2 - 2 f.a + f'(H o G)f, so that all
// strengths together cost less than one product of matrices.
#include "local_ridge_work.h"
#include "symmetric_eigen.h"

namespace latentcmp {
namespace {

constexpr int LOWEST_EXPONENT = -1000;  // smaller numbers are not scaled to 1
constexpr double ROUNDING = 1e-28;      // of a fold's share of the trace: its rows are at the mean but for rounding
constexpr double TIE = 1e-13;           // relative difference of losses below which they are equal

inline int exponent_of(double largest) {
  int exponent = 0;
  std::frexp(largest, &exponent);
  return largest == 0 ? LOWEST_EXPONENT : std::max(exponent, LOWEST_EXPONENT);
}

// to = row - pivot, padded with zeros; returns the largest magnitude, at least `largest`.
inline double subtract(const double* row, const double* pivot, int64_t columns, double* to, double largest) {
  Wide most = largest - Wide{};
  int64_t c = 0;
  for (; c + LANE <= columns; c += LANE) {
    const Wide v = load(row + c) - load(pivot + c), size = magnitude(v);
    store(to + c, v);
    most = size > most ? size : most;
  }
  for (int l = 0; l < LANE; ++l) largest = std::max(largest, most[l]);
  for (; c < columns; ++c) largest = std::max(largest, std::fabs(to[c] = row[c] - pivot[c]));
  for (; c < padded(columns); ++c) to[c] = 0;
  return largest;
}

// Rows of one matrix in one problem: (row - first row) / 2^exponent - mean.
struct Panel {
  double *rows, *mean;
  const double* pivot;
  int64_t count, columns, stride;
  int exponent;
  double largest;  // magnitude of a difference to the first row
  const double* row(int64_t i) const { return rows + i * stride; }
  Rows all() const { return {rows, count, stride}; }
};

Panel gather(const double* from, int64_t row_stride, int64_t columns, const int64_t* numbers, int64_t count,
             double* rows, double* mean) {
  Panel panel{rows, mean, from + numbers[0] * row_stride, count, columns, padded(columns), 0, 0};
  for (int64_t i = 0; i < count; ++i) {
    const double* next = from + numbers[std::min(i + 2, count - 1)] * row_stride;
    for (int64_t c = 0; c < columns; c += 8) prefetch(next + c);
    double* to = rows + i * panel.stride;
    panel.largest = subtract(from + numbers[i] * row_stride, panel.pivot, columns, to, panel.largest);
  }
  panel.exponent = exponent_of(panel.largest);
  const double scale = std::ldexp(1.0, -panel.exponent);
  for (int64_t c = 0; c < panel.stride; ++c) mean[c] = 0;
  for (int64_t i = 0; i < count; ++i) add_multiple(mean, scale / double(count), panel.row(i), panel.stride);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < panel.stride; c += LANE)
      store(rows + i * panel.stride + c, load(panel.row(i) + c) * scale - load(mean + c));
  return panel;
}

void clear_padding(double* matrix, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = columns; c < stride; ++c) matrix[i * stride + c] = 0;
}

// Right-hand side of the final map: inner products of the centred query and the rows. False where the rows are equal,
// or so close to each other that a map from them would overflow.
bool project_query(const Panel& x, const double* query, const Workspace& w) {
  const double largest = subtract(query, x.pivot, x.columns, w.query, 0);
  if (!(x.largest > std::ldexp(largest, LOWEST_EXPONENT / 2) && x.exponent > LOWEST_EXPONENT)) return false;
  const double scale = std::ldexp(1.0, -x.exponent);
  for (int64_t c = 0; c < x.stride; ++c) w.query[c] = w.query[c] * scale - x.mean[c];
  for (int64_t i = 0; i < x.count; ++i) w.right[i] = inner_product(x.row(i), w.query, x.stride);
  for (int64_t i = x.count; i < w.stride; ++i) w.right[i] = 0;
  return true;
}

double trace_of(const double* matrix, int64_t stride, int64_t first, int64_t count) {
  double sum = 0;
  for (int64_t i = first; i < first + count; ++i) sum += matrix[i * (stride + 1)];
  return sum;
}

void write_filters(const LcLocalRidge& in, const Workspace& w, const FactorisedFold& fold) {
  const double top = *std::max_element(w.diagonal, w.diagonal + fold.count);
  const double trace = trace_of(w.gram, w.stride, fold.first, fold.count);
  const bool at_mean = !(top > 0 && trace > ROUNDING * trace_of(w.gram, w.stride, 0, in.count));
  for (int64_t a = 0; a < in.n_strengths; ++a) {
    const double least = in.strengths[a] * in.strengths[a] * top;
    for (int64_t r = 0; r < fold.stride; ++r)
      fold.filters[a * fold.stride + r] = at_mean || r >= fold.count ? 0 : 1 / (std::max(w.diagonal[r], 0.0) + least);
  }
}

void factorise(const LcLocalRidge& in, const Workspace& w, const FactorisedFold& fold, const FactorisedFold& other) {
  const int64_t n = fold.count;
  for (int64_t i = 0; i < n; ++i) {
    const double* from = w.gram + (fold.first + i) * w.stride + fold.first;
    std::copy(from, from + n, fold.squares + i * fold.stride);
  }
  clear_padding(fold.squares, n, n, fold.stride);
  const Tridiagonal t{fold.squares, w.diagonal, w.beside, w.tau, n, fold.stride};
  tridiagonalise(t, w.vectors[0], w.vectors[1]);
  form_rotation(t, fold.directions);
  diagonalise(w.diagonal, w.beside, n, fold.directions, fold.stride, {w.vectors[0], w.vectors[1]});
  write_filters(in, w, fold);
  const Rows directions{fold.directions, n, fold.stride};
  const Rows cross{w.gram + other.first * w.stride + fold.first, other.count, w.stride};
  inner_products(directions, cross, fold.stride, fold.projected, other.stride, false);
  clear_padding(fold.projected, n, other.count, other.stride);
  const Rows projected{fold.projected, n, other.stride};
  symmetric_products(projected, projected, other.stride, fold.squares, fold.stride);
}

// The whole Gram matrix as Q T Q', in place, and the right-hand side as Q' b.
Tridiagonal factorise_whole(const LcLocalRidge& in, const Workspace& w) {
  const Tridiagonal t{w.gram, w.diagonal, w.beside, w.tau, in.count, w.stride};
  tridiagonalise(t, w.vectors[0], w.vectors[1]);
  rotate_forward(t, w.right);
  return t;
}

// Adds the squared errors of a map of each strength, fitted to one fold, on the other.
void add_losses(const LcLocalRidge& in, const Workspace& w, const FactorisedFold& fold, const FactorisedFold& other) {
  const int64_t n = fold.count;
  const Rows directions{fold.directions, n, fold.stride};
  inner_products(directions, {w.products + fold.first, in.count, w.stride}, fold.stride, w.projected, w.stride, false);
  clear_padding(w.projected, n, in.count, w.stride);
  symmetric_products({w.projected + fold.first, n, w.stride}, directions, fold.stride, w.coefficients, fold.stride);
  clear_padding(w.coefficients, n, n, fold.stride);
  const Rows filters{fold.filters, in.n_strengths, fold.stride};
  const double held_out = trace_of(w.products, w.stride, other.first, other.count);
  for (int64_t a = 0; a < in.n_strengths; ++a) w.losses[a] += held_out;
  for (int64_t r = 0; r < n; ++r) {
    const double* projected = w.projected + r * w.stride + other.first;
    const double linear = 2 * inner_product(projected, fold.projected + r * other.stride, other.stride);
    const double *squares = fold.squares + r * fold.stride, *coefficients = w.coefficients + r * fold.stride;
    for (int64_t a = 0; a < in.n_strengths; a += GROUP) {
      Wide sums[GROUP] = {};
      for (int64_t c = 0; c < fold.stride; c += LANE) {
        const Wide form = load(squares + c) * load(coefficients + c);
        for (int i = 0; i < GROUP; ++i) sums[i] += form * load(filters[a + i] + c);
      }
      double values[GROUP];
      sum_lanes(sums, values);
      for (int i = 0; i < GROUP && a + i < in.n_strengths; ++i)
        w.losses[a + i] += filters[a + i][r] * (values[i] - linear);
    }
  }
}

// The strength of least loss; the smallest of those that rounding does not tell apart.
double strength_of(const LcLocalRidge& in, const Workspace& w, const Panel& y) {
  symmetric_products(y.all(), y.all(), y.stride, w.products, w.stride);
  for (int64_t a = 0; a < in.n_strengths; ++a) w.losses[a] = 0;
  for (int side = 0; side < 2; ++side) add_losses(in, w, w.folds[side], w.folds[1 - side]);
  const double best = *std::min_element(w.losses, w.losses + in.n_strengths);
  const double limit = best + TIE * (trace_of(w.products, w.stride, 0, in.count) + std::fabs(best));
  int64_t chosen = 0;
  while (chosen < in.n_strengths - 1 && !(w.losses[chosen] <= limit)) ++chosen;
  return in.strengths[chosen];
}

// The norm of test - (mean + weighted sum of rows), scaled so that no square overflows.
double residual_norm(const Panel& y, const double* test, const double* weights, double* residual) {
  double* prediction = y.mean;
  for (int64_t i = 0; weights && i < y.count; ++i) add_multiple(prediction, weights[i], y.row(i), y.stride);
  subtract(test, y.pivot, y.columns, residual, 0);
  const double unit = std::ldexp(1.0, y.exponent);
  double largest = 0, sum = 0;
  for (int64_t c = 0; c < y.columns; ++c)
    largest = std::max(largest, std::fabs(residual[c] -= prediction[c] * unit));
  if (!std::isfinite(largest)) return largest;
  const int exponent = exponent_of(largest);
  const double scale = std::ldexp(1.0, -exponent);
  for (int64_t c = 0; c < y.columns; ++c) sum += residual[c] * scale * (residual[c] * scale);
  return std::ldexp(std::sqrt(sum), exponent);
}

}  // namespace

void LC_OF_ISA(local_ridge_kernel)(const LcLocalRidge& in, int64_t problem, double* memory, double* errors) {
  const Workspace w(in, memory);
  const int64_t *numbers = in.rows + problem * in.count;
  const Panel x = gather(in.x, in.row_stride, in.columns, numbers, in.count, w.x, w.mean);
  const bool apart = project_query(x, in.query + problem * in.query_stride, w);
  Tridiagonal whole{};
  double top = 0;
  if (apart) {
    symmetric_products(x.all(), x.all(), x.stride, w.gram, w.stride);
    clear_padding(w.gram, in.count, in.count, w.stride);
    clear_padding(w.products, in.count, in.count, w.stride);
    for (int side = 0; side < 2; ++side) factorise(in, w, w.folds[side], w.folds[1 - side]);
    whole = factorise_whole(in, w);
    top = largest_eigenvalue(whole);
  }
  for (int64_t i = 0; i < in.n_targets; ++i) {
    const LcLocalTarget& target = in.targets[i];
    const Panel y = gather(target.train, target.train_stride, target.columns, numbers, in.count, w.y, w.mean);
    if (apart) {
      const double strength = strength_of(in, w, y);
      std::copy(w.right, w.right + w.stride, w.weights);
      solve_shifted(whole, strength * strength * top, w.weights, w.vectors[0]);
      rotate_back(whole, w.weights);
    }
    const double* test = target.test + problem * target.test_stride;
    errors[i * in.problems] = residual_norm(y, test, apart ? w.weights : nullptr, w.prediction);
  }
}

}  // namespace latentcmp
