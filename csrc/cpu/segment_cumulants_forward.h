// Sums of tiles are merged in double into the state of a segment; cumulants come from these sums.
#pragma once
#include "segment_cumulants_work.h"
#include "segment_cumulants_tile.h"

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

// Columns of the state: those of a tile, at least one pack.
template <class T>
inline int state_columns(Columns col) {
  return col.count < LANES<T> ? LANES<T> : col.count;
}

template <class T>
inline int panel_count(int64_t columns) {
  return columns <= PANEL ? 1 : int((columns + PANEL - 1) / PANEL);
}

// The rows as T: in place where x is T and at least a pack wide, else converted into the scratch tile.
template <class X, class T>
inline Tile<T> stage(const LcSegmentCumulants& in, int64_t row, int rows, Columns col, Scratch<T>& s) {
  const X* x = static_cast<const X*>(in.x) + row * in.row_stride + col.first;
  const char* ahead = reinterpret_cast<const char*>(x) + FETCH_BYTES;
  if constexpr (sizeof(X) == sizeof(T))
    if (col.count >= LANES<T>) return {reinterpret_cast<const T*>(x), in.row_stride, rows, col.count, ahead};
  for (int r = 0; r < rows; ++r) {
    T* to = s.tile + int64_t(r) * col.width;
    convert(x + r * in.row_stride, to, col.count);
    for (int c = col.count; c < col.width; ++c) to[c] = 0;
  }
  return {s.tile, col.width, rows, state_columns<T>(col), ahead};
}

// Unscaled sums of a tile about its centre, in double, for one double pack of the block's columns.
template <class T, int K>
LC_INLINE Pack<double> tile_sums(const Block<T>& b, int c, int rows, Pack<double> (&sum)[K + 1]) {
  sum[0] = Pack<double>{} + double(rows);
  Pack<double> unit = Pack<double>{} + 1.0, power = unit;
  if (SCALED<T, K>) unit = load_wide(b.unit + c);
  for_each<1, K>([&](auto k) LC_INLINED {
    sum[k.value] = load_wide(b.sums[k.value - 1] + c);
    if (SCALED<T, K>) sum[k.value] *= (power *= unit);
  });
  return load_wide(b.centre + c);
}

template <int K>
LC_INLINE void load_sums(const double* from, int64_t stride, double rows, Pack<double> (&sum)[K + 1]) {
  sum[0] = Pack<double>{} + rows;
  for_each<1, K>([&](auto k) LC_INLINED { sum[k.value] = load(from + (k.value - 1) * stride); });
}

template <int K>
LC_INLINE void store_sums(double* to, int64_t stride, const Pack<double> (&sum)[K + 1]) {
  for_each<1, K>([&](auto k) LC_INLINED { store(to + (k.value - 1) * stride, sum[k.value]); });
}

// Merges one double pack at c of the block into the state at slot.
template <class T, int K>
LC_INLINE void add_to_state(Scratch<T>& s, int c, int slot, int rows, bool is_first) {
  Pack<double> tile[K + 1], sum[K + 1];
  const Pack<double> centre = tile_sums<T, K>(s.block, c, rows, tile);
  if (is_first) {
    store(s.origin + slot, centre);
    return store_sums<K>(s.state + slot, PADDED, tile);
  }
  shift_sums<K>(tile, centre - load(s.origin + slot));
  load_sums<K>(s.state + slot, PADDED, 0.0, sum);
  for_each<1, K>([&](auto k) LC_INLINED { sum[k.value] += tile[k.value]; });
  store_sums<K>(s.state + slot, PADDED, sum);
}

// Destination of one pack of columns: row m of a segment's output, and the residual of the mean.
template <class T>
struct Target {
  T* out;
  int64_t stride;
  T* residual;      // or null
  int order;
  bool root;
  bool streaming;   // non-temporal stores
  int64_t columns;  // from this one to the last of x; can be fewer than a pack
};

template <class T>
inline Target<T> target(const Forward& job, int64_t segment, int64_t column, int64_t columns) {
  const LcSegmentCumulants& in = *job.in;
  T* residual = job.residual ? static_cast<T*>(job.residual) + segment * in.columns + column : nullptr;
  T* out = static_cast<T*>(job.out) + segment * in.order * in.columns + column;
  return {out, in.columns, residual, in.order, in.root != 0, job.streaming, columns};
}

template <class T>
LC_INLINE void put(T* to, Pack<T> v, const Target<T>& target) {
  if (target.columns < LANES<T>) std::memcpy(to, &v, target.columns * sizeof(T));
  else if (target.streaming) store_streaming(to, v);
  else store(to, v);
}

// The cumulants of one pack of columns: sums(c, sum) gives centre and sums of the double pack at c.
template <class T, int K, class Sums>
LC_INLINE void finish_pack(const Target<T>& to, Sums sums) {
  constexpr int PARTS = LANES<T> / LANES<double>;
  Pack<double> result[K + 2][PARTS];
  for_each<0, PARTS - 1>([&](auto part) LC_INLINED {
    Pack<double> sum[K + 1], k[K + 1];
    const Pack<double> centre = sums(part.value * LANES<double>, sum);
    cumulants_of_sums<K>(centre, sum, k);
    if (to.root) signed_roots<K>(k);
    for_each<1, K>([&](auto m) LC_INLINED { result[m.value][part.value] = k[m.value]; });
    result[K + 1][part.value] = k[1] - rounded<T>(k[1]);
  });
  for_each<1, K>([&](auto m) LC_INLINED {
    if (m.value <= to.order) put<T>(to.out + (m.value - 1) * to.stride, narrow(result[m.value]), to);
  });
  if (to.residual) put<T>(to.residual, narrow(result[K + 1]), to);
}

// A segment of one tile: each block of columns from rows to results while it is in cache.
template <class X, class T, int K>
inline void one_tile(const Forward& job, int64_t segment, Columns col, Scratch<T>& s) {
  const LcSegmentCumulants& in = *job.in;
  const int rows = int(in.ptr[segment + 1] - in.ptr[segment]);
  Tile<T> t = stage<X, T>(in, in.ptr[segment], rows, col, s);
  for_each_block<T>(t.columns, [&](auto packs, int column, int) LC_INLINED {
    sum_block<T, K, packs.value>(t, t.x + column, s.block);
    for (int c = 0; c < packs.value * LANES<T>; c += LANES<T>)
      finish_pack<T, K>(target<T>(job, segment, col.first + column + c, col.count - column - c),
                        [&](int part, auto& sum) LC_INLINED { return tile_sums<T, K>(s.block, c + part, rows, sum); });
  });
}

// Rows [first, last) tile by tile, of equal heights, into the state: sums about the centre of the first tile.
template <class X, class T, int K>
inline void reduce_rows(const LcSegmentCumulants& in, int64_t first, int64_t last, Columns col, Scratch<T>& s) {
  const int64_t rows = last - first, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t from = first + rows * i / tiles, to = first + rows * (i + 1) / tiles;
    Tile<T> t = stage<X, T>(in, from, int(to - from), col, s);
    for_each_block<T>(t.columns, [&](auto packs, int column, int slot) LC_INLINED {
      sum_block<T, K, packs.value>(t, t.x + column, s.block);
      for (int c = 0; c < packs.value * LANES<T>; c += LANES<double>)
        add_to_state<T, K>(s, c, slot + c, t.rows, i == 0);
    });
  }
}

// Cumulants from the state.
template <class T, int K>
inline void finish_state(const Forward& job, int64_t segment, Columns col, Scratch<T>& s) {
  const LcSegmentCumulants& in = *job.in;
  const double rows = double(in.ptr[segment + 1] - in.ptr[segment]);
  for_each_block<T>(state_columns<T>(col), [&](auto packs, int column, int slot) LC_INLINED {
    for (int c = 0; c < packs.value * LANES<T>; c += LANES<T>)
      finish_pack<T, K>(target<T>(job, segment, col.first + column + c, col.count - column - c),
                        [&](int part, auto& sum) LC_INLINED {
                          load_sums<K>(s.state + slot + c + part, PADDED, rows, sum);
                          return load(s.origin + slot + c + part);
                        });
  });
}

template <class T>
inline void put_zeros(const Forward& job, int64_t segment, Columns col) {
  const Target<T> to = target<T>(job, segment, col.first, col.count);
  for (int m = 0; m < to.order; ++m) std::memset(to.out + m * to.stride, 0, col.count * sizeof(T));
  if (to.residual) std::memset(to.residual, 0, col.count * sizeof(T));
}

// Every segment of [first, last) of up to CHUNK_ROWS rows; longer ones are processed in chunks.
template <class X, class T, int K>
void forward_segments(const Forward& job, int64_t first, int64_t last) {
  const LcSegmentCumulants& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    for (int64_t i = first; i < last; ++i) {
      const int64_t rows = in.ptr[i + 1] - in.ptr[i];
      if (rows > CHUNK_ROWS) continue;
      if (rows == 0) {
        put_zeros<T>(job, i, col);
      } else if (rows <= TILE_ROWS) {
        one_tile<X, T, K>(job, i, col, s);
      } else {
        reduce_rows<X, T, K>(in, in.ptr[i], in.ptr[i + 1], col, s);
        finish_state<T, K>(job, i, col, s);
      }
    }
  }
  finish_streaming();
}

// Rows [first, last) of a long segment into a partial state: origins, then sums 1 .. K, [K + 1, stride].
template <class X, class T, int K>
void forward_chunk(const Forward& job, int64_t first, int64_t last, double* partial) {
  const LcSegmentCumulants& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int64_t stride = partial_stride(in.columns);
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    reduce_rows<X, T, K>(in, first, last, col, s);
    std::memcpy(partial + col.first, s.origin, col.width * sizeof(double));
    for (int k = 1; k <= K; ++k)
      std::memcpy(partial + k * stride + col.first, s.state + (k - 1) * PADDED, col.width * sizeof(double));
  }
}

// Merges the partial states of one long segment in the order of its rows and writes its cumulants.
template <class T, int K>
void forward_merge(const Forward& job, int64_t segment, const double* partials) {
  const LcSegmentCumulants& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int64_t rows = in.ptr[segment + 1] - in.ptr[segment], stride = partial_stride(in.columns);
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    for (int c = 0; c < col.width; c += LANES<double>) {
      const double* partial = partials + col.first + c;
      Pack<double> sum[K + 1], origin = load(partial);
      load_sums<K>(partial + stride, stride, CHUNK_ROWS, sum);
      for (int64_t done = CHUNK_ROWS; done < rows; done += CHUNK_ROWS) {
        Pack<double> more[K + 1];
        partial += (K + 1) * stride;
        load_sums<K>(partial + stride, stride, rows - done < CHUNK_ROWS ? rows - done : CHUNK_ROWS, more);
        merge_sums<K>(origin, sum, load(partial), more);
      }
      store(s.origin + c, origin);
      store_sums<K>(s.state + c, PADDED, sum);
    }
    finish_state<T, K>(job, segment, col, s);
  }
  finish_streaming();
}

}  // namespace
}  // namespace latentcmp
