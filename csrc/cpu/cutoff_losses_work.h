// Between the entry point and the kernel of one instruction set.
#pragma once
#include <algorithm>
#include <cstdint>
#include "../include/latentcmp.h"

namespace latentcmp {

// Losses of one problem into losses[alphas]; scratch holds scratch_doubles(in), aligned to a cache line.
using CutoffLossesKernel = void (*)(const LcCutoffLosses& in, int64_t problem, double* scratch, double* losses);
void cutoff_losses_kernel_baseline(const LcCutoffLosses& in, int64_t problem, double* scratch, double* losses);
void cutoff_losses_kernel_avx2(const LcCutoffLosses& in, int64_t problem, double* scratch, double* losses);
void cutoff_losses_kernel_avx512(const LcCutoffLosses& in, int64_t problem, double* scratch, double* losses);

constexpr int64_t MAX_PANEL = 32;  // columns of y processed together
constexpr int64_t MAX_BLOCK = 6;   // rows held in registers

// For rows of both folds, squared errors of each alpha, coefficients of the fitted fold, packed factors of both folds.
inline int64_t scratch_doubles(const LcCutoffLosses& in) {
  const auto padded = [](int64_t rows) { return rows + MAX_BLOCK; };
  const LcFold &one = in.folds[0], &two = in.folds[1];
  const int64_t rank = std::max(one.rank, two.rank);
  const int64_t panels = (padded(one.count) + padded(two.count) + in.alphas + padded(rank)) * MAX_PANEL;
  const int64_t directions = one.count * padded(one.rank) + two.count * padded(two.rank);
  return panels + directions + one.rank * padded(two.count) + two.rank * padded(one.count);
}

}  // namespace latentcmp
