// What the entry point hands to the kernel of one instruction set.
#pragma once
#include <cstdint>
#include "../include/latentcmp.h"

namespace latentcmp {

// Losses of one problem into losses[alphas]; scratch holds scratch_doubles(in), aligned to a cache line.
using LocalKernel = void (*)(const LcLocalRidge& in, int64_t problem, double* scratch, double* losses);
void local_losses_baseline(const LcLocalRidge& in, int64_t problem, double* scratch, double* losses);
void local_losses_avx2(const LcLocalRidge& in, int64_t problem, double* scratch, double* losses);
void local_losses_avx512(const LcLocalRidge& in, int64_t problem, double* scratch, double* losses);

constexpr int64_t WIDEST_PANEL = 32;  // columns of y worked on at once, at most

// Rows of both folds, coefficients of the fold fitted, squared errors of each alpha.
inline int64_t scratch_doubles(const LcLocalRidge& in) {
  const int64_t rank = in.folds[0].rank > in.folds[1].rank ? in.folds[0].rank : in.folds[1].rank;
  return (in.folds[0].count + in.folds[1].count + rank + in.alphas) * WIDEST_PANEL;
}

}  // namespace latentcmp
