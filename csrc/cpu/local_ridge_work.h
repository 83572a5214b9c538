// Between the entry point and the kernel of one instruction set.
#pragma once
#include <algorithm>
#include <cstdint>
#include "../include/latentcmp.h"

namespace latentcmp {

// Errors of one problem into errors[i * in.problems] for target i; memory for a Workspace starts a cache
// line.
using LocalRidgeKernel = void (*)(const LcLocalRidge& in, int64_t problem, double* memory, double* errors);
void local_ridge_kernel_baseline(const LcLocalRidge& in, int64_t problem, double* memory, double* errors);
void local_ridge_kernel_avx2(const LcLocalRidge& in, int64_t problem, double* memory, double* errors);
void local_ridge_kernel_avx512(const LcLocalRidge& in, int64_t problem, double* memory, double* errors);

// Rows are padded to whole packs of the widest instruction set.
constexpr int64_t STRIDE_STEP = 8;
inline int64_t padded(int64_t n) { return (n + STRIDE_STEP - 1) / STRIDE_STEP * STRIDE_STEP; }

// One fold of the source, factorised for all targets. Rows of `stride` elements hold `count` numbers.
struct FactorisedFold {
  int64_t first, count, stride;  // rows first .. first + count of the problem
  double* directions;            // eigenvectors of the fold's Gram matrix K_ii in rows
  double* projected;             // directions times K_io, rows of padded(count of the other fold)
  double* squares;               // inner products of the rows of `projected`
  double* filters;               // 1 / (eigenvalue + t^2 largest) in one row for each strength t
};

// Memory of one problem, cut into matrices and vectors. Rows of `stride` elements hold `count` numbers and a whole pack
// more, so that a part of a row can be read in packs from any column.
struct Workspace {
  int64_t stride, wide;               // of inner products; of rows of the source and of targets
  FactorisedFold folds[2];
  double *x, *gram;                   // rows of the source; their inner products, later the reflections
  double *y, *products, *projected;   // rows of a target, their inner products, and those times the directions
  double *coefficients;               // the latter times the directions again
  double *mean, *query, *prediction;  // `wide` elements each
  double *diagonal, *beside, *tau, *right, *weights, *vectors[2];
  double *losses;
  int64_t doubles = 0;

  Workspace(const LcLocalRidge& in, double* memory) {
    const int64_t k = in.count, counts[2] = {in.first_count, k - in.first_count};
    const int64_t most = std::max(counts[0], counts[1]);
    const auto take = [&](int64_t n) {
      double* start = memory ? memory + doubles : nullptr;
      doubles += padded(n);
      return start;
    };
    int64_t widest = in.columns;
    for (int64_t i = 0; i < in.n_targets; ++i) widest = std::max(widest, in.targets[i].columns);
    stride = padded(k) + STRIDE_STEP, wide = padded(widest);
    for (int side = 0; side < 2; ++side) {
      const int64_t n = counts[side], row = padded(n);
      folds[side] = {side * counts[0], n, row, take(n * row), take(n * padded(counts[1 - side])), take(n * row),
                     take(in.n_strengths * row)};
    }
    x = take(k * padded(in.columns)), y = take(k * wide);
    gram = take(k * stride), products = take(k * stride), projected = take(most * stride);
    coefficients = take(most * padded(most));
    for (double** part : {&mean, &query, &prediction}) *part = take(wide);
    for (double** part : {&diagonal, &beside, &tau, &right, &weights}) *part = take(stride);
    for (double*& part : vectors) part = take(stride);
    losses = take(in.n_strengths);
  }
};

}  // namespace latentcmp
