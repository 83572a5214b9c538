// Segments from tiles: tiles merge in double into the state of a segment, the state into its cumulants.
#pragma once
#include "segment_work.h"
#include "tile.h"
#include "../include/cumulants.h"

namespace latentcmp {
namespace {

// The columns of one panel; `width` rounds them up to whole packs.
struct Columns {
  int64_t first;
  int count;
  int width;
};

template <class T>
inline Columns panel_columns(int64_t columns, int panel, int panels) {
  constexpr int L = LANES<T>;
  const int64_t packs = columns / L;
  const int64_t first = packs * panel / panels * L;
  const int64_t last = panel + 1 == panels ? columns : packs * (panel + 1) / panels * L;
  const int count = int(last - first);
  return {first, count, (count + L - 1) / L * L};
}

template <class T>
inline int panel_count(int64_t columns) {
  return columns <= PANEL ? 1 : int((columns + PANEL - 1) / PANEL);
}

// The rows as T, in place where they are T and wide enough, otherwise converted into the scratch tile.
template <class X, class T>
inline Tile<T> stage(const LcSegments& in, int64_t row, int rows, Columns col, Scratch<T>& s) {
  const X* x = static_cast<const X*>(in.x) + row * in.row_stride + col.first;
  const char* ahead = reinterpret_cast<const char*>(x + rows * in.row_stride);
  if constexpr (sizeof(X) == sizeof(T))
    if (col.count >= LANES<T>) return {reinterpret_cast<const T*>(x), in.row_stride, rows, col.count, ahead};
  for (int r = 0; r < rows; ++r) {
    T* to = s.tile + int64_t(r) * col.width;
    convert(x + r * in.row_stride, to, col.count);
    for (int c = col.count; c < col.width; ++c) to[c] = 0;
  }
  return {s.tile, col.width, rows, col.width, ahead};
}

// Sums of a tile about its centre, free of scale, in double, for one double pack of columns.
template <class T, int K>
inline Pack<double> tile_sums(const Scratch<T>& s, int c, int rows, Pack<double> (&sum)[K + 1]) {
  sum[0] = Pack<double>{} + double(rows);
  Pack<double> unit = Pack<double>{} + 1.0, power = unit;
  if (SCALED<T, K>) unit = 1.0 / load_wide(s.scale + c);
  for_each<1, K>([&](auto k) LC_INLINED {
    sum[k.value] = load_wide(s.sums[k.value - 1] + c);
    if (SCALED<T, K>) sum[k.value] *= (power *= unit);
  });
  return load_wide(s.centre + c);
}

template <class T, int K>
inline void load_state(const Scratch<T>& s, int c, Pack<double> (&sum)[K + 1]) {
  for (int k = 0; k <= K; ++k) sum[k] = load(s.state[k] + c);
}

template <class T, int K>
inline void store_state(Scratch<T>& s, int c, Pack<double> mean, const Pack<double> (&sum)[K + 1]) {
  store(s.mean + c, mean);
  for (int k = 0; k <= K; ++k) store(s.state[k] + c, sum[k]);
}

template <class T, int K>
inline void merge_tile(Scratch<T>& s, int width, int rows, bool is_first) {
  for (int c = 0; c < width; c += LANES<double>) {
    Pack<double> tile[K + 1], sum[K + 1];
    Pack<double> centre = tile_sums<T, K>(s, c, rows, tile);
    if (is_first) {
      store_state<T, K>(s, c, centre, tile);
      continue;
    }
    Pack<double> mean = load(s.mean + c);
    load_state<T, K>(s, c, sum);
    merge_sums<K>(mean, sum, centre, tile);
    store_state<T, K>(s, c, mean, sum);
  }
}

// Reduces rows [first, last) tile by tile, of equal heights. True where one tile was enough: the sums are then
// those of the tile and the state was not touched.
template <class X, class T, int K>
inline bool reduce_rows(const LcSegments& in, int64_t first, int64_t last, Columns col, Scratch<T>& s) {
  const int64_t rows = last - first, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t from = first + rows * i / tiles, to = first + rows * (i + 1) / tiles;
    reduce_tile<T, K>(stage<X, T>(in, from, int(to - from), col, s), s);
    if (tiles > 1) merge_tile<T, K>(s, col.width, int(to - from), i == 0);
  }
  return tiles == 1;
}

template <class T, int K, bool ROOT, bool ONE_TILE>
inline void finish_columns(Scratch<T>& s, int width, int rows) {
  for (int c = 0; c < width; c += LANES<double>) {
    Pack<double> sum[K + 1], k[K + 1], mean;
    if (ONE_TILE) {
      mean = tile_sums<T, K>(s, c, rows, sum);
    } else {
      mean = load(s.mean + c);
      load_state<T, K>(s, c, sum);
    }
    cumulants_of_sums<K>(mean, sum, k);
    if (ROOT) signed_roots<K>(k);
    for_each<1, K>([&](auto m) LC_INLINED { store_narrow(s.out[m.value - 1] + c, k[m.value]); });
    store_narrow(s.out[MAX_ORDER] + c, k[1] - load_wide(s.out[0] + c));
  }
}

// From the sums of one tile, or from the state, to the cumulants in s.out.
template <class T, int K>
inline void finish_segment(Scratch<T>& s, int width, int rows, bool root, bool one_tile) {
  if (root)
    one_tile ? finish_columns<T, K, true, true>(s, width, rows) : finish_columns<T, K, true, false>(s, width, rows);
  else
    one_tile ? finish_columns<T, K, false, true>(s, width, rows)
             : finish_columns<T, K, false, false>(s, width, rows);
}

// Whole packs past the caches, the ends of an unaligned range through them.
template <class T>
inline void put(T* to, const T* from, int64_t count, bool streaming) {
  int64_t i = 0;
  if (streaming && count >= 2 * LANES<T>) {
    const int64_t off = int64_t(reinterpret_cast<uintptr_t>(to) % PACK_BYTES) / int64_t(sizeof(T));
    const int64_t head = off ? LANES<T> - off : 0;
    std::memcpy(to, from, head * sizeof(T));
    for (i = head; i + LANES<T> <= count; i += LANES<T>) store_streaming(to + i, load(from + i));
  }
  std::memcpy(to + i, from + i, (count - i) * sizeof(T));
}

template <class T>
inline void put_segment(const Forward& job, int64_t segment, Columns col, const Scratch<T>& s) {
  const LcSegments& in = *job.in;
  T* out = static_cast<T*>(job.out) + segment * in.order * in.columns + col.first;
  for (int m = 0; m < in.order; ++m) put(out + m * in.columns, s.out[m], col.count, job.streaming);
  if (job.residual)
    put(static_cast<T*>(job.residual) + segment * in.columns + col.first, s.out[MAX_ORDER], col.count, job.streaming);
}

// Every segment of [first, last) short enough for one worker; the others are done in chunks.
template <class X, class T, int K>
void forward_segments(const Forward& job, int64_t first, int64_t last) {
  const LcSegments& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    for (int64_t i = first; i < last; ++i) {
      const int64_t rows = in.ptr[i + 1] - in.ptr[i];
      if (rows > CHUNK_ROWS) continue;
      if (rows == 0) {
        for (int m = 0; m <= MAX_ORDER; ++m) std::memset(s.out[m], 0, col.width * sizeof(T));
      } else {
        const bool one_tile = reduce_rows<X, T, K>(in, in.ptr[i], in.ptr[i + 1], col, s);
        finish_segment<T, K>(s, col.width, int(rows), in.root, one_tile);
      }
      put_segment<T>(job, i, col, s);
    }
  }
  finish_streaming();
}

// Rows [first, last) of a long segment into a partial state: means, then sums 1 .. K, [K + 1, columns].
template <class X, class T, int K>
void forward_chunk(const Forward& job, int64_t first, int64_t last, double* partial) {
  const LcSegments& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    if (reduce_rows<X, T, K>(in, first, last, col, s)) merge_tile<T, K>(s, col.width, int(last - first), true);
    std::memcpy(partial + col.first, s.mean, col.count * sizeof(double));
    for (int k = 1; k <= K; ++k)
      std::memcpy(partial + k * in.columns + col.first, s.state[k], col.count * sizeof(double));
  }
}

// Takes rows of `size` atoms from a partial state into the state.
template <class T, int K>
inline void merge_partial(const double* partial, int64_t stride, int64_t size, Columns col, bool is_first, Scratch<T>& s) {
  for (int c = 0; c < col.width; c += LANES<double>) {
    Pack<double> part[K + 1], sum[K + 1];
    Pack<double> part_mean = load(partial + c), mean = part_mean;
    part[0] = Pack<double>{} + double(size);
    for (int k = 1; k <= K; ++k) part[k] = load(partial + k * stride + c);
    if (is_first) {
      store_state<T, K>(s, c, mean, part);
      continue;
    }
    mean = load(s.mean + c);
    load_state<T, K>(s, c, sum);
    merge_sums<K>(mean, sum, part_mean, part);
    store_state<T, K>(s, c, mean, sum);
  }
}

// Merges the partial states of one long segment in the order of its rows and writes its cumulants.
template <class T, int K>
void forward_merge(const Forward& job, int64_t segment, const double* partials) {
  const LcSegments& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int64_t rows = in.ptr[segment + 1] - in.ptr[segment];
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    for (int64_t done = 0; done < rows; done += CHUNK_ROWS, partials += (K + 1) * in.columns) {
      const int64_t size = rows - done < CHUNK_ROWS ? rows - done : CHUNK_ROWS;
      merge_partial<T, K>(partials + col.first, in.columns, size, col, done == 0, s);
    }
    partials -= (rows + CHUNK_ROWS - 1) / CHUNK_ROWS * (K + 1) * in.columns;
    finish_segment<T, K>(s, col.width, 0, in.root, false);
    put_segment<T>(job, segment, col, s);
  }
  finish_streaming();
}

}  // namespace
}  // namespace latentcmp
