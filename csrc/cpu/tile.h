// A tile: up to TILE_ROWS consecutive rows of one panel of columns, reduced in two passes while it is in cache.
#pragma once
#include "simd.h"

namespace latentcmp {
namespace {

constexpr int TILE_ROWS = 64;
constexpr int PANEL = 1024;         // columns handled at once, plus what is left of a pack
constexpr int PADDED = PANEL + 64;
constexpr int MAX_ORDER = 8;

// What one thread needs, kept between calls.
template <class T>
struct Scratch {
  alignas(64) T sums[MAX_ORDER][PADDED];           // of powers of (x - centre) * scale
  alignas(64) T centre[PADDED];
  alignas(64) T scale[PADDED];                     // a power of two
  alignas(64) double mean[PADDED];                 // running state of a segment of several tiles
  alignas(64) double state[MAX_ORDER + 1][PADDED];
  alignas(64) T out[MAX_ORDER + 1][PADDED];        // cumulants, then the residual of the mean
  alignas(64) T tile[TILE_ROWS * PADDED];          // rows of another type, or narrower than a pack
};

template <class T>
struct Tile {
  const T* x;
  int64_t stride;
  int rows;
  int columns;       // at least one pack
  const char* ahead; // what follows in memory: fetched while this tile is worked on
};

// How powers are scaled: order 8 of 1e-5 would vanish in float32.
template <class T, int K>
constexpr bool SCALED = K > 4 && sizeof(T) == 4;

// The nearest power of two under 1 / spread, kept clear of the ends of the range.
inline Pack<double> power_of_two_under(Pack<double> spread) { return spread * 0.0 + 1.0; }
inline Pack<float> power_of_two_under(Pack<float> spread) {
  typedef Pack<int32_t> Bits;
  const Bits exponent = ((Bits)spread >> 23) & 255;
  const Bits kept = exponent < 27 ? Bits{} + 27 : (exponent > 227 ? Bits{} + 227 : exponent);
  return (Pack<float>)((254 - kept) << 23);
}

template <class T, bool SPREAD>
inline void set_centre(Scratch<T>& s, int c, Pack<T> first, Pack<T> sum, Pack<T> spread, int rows) {
  store(s.centre + c, first + sum / T(rows));
  if (SPREAD) store(s.scale + c, power_of_two_under(spread));
}

// Means of G packs of columns with the sums in registers: for narrow tiles and for what is left of wide ones.
// Sums are taken about the first row, so a constant column has its own value as its mean.
template <class T, int G, bool SPREAD>
inline void means_by_column(const Tile<T>& t, int c, Scratch<T>& s) {
  constexpr int L = LANES<T>;
  Pack<T> first[G], sum[G] = {}, spread[G] = {};
  for (int g = 0; g < G; ++g) first[g] = load(t.x + c + g * L);
  for (int r = 1; r < t.rows; ++r)
    for (int g = 0; g < G; ++g) {
      const Pack<T> d = load(t.x + r * t.stride + c + g * L) - first[g];
      sum[g] += d;
      if (SPREAD) spread[g] = larger<T>(spread[g], magnitude(d));
    }
  for (int g = 0; g < G; ++g) set_centre<T, SPREAD>(s, c + g * L, first[g], sum[g], spread[g], t.rows);
}

// One row, or four, added to the sums in s.sums[0] (and spreads in s.sums[1]).
template <class T, int ROWS, bool SPREAD>
inline void add_rows(const Tile<T>& t, int row, int columns, Scratch<T>& s) {
  const T* x = t.x + row * t.stride;
  for (int c = 0; c < columns; c += LANES<T>) {
    const Pack<T> first = load(t.x + c);
    Pack<T> d[ROWS];
    for (int r = 0; r < ROWS; ++r) d[r] = load(x + r * t.stride + c) - first;
    if (SPREAD) {
      Pack<T> spread = load(s.sums[1] + c);
      for (int r = 0; r < ROWS; ++r) spread = larger<T>(spread, magnitude(d[r]));
      store(s.sums[1] + c, spread);
    }
    for (int half = ROWS / 2; half > 0; half /= 2)
      for (int r = 0; r < half; ++r) d[r] += d[r + half];
    store(s.sums[0] + c, load(s.sums[0] + c) + d[0]);
  }
}

// Means row by row: the first touch of a wide tile streams through memory in order.
template <class T, bool SPREAD>
inline void means_by_row(const Tile<T>& t, int columns, Scratch<T>& s) {
  std::memset(s.sums[0], 0, columns * sizeof(T));
  if (SPREAD) std::memset(s.sums[1], 0, columns * sizeof(T));
  int row = 1;
  for (; row + 4 <= t.rows; row += 4) add_rows<T, 4, SPREAD>(t, row, columns, s);
  for (; row < t.rows; ++row) add_rows<T, 1, SPREAD>(t, row, columns, s);
  for (int c = 0; c < columns; c += LANES<T>)
    set_centre<T, SPREAD>(s, c, load(t.x + c), load(s.sums[0] + c), load(s.sums[1] + c), t.rows);
}

template <class T, int K>
inline void means(const Tile<T>& t, Scratch<T>& s) {
  constexpr int L = LANES<T>, G = 4;
  const int whole = t.columns - t.columns % L;
  int c = 0;
  if (t.columns > 8 * L) {
    means_by_row<T, SCALED<T, K>>(t, whole, s);
    c = whole;
  }
  for (; c + G * L <= t.columns; c += G * L) means_by_column<T, G, SCALED<T, K>>(t, c, s);
  for (; c + L <= t.columns; c += L) means_by_column<T, 1, SCALED<T, K>>(t, c, s);
  if (c < t.columns) means_by_column<T, 1, SCALED<T, K>>(t, t.columns - L, s);
}

template <class V, int K>
inline void add_powers(V d, V (&sum)[K]) {
  const V d2 = d * d;
  sum[0] += d;
  sum[1] += d2;
  sum[2] += d2 * d;
  const V d4 = d2 * d2;
  sum[3] += d4;
  if constexpr (K > 4) {
    const V d3 = d2 * d;
    sum[4] += d4 * d;
    sum[5] += d3 * d3;
    sum[6] += d4 * d3;
    sum[7] += d4 * d4;
  }
}

// Sums of powers 1 .. K of G packs of columns, in registers, while the next tile is fetched.
template <class T, int K, int G>
inline void power_sums(Tile<T>& t, int c, Scratch<T>& s) {
  constexpr int L = LANES<T>;
  Pack<T> centre[G], scale[G], sum[G][K] = {};
  for (int g = 0; g < G; ++g) {
    centre[g] = load(s.centre + c + g * L);
    if (SCALED<T, K>) scale[g] = load(s.scale + c + g * L), centre[g] *= scale[g];
  }
  const T* x = t.x + c;
  for (int r = 0; r < t.rows; ++r, x += t.stride) {
    for (int i = 0; i < G * PACK_BYTES; i += 64) prefetch(t.ahead + i);
    t.ahead += G * PACK_BYTES;
    for (int g = 0; g < G; ++g) {
      const Pack<T> v = load(x + g * L);
      add_powers<Pack<T>, K>(SCALED<T, K> ? v * scale[g] - centre[g] : v - centre[g], sum[g]);
    }
  }
  for (int g = 0; g < G; ++g)
    for (int k = 0; k < K; ++k) store(s.sums[k] + c + g * L, sum[g][k]);
}

// Leaves in s the centre, the scale and the sums of powers of one tile.
template <class T, int K>
inline void reduce_tile(Tile<T> t, Scratch<T>& s) {
  constexpr int L = LANES<T>, G = MANY_REGISTERS ? (K > 4 ? 2 : 4) : (K > 4 ? 1 : 2);
  means<T, K>(t, s);
  int c = 0;
  for (; c + G * L <= t.columns; c += G * L) power_sums<T, K, G>(t, c, s);
  for (; c + L <= t.columns; c += L) power_sums<T, K, 1>(t, c, s);
  if (c < t.columns) power_sums<T, K, 1>(t, t.columns - L, s);
}

}  // namespace
}  // namespace latentcmp
