// The gradient is a polynomial in the centred value with the same coefficients for all rows of a segment.
#pragma once
#include "segment_cumulants_forward.h"

namespace latentcmp {
namespace {

inline double tiny_of(float) { return 1.17549435e-38; }
inline double tiny_of(double) { return 2.2250738585072014e-308; }

// One double pack from p, padded with zeros beyond `left` values.
template <class T>
inline Pack<double> load_padded(const T* p, int64_t left) {
  if (left >= LANES<double>) return load_wide(p);
  T padded[LANES<double>] = {};
  std::memcpy(padded, p, left * sizeof(T));
  return load_wide(padded);
}

// A power of two near the standard deviation, so that powers of (x - mean) / unit stay in the range of float32.
inline Pack<double> unit_near(Pack<double> deviation) {
  const Pack<double> power = (Pack<double>)((PackBits)deviation & int64_t(0x7ff0000000000000));
  return zero_unless_above(deviation, 1e-30, power - 1.0) + 1.0;
}

// Writes to s: coefficients of powers 0 .. K - 1 of scaled values, centre, scale, and the residual of the rounded
// centre times the scale (left).
template <class T, int K, bool ROOT>
inline void set_coefficients(const Backward& job, int64_t segment, Columns col, Scratch<T>& s) {
  const LcSegmentCumulants& in = *job.in;
  const int64_t offset = segment * in.order * in.columns + col.first;
  const T* grad = static_cast<const T*>(job.grad) + offset;
  const T* out = static_cast<const T*>(job.out) + offset;
  const T* residual = job.residual ? static_cast<const T*>(job.residual) + segment * in.columns + col.first : nullptr;
  const double rows = double(in.ptr[segment + 1] - in.ptr[segment]);
  for (int c = 0; c < col.width; c += LANES<double>) {
    const int64_t left = col.count - c > 0 ? col.count - c : 0;
    Pack<double> g[K + 1] = {}, k[K + 1] = {}, coefficient[K];
    for (int m = 1; m <= in.order; ++m) {
      g[m] = load_padded(grad + (m - 1) * in.columns + c, left);
      k[m] = load_padded(out + (m - 1) * in.columns + c, left);
    }
    if (ROOT) through_roots<K>(g, k, tiny_of(T(0)));
    gradient_coefficients<K>(g, k, rows, coefficient);
    Pack<double> unit = Pack<double>{} + 1.0, power = unit;
    if (SCALED<T, K>) unit = unit_near(square_root(k[2]));
    for (int j = 0; j < K; ++j, power *= unit) store_narrow(s.coefficient[j] + c, coefficient[j] * power);
    store_narrow(s.centre + c, k[1]);
    store_narrow(s.scale + c, 1.0 / unit);
    store_narrow(s.left + c, (residual ? load_padded(residual + c, left) : Pack<double>{}) / unit);
  }
}

// G packs of columns, their coefficients in registers, over all rows of a tile.
template <class T, int K, int G, bool STREAMING>
inline void gradient_columns(Tile<T>& t, int c, T* to, int64_t to_stride, const Scratch<T>& s) {
  constexpr int L = LANES<T>;
  Pack<T> centre[G], scale[G], left[G], coefficient[G][K];
  for_each<0, G - 1>([&](auto g) LC_INLINED {
    centre[g.value] = load(s.centre + c + g.value * L);
    scale[g.value] = load(s.scale + c + g.value * L);
    left[g.value] = load(s.left + c + g.value * L);
    for_each<0, K - 1>([&](auto j) LC_INLINED {
      coefficient[g.value][j.value] = load(s.coefficient[j.value] + c + g.value * L);
    });
  });
  const T* x = t.x + c;
  to += c;
  for (int r = 0; r < t.rows; ++r, x += t.stride, to += to_stride) {
    t.ahead = fetch<G * PACK_BYTES>(t.ahead);
    for_each<0, G - 1>([&](auto g) LC_INLINED {
      Pack<T> d = load(x + g.value * L) - centre[g.value];
      d = SCALED<T, K> ? d * scale[g.value] - left[g.value] : d - left[g.value];
      Pack<T> value = coefficient[g.value][K - 1];
      for_each<2, K>([&](auto j) LC_INLINED { value = value * d + coefficient[g.value][K - j.value]; });
      STREAMING ? store_streaming(to + g.value * L, value) : store(to + g.value * L, value);
    });
  }
}

template <class T, int K, bool STREAMING>
inline void gradient_tile(Tile<T> t, T* to, int64_t to_stride, const Scratch<T>& s) {
  constexpr int MAX_PACKS = MANY_REGISTERS ? (K > 4 ? 2 : 4) : (K > 4 ? 1 : 2);
  for_each_block<T>(t.columns, [&](auto packs, int column, int) LC_INLINED {
    constexpr int G = packs.value < MAX_PACKS ? packs.value : MAX_PACKS;
    for (int c = 0; c < packs.value * LANES<T>; c += G * LANES<T>)
      gradient_columns<T, K, G, STREAMING>(t, column + c, to, to_stride, s);
  });
}

template <class X, class T, int K>
inline void backward_tile(const Backward& job, int64_t row, int rows, Columns col, Scratch<T>& s) {
  const LcSegmentCumulants& in = *job.in;
  Tile<T> t = stage<X, T>(in, row, rows, col, s);
  X* dx = static_cast<X*>(job.dx) + row * in.columns + col.first;
  if (t.x != s.tile) {
    T* to = reinterpret_cast<T*>(dx);
    job.streaming ? gradient_tile<T, K, true>(t, to, in.columns, s)
                  : gradient_tile<T, K, false>(t, to, in.columns, s);
    return;
  }
  t.columns = col.width;  // in place: whole packs, none processed twice
  gradient_tile<T, K, false>(t, s.tile, t.stride, s);
  for (int r = 0; r < rows; ++r) convert(s.tile + r * t.stride, dx + r * in.columns, col.count);
}

template <class X, class T, int K>
void backward_chunk(const Backward& job, int64_t segment, int64_t first, int64_t last) {
  const LcSegmentCumulants& in = *job.in;
  Scratch<T>& s = *static_cast<Scratch<T>*>(job.scratch());
  const int panels = panel_count<T>(in.columns);
  for (int panel = 0; panel < panels && first < last; ++panel) {
    const Columns col = panel_columns<T>(in.columns, panel, panels);
    in.root ? set_coefficients<T, K, true>(job, segment, col, s) : set_coefficients<T, K, false>(job, segment, col, s);
    for (int64_t row = first; row < last; row += TILE_ROWS)
      backward_tile<X, T, K>(job, row, int(last - row < TILE_ROWS ? last - row : TILE_ROWS), col, s);
  }
}

template <class X, class T, int K>
void backward_segments(const Backward& job, int64_t first, int64_t last) {
  const int64_t* ptr = job.in->ptr;
  for (int64_t i = first; i < last; ++i)
    if (ptr[i + 1] - ptr[i] <= CHUNK_ROWS) backward_chunk<X, T, K>(job, i, ptr[i], ptr[i + 1]);
  finish_streaming();
}

}  // namespace
}  // namespace latentcmp
