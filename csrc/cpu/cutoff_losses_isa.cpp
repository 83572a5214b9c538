// Losses of every cutoff for one problem; compiled once for each instruction set, whose name is LATENTCMP_ISA.
// Both folds use a panel of columns of y while it is in cache, and residuals stay in registers.
#include <algorithm>
#include "cutoff_losses_work.h"
#include "simd.h"

namespace latentcmp {
namespace {

using Wide = Pack<double>;
constexpr int PACKS = 4;                      // of a row of the panel
constexpr int PANEL = PACKS * LANES<double>;  // columns
constexpr int ROWS = MANY_REGISTERS ? 6 : 2;  // with PACKS accumulators each
static_assert(PANEL <= MAX_PANEL && ROWS <= MAX_BLOCK);

inline int64_t whole_blocks(int64_t rows) { return (rows + ROWS - 1) / ROWS * ROWS; }

// ROWS rows of a panel, held in registers.
struct Block {
  Wide at[ROWS][PACKS];

  // Subtracts the sum over i in first .. last of left[i][n] right[i].
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

// Copies a row-major matrix in groups of ROWS columns, the last group padded with zeros: a block then reads contiguous
// memory for any number of columns. Returns the end of the copy.
double* pack(const double* matrix, int64_t rows, int64_t columns, double* to) {
  for (int64_t first = 0; first < columns; first += ROWS)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t c = first; c < first + ROWS; ++c) *to++ = c < columns ? matrix[i * columns + c] : 0;
  return to;
}

// One fitted fold and one panel. `directions` and `projected` are packed; n_fitted and n_scored exclude padding.
struct Fit {
  const double *directions, *projected, *fitted, *scored;
  const int64_t* kept;
  int64_t n_fitted, n_scored, rank, alphas;
  double *coefficients, *squares;
};

// The negated coefficients of directions first .. first + ROWS.
void project(const Fit& fit, int64_t first) {
  Block block{};
  block.subtract(fit.directions + first * fit.n_fitted, fit.fitted, 0, fit.n_fitted);
  for (int n = 0; n < ROWS; ++n)
    for (int p = 0; p < PACKS; ++p)
      store(fit.coefficients + (first + n) * PANEL + p * LANES<double>, block.at[n][p]);
}

// Squared errors on rows first .. first + ROWS, alphas in descending order, so that directions are only added.
// Coefficients are negated, so the block holds the negated residual.
void add_squared_errors(const Fit& fit, int64_t first) {
  Block block;
  for (int n = 0; n < ROWS; ++n)
    for (int p = 0; p < PACKS; ++p) block.at[n][p] = -load(fit.scored + (first + n) * PANEL + p * LANES<double>);
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

// Adds the sums of root mean squared errors over the first `columns` columns of a panel to losses[alphas].
void add_losses(const Fit& fit, int64_t columns, double* losses) {
  for (int64_t i = 0; i < fit.alphas * PANEL; ++i) fit.squares[i] = 0;
  for (int64_t row = 0; row < fit.kept[0]; row += ROWS) project(fit, row);
  for (int64_t row = 0; row < fit.n_scored; row += ROWS) add_squared_errors(fit, row);
  double total = 0;
  int64_t done = -1;
  for (int64_t a = fit.alphas - 1; a >= 0; --a) {
    if (fit.kept[a] != done) total = sum_of_roots(fit.squares + a * PANEL, fit.n_scored, columns);
    losses[a] += total;
    done = fit.kept[a];
  }
}

// Columns first .. first + columns of the rows of both folds, centred by their common mean and padded with zeros.
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

void LC_OF_ISA(cutoff_losses_kernel)(const LcCutoffLosses& in, int64_t problem, double* scratch, double* losses) {
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
