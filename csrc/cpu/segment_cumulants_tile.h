// A tile: up to TILE_ROWS consecutive rows of one panel of columns. Each block of its columns is reduced in two passes
// while it is in cache.
#pragma once
#include "simd.h"
#include "../include/cumulants.h"

namespace latentcmp {
namespace {

constexpr int TILE_ROWS = 64;
constexpr int PANEL = 1024;         // columns processed together, plus an incomplete pack
constexpr int PADDED = PANEL + 64;
constexpr int MAX_ORDER = 8;
constexpr int BLOCK_PACKS = 4;
constexpr int FETCH_BYTES = 1 << 16;  // prefetch distance; together with the tile it fits a level-2 cache

// Sums over the rows of a tile for a block of columns.
template <class T>
struct Block {
  static constexpr int COLUMNS = BLOCK_PACKS * LANES<T>;
  alignas(64) T sums[MAX_ORDER][COLUMNS];     // of powers of (x - centre) * scale
  alignas(64) T centre[COLUMNS];
  alignas(64) T scale[COLUMNS];               // a power of two
  alignas(64) T unit[COLUMNS];                // 1 / scale
};

// Memory of one thread, reused between calls.
template <class T>
struct Scratch {
  Block<T> block;
  alignas(64) double origin[PADDED];               // centre of the powers in state
  alignas(64) double state[MAX_ORDER * PADDED];     // running sums of a segment of several tiles
  alignas(64) T coefficient[MAX_ORDER][PADDED];    // of the gradient; its value is centred by the next three
  alignas(64) T centre[PADDED];
  alignas(64) T scale[PADDED];
  alignas(64) T left[PADDED];
  alignas(64) T tile[TILE_ROWS * PADDED];          // rows of another type, or narrower than a pack
};

template <class T>
struct Tile {
  const T* x;
  int64_t stride;
  int rows;
  int columns;       // at least one pack
  const char* ahead; // memory to prefetch while this tile is processed
};

// Splits columns into blocks of BLOCK_PACKS packs, then of one; the last one overlaps its predecessor rather than
// exceed the columns. body(packs, first column, first column without the overlap)
template <class T, class Body>
inline void for_each_block(int columns, Body body) {
  constexpr int L = LANES<T>;
  int c = 0;
  for (; c + BLOCK_PACKS * L <= columns; c += BLOCK_PACKS * L) body(Constant<BLOCK_PACKS>{}, c, c);
  for (; c + L <= columns; c += L) body(Constant<1>{}, c, c);
  if (c < columns) body(Constant<1>{}, columns - L, c);
}

// Powers are scaled where they would underflow: the eighth power of 1e-5 does in float32.
template <class T, int K>
constexpr bool SCALED = K > 4 && sizeof(T) == 4;

// The largest power of two below 1 / spread, clamped to a safe range, and its inverse.
inline void store_scale(Pack<double>, double*, double*) {}
inline void store_scale(Pack<float> spread, float* scale, float* unit) {
  typedef Pack<int32_t> Bits;
  const Bits exponent = ((Bits)spread >> 23) & 255;
  const Bits kept = exponent < 27 ? Bits{} + 27 : (exponent > 227 ? Bits{} + 227 : exponent);
  store(scale, (Pack<float>)((254 - kept) << 23));
  store(unit, (Pack<float>)(kept << 23));
}

template <int BYTES>
inline const char* fetch(const char* ahead) {
  for (int i = 0; i < BYTES; i += 64) prefetch(ahead + i);
  return ahead + BYTES;
}

// Means of G packs of columns about the first row, so that the mean of a constant column is exact.
template <class T, int G, bool SPREAD>
inline void block_means(Tile<T>& t, const T* x, Block<T>& b) {
  constexpr int L = LANES<T>;
  Pack<T> first[G], sum[G], spread[G];
  for_each<0, G - 1>([&](auto g) LC_INLINED {
    first[g.value] = load(x + g.value * L);
    sum[g.value] = spread[g.value] = Pack<T>{};
  });
  const char* ahead = t.ahead;
  for (int r = 1; r < t.rows; ++r) {
    x += t.stride;
    ahead = fetch<G * PACK_BYTES / 2>(ahead);
    for_each<0, G - 1>([&](auto g) LC_INLINED {
      const Pack<T> d = load(x + g.value * L) - first[g.value];
      sum[g.value] += d;
      if (SPREAD) spread[g.value] = larger_magnitude(spread[g.value], d);
    });
  }
  t.ahead = ahead;
  for_each<0, G - 1>([&](auto g) LC_INLINED {
    store(b.centre + g.value * L, first[g.value] + sum[g.value] / T(t.rows));
    if (SPREAD) store_scale(spread[g.value], b.scale + g.value * L, b.unit + g.value * L);
  });
}

template <class V, int K>
LC_INLINE void add_powers(V d, V (&sum)[K]) {
  const V d2 = d * d;
  sum[0] += d;
  sum[1] += d2;
  sum[2] += d2 * d;
  const V d4 = d2 * d2;
  sum[3] += d4;
  if constexpr (K > 4) {
    const V d3 = d2 * d;
    sum[4] += d4 * d;
    sum[5] += d4 * d2;
    sum[6] += d4 * d3;
    sum[7] += d4 * d4;
  }
}

// Sums of powers 1 .. K about the means, of G packs of columns from the one at c of the block.
template <class T, int K, int G>
inline void power_sums(Tile<T>& t, const T* x, int c, Block<T>& b) {
  constexpr int L = LANES<T>;
  Pack<T> centre[G], scale[G], sum[G][K];
  for_each<0, G - 1>([&](auto g) LC_INLINED {
    centre[g.value] = load(b.centre + c + g.value * L);
    if (SCALED<T, K>) scale[g.value] = load(b.scale + c + g.value * L), centre[g.value] *= scale[g.value];
    for_each<0, K - 1>([&](auto k) LC_INLINED { sum[g.value][k.value] = Pack<T>{}; });
  });
  const char* ahead = t.ahead;
  for (int r = 0; r < t.rows; ++r, x += t.stride) {
    ahead = fetch<G * PACK_BYTES / 2>(ahead);
    for_each<0, G - 1>([&](auto g) LC_INLINED {
      const Pack<T> v = load(x + g.value * L);
      add_powers<Pack<T>, K>(SCALED<T, K> ? v * scale[g.value] - centre[g.value] : v - centre[g.value], sum[g.value]);
    });
  }
  t.ahead = ahead;
  for_each<0, G - 1>([&](auto g) LC_INLINED {
    for_each<0, K - 1>([&](auto k) LC_INLINED { store(b.sums[k.value] + c + g.value * L, sum[g.value][k.value]); });
  });
}

// Writes centres, scales and sums of powers of PACKS packs of columns of a tile, from the one at x, to b.
template <class T, int K, int PACKS>
inline void sum_block(Tile<T>& t, const T* x, Block<T>& b) {
  constexpr int MAX_PACKS = MANY_REGISTERS ? (K > 4 ? 2 : 4) : (K > 4 ? 1 : 2);
  constexpr int G = PACKS < MAX_PACKS ? PACKS : MAX_PACKS;
  block_means<T, PACKS, SCALED<T, K>>(t, x, b);
  for (int c = 0; c < PACKS * LANES<T>; c += G * LANES<T>) power_sums<T, K, G>(t, x + c, c, b);
}

}  // namespace
}  // namespace latentcmp
