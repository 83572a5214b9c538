// Inner products of rows in packs: the small matrix products of local reconstruction. Rows start STRIDE_STEP doubles
// apart or a multiple of it, so that a row padded with zeros is read in whole packs.
#pragma once
#include <algorithm>
#include "local_ridge_work.h"
#include "simd.h"

namespace latentcmp {
namespace {

using Wide = Pack<double>;
constexpr int64_t LANE = LANES<double>;
constexpr int GROUP = 4;  // sums over lanes made together

// The sum over the lanes of each pack.
inline void sum_lanes(const Wide (&v)[GROUP], double* to) {
#if defined(__AVX2__)
  __m256d half[GROUP];
  for (int i = 0; i < GROUP; ++i) {
#if defined(__AVX512F__)
    half[i] = _mm256_add_pd(_mm512_castpd512_pd256((__m512d)v[i]), _mm512_extractf64x4_pd((__m512d)v[i], 1));
#else
    half[i] = (__m256d)v[i];
#endif
  }
  const __m256d low = _mm256_hadd_pd(half[0], half[1]), high = _mm256_hadd_pd(half[2], half[3]);
  _mm256_storeu_pd(to, _mm256_add_pd(_mm256_permute2f128_pd(low, high, 0x21), _mm256_blend_pd(low, high, 0xc)));
#else
  for (int i = 0; i < GROUP; ++i) {
    to[i] = v[i][0];
    for (int l = 1; l < LANE; ++l) to[i] += v[i][l];
  }
#endif
}

inline double sum_of_lanes(Wide v) {
  double sum = v[0];
  for (int l = 1; l < LANE; ++l) sum += v[l];
  return sum;
}

inline double inner_product(const double* a, const double* b, int64_t length) {
  Wide sum{};
  for (int64_t c = 0; c < length; c += LANE) sum += load(a + c) * load(b + c);
  return sum_of_lanes(sum);
}

// to += factor * from
inline void add_multiple(double* to, double factor, const double* from, int64_t length) {
  const Wide wide = factor - Wide{};
  for (int64_t c = 0; c < length; c += LANE) store(to + c, load(to + c) + wide * load(from + c));
}

// Rows of a matrix; a part of the columns is read by adding to `at`.
struct Rows {
  const double* at;
  int64_t count, stride;
  const double* operator[](int64_t i) const { return at + std::min(i, count - 1) * stride; }
};

// to[i][j] = a[i] . b[j] over `length` columns, a multiple of STRIDE_STEP. With `lower`, blocks right of the diagonal
// are left out.
inline void inner_products(const Rows& a, const Rows& b, int64_t length, double* to, int64_t stride, bool lower) {
  constexpr int TALL = MANY_REGISTERS ? 4 : 2;
  for (int64_t i = 0; i < a.count; i += TALL)
    for (int64_t j = 0; j < (lower ? std::min(i + TALL, b.count) : b.count); j += GROUP) {
      const double *left[TALL], *right[GROUP];
      for (int n = 0; n < TALL; ++n) left[n] = a[i + n];
      for (int m = 0; m < GROUP; ++m) right[m] = b[j + m];
      Wide sums[TALL][GROUP] = {};
      for (int64_t c = 0; c < length; c += LANE) {
        Wide row[GROUP];
        for (int m = 0; m < GROUP; ++m) row[m] = load(right[m] + c);
        for (int n = 0; n < TALL; ++n) {
          const Wide factor = load(left[n] + c);
          for (int m = 0; m < GROUP; ++m) sums[n][m] += factor * row[m];
        }
      }
      for (int n = 0; n < TALL && i + n < a.count; ++n) {
        double values[GROUP];
        sum_lanes(sums[n], values);
        for (int m = 0; m < GROUP && j + m < b.count; ++m) to[(i + n) * stride + j + m] = values[m];
      }
    }
}

// The same for products that are symmetric, as those of rows with themselves: the same on both sides of the diagonal.
inline void symmetric_products(const Rows& a, const Rows& b, int64_t length, double* to, int64_t stride) {
  inner_products(a, b, length, to, stride, true);
  for (int64_t i = 0; i < a.count; ++i)
    for (int64_t j = 0; j < i; ++j) to[j * stride + i] = to[i * stride + j];
}

}  // namespace
}  // namespace latentcmp
