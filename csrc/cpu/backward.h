// The gradient: a polynomial in the centred value, its coefficients the same for all rows of a segment.
#pragma once
#include "forward.h"

namespace latentcmp {
namespace {

inline double tiny_of(float) { return 1.17549435e-38; }
inline double tiny_of(double) { return 2.2250738585072014e-308; }

// One double pack from p, with zeros where fewer than a pack are left.
template <class T>
inline Pack<double> load_some(const T* p, int64_t left) {
  if (left >= LANES<double>) return load_wide(p);
  T some[LANES<double>] = {};
  std::memcpy(some, p, left * sizeof(T));
  return load_wide(some);
}

// A power of two near the standard deviation, so that powers of (x - mean) / unit stay in float32's range.
inline Pack<double> unit_near(Pack<double> deviation) {
  const Pack<double> power = (Pack<double>)((PackBits)deviation & int64_t(0x7ff0000000000000));
  return zero_unless_above(deviation, 1e-30, power - 1.0) + 1.0;
}

// Into s: coefficients (out[0 .. K - 1], for powers of scaled values), centre, scale and what the rounded centre
// is off by, times the scale (sums[0]).
template <class T, int K, bool ROOT>
inline void set_coefficients(const Backward& job, int64_t segment, Columns col, Scratch<T>& s) {
  const LcSegments& in = *job.in;
  const int64_t offset = segment * in.order * in.columns + col.first;
  const T* grad = static_cast<const T*>(job.grad) + offset;
  const T* out = static_cast<const T*>(job.out) + offset;
  const T* residual = job.residual ? static_cast<const T*>(job.residual) + segment * in.columns + col.first : nullptr;
  const double rows = double(in.ptr[segment + 1] - in.ptr[segment]);
  for (int c = 0; c < col.width; c += LANES<double>) {
    const int64_t left = col.count - c > 0 ? col.count - c : 0;
    Pack<double> g[K + 1] = {}, k[K + 1] = {}, coefficient[K];
    for (int m = 1; m <= in.order; ++m) {
      g[m] = load_some(grad + (m - 1) * in.columns + c, left);
      k[m] = load_some(out + (m - 1) * in.columns + c, left);
    }
    if (ROOT) through_roots<K>(g, k, tiny_of(T(0)));
    gradient_coefficients<K>(g, k, rows, coefficient);
    Pack<double> unit = Pack<double>{} + 1.0, power = unit;
    if (SCALED<T, K>) unit = unit_near(square_root(k[2]));
    for (int j = 0; j < K; ++j, power *= unit) store_narrow(s.out[j] + c, coefficient[j] * power);
    store_narrow(s.centre + c, k[1]);
    store_narrow(s.scale + c, 1.0 / unit);
    store_narrow(s.sums[0] + c, (residual ? load_some(residual + c, left) : Pack<double>{}) / unit);
  }
}

template <class T, int K, int ROWS, bool STREAMING>
inline void gradient_pack(const T* x, int64_t stride, T* to, int64_t to_stride, int c, const Scratch<T>& s) {
  const Pack<T> centre = load(s.centre + c), scale = load(s.scale + c), left = load(s.sums[0] + c);
  Pack<T> coefficient[K];
  for (int j = 0; j < K; ++j) coefficient[j] = load(s.out[j] + c);
  for (int r = 0; r < ROWS; ++r) {
    const Pack<T> d = (load(x + r * stride + c) - centre) * scale - left;
    Pack<T> value = coefficient[K - 1];
    for (int j = K - 2; j >= 0; --j) value = value * d + coefficient[j];
    if (STREAMING) store_streaming(to + r * to_stride + c, value);
    else store(to + r * to_stride + c, value);
  }
}

template <class T, int K, int ROWS, bool STREAMING>
inline void gradient_rows(const Tile<T>& t, int row, T* to, int64_t to_stride, const Scratch<T>& s) {
  const T* x = t.x + row * t.stride;
  const char* ahead = reinterpret_cast<const char*>(x + 3 * ROWS * t.stride);
  int c = 0;
  for (; c + LANES<T> <= t.columns; c += LANES<T>) {
    for (int r = 0; r < ROWS; ++r, ahead += PACK_BYTES) prefetch(ahead);
    gradient_pack<T, K, ROWS, STREAMING>(x, t.stride, to, to_stride, c, s);
  }
  if (c < t.columns) gradient_pack<T, K, ROWS, false>(x, t.stride, to, to_stride, t.columns - LANES<T>, s);
}

template <class T, int K, bool STREAMING>
inline void gradient_tile(const Tile<T>& t, T* to, int64_t to_stride, const Scratch<T>& s) {
  int row = 0;
  for (; row + 4 <= t.rows; row += 4) gradient_rows<T, K, 4, STREAMING>(t, row, to + row * to_stride, to_stride, s);
  for (; row < t.rows; ++row) gradient_rows<T, K, 1, STREAMING>(t, row, to + row * to_stride, to_stride, s);
}

template <class X, class T, int K>
inline void backward_tile(const Backward& job, int64_t row, int rows, Columns col, Scratch<T>& s) {
  const LcSegments& in = *job.in;
  const Tile<T> t = stage<X, T>(in, row, rows, col, s);
  X* dx = static_cast<X*>(job.dx) + row * in.columns + col.first;
  if (t.x != s.tile) {
    T* to = reinterpret_cast<T*>(dx);
    job.streaming ? gradient_tile<T, K, true>(t, to, in.columns, s)
                  : gradient_tile<T, K, false>(t, to, in.columns, s);
    return;
  }
  gradient_tile<T, K, false>(t, s.tile, t.stride, s);  // in place: staged rows are whole packs
  for (int r = 0; r < rows; ++r) convert(s.tile + r * t.stride, dx + r * in.columns, col.count);
}

template <class X, class T, int K>
void backward_chunk(const Backward& job, int64_t segment, int64_t first, int64_t last) {
  const LcSegments& in = *job.in;
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
