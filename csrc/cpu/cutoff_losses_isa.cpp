// Losses of every cutoff for one local problem; compiled once for each instruction set, LATENTCMP_ISA its name.
// A panel of columns of y goes through both folds while it is in cache, and residuals live in registers only.
#include <algorithm>
#include "cutoff_losses_work.h"
#include "simd.h"

namespace latentcmp {
namespace {

using Wide = Pack<double>;
constexpr int PACKS = 4;                      // of a row of the panel
constexpr int PANEL = PACKS * LANES<double>;  // columns
constexpr int ROWS = MANY_REGISTERS ? 6 : 2;  // times PACKS accumulators
static_assert(PANEL <= WIDEST_PANEL && ROWS <= TALLEST_BLOCK);

inline int64_t whole_blocks(int64_t rows) { return (rows + ROWS - 1) / ROWS * ROWS; }

// ROWS rows of a panel, held in registers.
struct Block {
  Wide at[ROWS][PACKS];

  // Less the sum over i in first .. last of left[i][n] right[i].
  void subtract(const double* left, const double* right, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      Wide row[PACKS];
      for (int p = 0; p < PACKS; ++p) row[p] = load(right + i * PANEL + p * LANES<double>);
      for (int n = 0; n < ROWS; ++n) {
        const Wide factor = left[i * ROWS + n] - Wide{};
        for (int p = 0; p < PACKS; ++p) at[n][p] -= factor * row[p];
      }
    }
  }
  void add_squares(double* sums) const {
    for (int p = 0; p < PACKS; ++p) {
      Wide sum = load(sums + p * LANES<double>);
      for (int n = 0; n < ROWS; ++n) sum += at[n][p] * at[n][p];
      store(sums + p * LANES<double>, sum);
    }
  }
};

// Columns of a row-major matrix, ROWS side by side and the last ones filled up with zeros: what a block walks
// through lies in a run of memory, whatever the width.
double* pack(const double* matrix, int64_t rows, int64_t columns, double* to) {
  for (int64_t first = 0; first < columns; first += ROWS)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t c = first; c < first + ROWS; ++c) *to++ = c < columns ? matrix[i * columns + c] : 0;
  return to;
}

// One fold fitted, one panel: directions and projected are packed, n_missing is the true number of rows.
struct Fit {
  const double *directions, *projected, *known, *missing;
  const int64_t* kept;
  int64_t n_known, n_missing, rank, alphas;
  double *coefficients, *squares;
};

// Minus the coefficients of directions first .. first + ROWS.
void project(const Fit& fit, int64_t first) {
  Block block{};
  block.subtract(fit.directions + first * fit.n_known, fit.known, 0, fit.n_known);
  for (int n = 0; n < ROWS; ++n)
    for (int p = 0; p < PACKS; ++p)
      store(fit.coefficients + (first + n) * PANEL + p * LANES<double>, block.at[n][p]);
}

// Peels the directions off rows first .. first + ROWS, from the strongest cut to the weakest. Coefficients come
// negated, so the block holds minus the residual.
void peel(const Fit& fit, int64_t first) {
  Block block;
  for (int n = 0; n < ROWS; ++n)
    for (int p = 0; p < PACKS; ++p) block.at[n][p] = -load(fit.missing + (first + n) * PANEL + p * LANES<double>);
  int64_t done = 0;
  for (int64_t a = fit.alphas - 1; a >= 0; --a) {
    block.subtract(fit.projected + first * fit.rank, fit.coefficients, done, fit.kept[a]);
    if (fit.kept[a] > done || a == fit.alphas - 1) block.add_squares(fit.squares + a * PANEL);
    done = fit.kept[a];
  }
}

double sum_of_roots(const double* squares, int64_t count, int64_t columns) {
  double total = 0, roots[PANEL];
  for (int p = 0; p < PACKS; ++p)
    store(roots + p * LANES<double>, square_root(load(squares + p * LANES<double>) / double(count)));
  for (int64_t c = 0; c < columns; ++c) total += roots[c];
  return total;
}

// Adds the root mean squared errors of a panel's first `columns` columns to losses[alphas].
void add_losses(const Fit& fit, int64_t columns, double* losses) {
  for (int64_t i = 0; i < fit.alphas * PANEL; ++i) fit.squares[i] = 0;
  for (int64_t row = 0; row < fit.kept[0]; row += ROWS) project(fit, row);
  for (int64_t row = 0; row < fit.n_missing; row += ROWS) peel(fit, row);
  double total = 0;
  int64_t done = -1;
  for (int64_t a = fit.alphas - 1; a >= 0; --a) {
    if (fit.kept[a] != done) total = sum_of_roots(fit.squares + a * PANEL, fit.n_missing, columns);
    losses[a] += total;
    done = fit.kept[a];
  }
}

// Columns first .. first + columns of the rows of both folds, less their mean over all; zeros beyond.
void gather(const LcCutoffLosses& in, int64_t problem, int64_t first, int64_t columns, double* const panels[2]) {
  double mean[PANEL] = {};
  for (int side = 0; side < 2; ++side) {
    const LcFold& fold = in.folds[side];
    double* to = panels[side];
    for (int64_t i = 0; i < fold.count; ++i, to += PANEL) {
      const double* from = in.y + fold.rows[problem * fold.count + i] * in.row_stride + first;
      for (int64_t c = 0; c < columns; ++c) to[c] = from[c];
      for (int64_t c = columns; c < PANEL; ++c) to[c] = 0;
      for (int c = 0; c < PANEL; ++c) mean[c] += to[c];
    }
  }
  for (int c = 0; c < PANEL; ++c) mean[c] /= double(in.folds[0].count + in.folds[1].count);
  for (int side = 0; side < 2; ++side) {
    const int64_t count = in.folds[side].count;
    double* row = panels[side];
    for (int64_t i = 0; i < whole_blocks(count); ++i, row += PANEL)
      for (int c = 0; c < PANEL; ++c) row[c] = i < count ? row[c] - mean[c] : 0;
  }
}

}  // namespace

#define LC_JOIN(a, b) a##b
#define LC_LOSSES_OF(isa) LC_JOIN(local_losses_, isa)

void LC_LOSSES_OF(LATENTCMP_ISA)(const LcCutoffLosses& in, int64_t problem, double* scratch, double* losses) {
  double* panels[2] = {scratch, scratch + whole_blocks(in.folds[0].count) * PANEL};
  double* squares = panels[1] + whole_blocks(in.folds[1].count) * PANEL;
  double* coefficients = squares + in.alphas * PANEL;
  double* free = coefficients + whole_blocks(std::max(in.folds[0].rank, in.folds[1].rank)) * PANEL;
  Fit fits[2];
  for (int side = 0; side < 2; ++side) {
    const LcFold &fold = in.folds[side], &other = in.folds[1 - side];
    double* directions = free;
    double* projected = pack(fold.directions + problem * fold.count * fold.rank, fold.count, fold.rank, directions);
    free = pack(fold.projected + problem * fold.rank * other.count, fold.rank, other.count, projected);
    fits[side] = {directions, projected, panels[side], panels[1 - side], fold.kept + problem * in.alphas,
                  fold.count, other.count, fold.rank, in.alphas, coefficients, squares};
  }
  for (int64_t a = 0; a < in.alphas; ++a) losses[a] = 0;
  for (int64_t first = 0; first < in.columns; first += PANEL) {
    const int64_t columns = in.columns - first < PANEL ? in.columns - first : PANEL;
    gather(in, problem, first, columns, panels);
    for (const Fit& fit : fits) add_losses(fit, columns, losses);
  }
  for (int64_t a = 0; a < in.alphas; ++a) losses[a] /= double(2 * in.columns);
}

}  // namespace latentcmp
