// Packs of columns in GNU vector extensions, of the width that the translation unit is compiled for. All definitions
// have internal linkage, because the same source is compiled once for each instruction set.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// LC_OF_ISA(name) is name_avx2 where LATENTCMP_ISA is avx2.
#define LC_JOIN(name, isa) name##_##isa
#define LC_JOIN_EXPANDED(name, isa) LC_JOIN(name, isa)
#define LC_OF_ISA(name) LC_JOIN_EXPANDED(name, LATENTCMP_ISA)

namespace latentcmp {
namespace {

#if defined(__AVX512F__)
constexpr int PACK_BYTES = 64;
#elif defined(__AVX2__)
constexpr int PACK_BYTES = 32;
#else
constexpr int PACK_BYTES = 16;
#endif
constexpr bool MANY_REGISTERS = PACK_BYTES == 64;

template <class T, int BYTES>
struct PackOf {
  typedef T type __attribute__((vector_size(BYTES)));
};
template <class T>
using Pack = typename PackOf<T, PACK_BYTES>::type;
template <class T>
constexpr int LANES = PACK_BYTES / int(sizeof(T));
using PackBits = Pack<int64_t>;

template <class T>
inline Pack<T> load(const T* p) {
  Pack<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline void store(T* p, Pack<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// A non-temporal store; p is aligned to a pack.
template <class T>
inline void store_streaming(T* p, Pack<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__x86_64__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
  store(p, v);
#endif
}

inline void finish_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// One pack of doubles, read from float or double.
inline Pack<double> load_wide(const double* p) { return load(p); }
inline Pack<double> load_wide(const float* p) {
  typename PackOf<float, PACK_BYTES / 2>::type v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Pack<double>);
}
inline void store_narrow(double* p, Pack<double> v) { store(p, v); }
inline void store_narrow(float* p, Pack<double> v) {
  typedef typename PackOf<float, PACK_BYTES / 2>::type Half;
  const Half half = __builtin_convertvector(v, Half);
  std::memcpy(p, &half, sizeof half);
}

// v rounded to T, as double.
template <class T>
inline Pack<double> rounded(Pack<double> v) {
  typedef typename PackOf<T, LANES<double> * int(sizeof(T))>::type Some;
  return __builtin_convertvector(__builtin_convertvector(v, Some), Pack<double>);
}
// One pack of T from LANES<T> / LANES<double> packs of doubles.
inline Pack<double> narrow(const Pack<double> (&v)[1]) { return v[0]; }
inline Pack<float> narrow(const Pack<double> (&v)[2]) {
  typedef typename PackOf<float, PACK_BYTES / 2>::type Half;
  const Half low = __builtin_convertvector(v[0], Half), high = __builtin_convertvector(v[1], Half);
#if defined(__AVX512F__)
  return (Pack<float>)_mm512_insertf32x8(_mm512_castps256_ps512((__m256)low), (__m256)high, 1);
#elif defined(__AVX2__)
  return (Pack<float>)_mm256_set_m128((__m128)high, (__m128)low);
#else
  Pack<float> both;
  std::memcpy(&both, &low, sizeof low);
  std::memcpy(reinterpret_cast<char*>(&both) + sizeof low, &high, sizeof high);
  return both;
#endif
}

inline Pack<float> magnitude(Pack<float> v) { return (Pack<float>)((Pack<int32_t>)v & 0x7fffffff); }
inline Pack<double> magnitude(Pack<double> v) {
  return (Pack<double>)((PackBits)v & int64_t(0x7fffffffffffffff));
}
// The larger of |a| and |b|, a >= 0.
inline Pack<float> larger_magnitude(Pack<float> a, Pack<float> b) {
#if defined(__AVX512DQ__)
  return (Pack<float>)_mm512_range_ps((__m512)a, (__m512)b, 11);
#else
  return a > magnitude(b) ? a : magnitude(b);
#endif
}
inline Pack<double> larger_magnitude(Pack<double> a, Pack<double>) { return a; }
inline Pack<double> with_sign_of(Pack<double> size, Pack<double> sign) {
  return (Pack<double>)((PackBits)size | ((PackBits)sign & INT64_MIN));
}
inline Pack<double> zero_unless_above(Pack<double> key, double bound, Pack<double> value) {
  return key <= bound ? Pack<double>{} : value;
}
inline Pack<double> square_root(Pack<double> v) {
#if defined(__AVX512F__)
  return (Pack<double>)_mm512_sqrt_pd((__m512d)v);
#elif defined(__AVX2__)
  return (Pack<double>)_mm256_sqrt_pd((__m256d)v);
#else
  for (int i = 0; i < LANES<double>; ++i) v[i] = __builtin_sqrt(v[i]);
  return v;
#endif
}
// a^(-1/q) to a relative error of 0.1: exponent and mantissa, read as one fixed-point number, divided by -q.
inline Pack<double> guess_inverse_root(Pack<double> a, int q) {
  const double one = 1023.0 * (1 << 20);
  const Pack<double> high = __builtin_convertvector((PackBits)a >> 32, Pack<double>);
  return (Pack<double>)(__builtin_convertvector(one + (one - high) / double(q), PackBits) << 32);
}

// 16-bit input and output.
struct Half16 {
  uint16_t bits;
};
struct Brain16 {
  uint16_t bits;
};
inline void convert(const float* from, float* to, int64_t n) { std::memcpy(to, from, n * sizeof(float)); }
inline void convert(const double* from, double* to, int64_t n) { std::memcpy(to, from, n * sizeof(double)); }
inline void convert(const Brain16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = uint32_t(from[i].bits) << 16;
    std::memcpy(to + i, &bits, 4);
  }
}
inline void convert(const float* from, Brain16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, 4);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    to[i].bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
  }
}
inline void convert(const Half16* from, float* to, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < n; ++i) {
    _Float16 half;
    std::memcpy(&half, from + i, 2);
    to[i] = float(half);
  }
}
inline void convert(const float* from, Half16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const _Float16 half = _Float16(from[i]);
    std::memcpy(to + i, &half, 2);
  }
}

}  // namespace
}  // namespace latentcmp
