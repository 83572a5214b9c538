// Losses of every cutoff for one local problem; compiled once for each instruction set, LATENTCMP_ISA its name.
// A panel of columns of y goes through both folds while it is in cache, and residuals live in registers only.
#include "local_work.h"
#include "simd.h"

namespace latentcmp {
namespace {

using Wide = Pack<double>;
constexpr int PACKS = 4;                         // of a row of the panel
constexpr int PANEL = PACKS * LANES<double>;     // columns
constexpr int ROWS = MANY_REGISTERS ? 6 : 2;     // times PACKS accumulators
static_assert(PANEL <= WIDEST_PANEL);

// Rows of a panel held in registers.
template <int N>
struct Block {
  Wide at[N][PACKS];

  void read(const double* rows) {
    for (int n = 0; n < N; ++n)
      for (int p = 0; p < PACKS; ++p) at[n][p] = load(rows + n * PANEL + p * LANES<double>);
  }
  void write(double* rows) const {
    for (int n = 0; n < N; ++n)
      for (int p = 0; p < PACKS; ++p) store(rows + n * PANEL + p * LANES<double>, at[n][p]);
  }
  // Less the sum over i in first .. last of left[i][n] right[i], with rows of left `stride` apart.
  void subtract(const double* left, int64_t stride, const double* right, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      Wide row[PACKS];
      for (int p = 0; p < PACKS; ++p) row[p] = load(right + i * PANEL + p * LANES<double>);
      for (int n = 0; n < N; ++n) {
        const Wide factor = left[i * stride + n] - Wide{};
        for (int p = 0; p < PACKS; ++p) at[n][p] -= factor * row[p];
      }
    }
  }
  void add_squares(double* sums) const {
    for (int p = 0; p < PACKS; ++p) {
      Wide sum = load(sums + p * LANES<double>);
      for (int n = 0; n < N; ++n) sum += at[n][p] * at[n][p];
      store(sums + p * LANES<double>, sum);
    }
  }
};

// One fold fitted, one panel.
struct Fit {
  const double *directions, *projected, *known, *missing;
  const int64_t* kept;
  int64_t n_known, n_missing, rank, alphas;
  double *coefficients, *squares;
};

// Minus the coefficients of directions first .. first + N.
template <int N>
void project(const Fit& fit, int64_t first) {
  Block<N> block{};
  block.subtract(fit.directions + first, fit.rank, fit.known, 0, fit.n_known);
  block.write(fit.coefficients + first * PANEL);
}

// Peels the directions off rows first .. first + N, from the strongest cut to the weakest. Coefficients come
// negated, so what is subtracted is minus the residual.
template <int N>
void peel(const Fit& fit, int64_t first) {
  Block<N> block;
  block.read(fit.missing + first * PANEL);
  for (int n = 0; n < N; ++n)
    for (int p = 0; p < PACKS; ++p) block.at[n][p] = -block.at[n][p];
  int64_t done = 0;
  for (int64_t a = fit.alphas - 1; a >= 0; --a) {
    block.subtract(fit.projected + first, fit.n_missing, fit.coefficients, done, fit.kept[a]);
    if (fit.kept[a] > done || a == fit.alphas - 1) block.add_squares(fit.squares + a * PANEL);
    done = fit.kept[a];
  }
}

template <void (*MANY)(const Fit&, int64_t), void (*ONE)(const Fit&, int64_t)>
void for_rows(const Fit& fit, int64_t count) {
  int64_t row = 0;
  for (; row + ROWS <= count; row += ROWS) MANY(fit, row);
  for (; row < count; ++row) ONE(fit, row);
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
  for_rows<project<ROWS>, project<1>>(fit, fit.kept[0]);
  for_rows<peel<ROWS>, peel<1>>(fit, fit.n_missing);
  double total = 0;
  int64_t done = -1;
  for (int64_t a = fit.alphas - 1; a >= 0; --a) {
    if (fit.kept[a] != done) total = sum_of_roots(fit.squares + a * PANEL, fit.n_missing, columns);
    losses[a] += total;
    done = fit.kept[a];
  }
}

// Columns first .. first + columns of both folds' rows, less their mean over all of them; zeros beyond.
void gather(const LcLocalRidge& in, int64_t problem, int64_t first, int64_t columns, double* panel) {
  double mean[PANEL] = {};
  double* to = panel;
  for (const LcFold& fold : in.folds)
    for (int64_t i = 0; i < fold.count; ++i, to += PANEL) {
      const double* from = in.y + fold.rows[problem * fold.count + i] * in.row_stride + first;
      for (int64_t c = 0; c < columns; ++c) to[c] = from[c];
      for (int64_t c = columns; c < PANEL; ++c) to[c] = 0;
      for (int c = 0; c < PANEL; ++c) mean[c] += to[c];
    }
  const int64_t rows = in.folds[0].count + in.folds[1].count;
  for (int c = 0; c < PANEL; ++c) mean[c] /= double(rows);
  for (int64_t i = 0; i < rows; ++i)
    for (int c = 0; c < PANEL; ++c) panel[i * PANEL + c] -= mean[c];
}

}  // namespace

#define LC_JOIN(a, b) a##b
#define LC_LOSSES_OF(isa) LC_JOIN(local_losses_, isa)

void LC_LOSSES_OF(LATENTCMP_ISA)(const LcLocalRidge& in, int64_t problem, double* scratch, double* losses) {
  const int64_t rows = in.folds[0].count + in.folds[1].count;
  double *panel = scratch, *squares = panel + rows * PANEL, *coefficients = squares + in.alphas * PANEL;
  for (int64_t a = 0; a < in.alphas; ++a) losses[a] = 0;
  for (int64_t first = 0; first < in.columns; first += PANEL) {
    const int64_t columns = in.columns - first < PANEL ? in.columns - first : PANEL;
    gather(in, problem, first, columns, panel);
    for (int side = 0; side < 2; ++side) {
      const LcFold &fold = in.folds[side], &other = in.folds[1 - side];
      const double *head = panel, *tail = panel + in.folds[0].count * PANEL;
      const Fit fit = {fold.directions + problem * fold.count * fold.rank,
                       fold.projected + problem * fold.rank * other.count,
                       side == 0 ? head : tail, side == 0 ? tail : head,
                       fold.kept + problem * in.alphas,
                       fold.count, other.count, fold.rank, in.alphas, coefficients, squares};
      add_losses(fit, columns, losses);
    }
  }
  for (int64_t a = 0; a < in.alphas; ++a) losses[a] /= double(2 * in.columns);
}

}  // namespace latentcmp
