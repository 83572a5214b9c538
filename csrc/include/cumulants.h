// Arithmetic shared by host and device, on one value (V = double) or a vector of columns (V = a SIMD pack).
#pragma once

#if defined(__CUDACC__)
#define LC_INLINE __device__ __forceinline__
#define LC_INLINED
#define LC_UNROLL _Pragma("unroll")
#else
#define LC_INLINE inline __attribute__((always_inline))
#define LC_INLINED __attribute__((always_inline))
#define LC_UNROLL _Pragma("GCC unroll 8")
#endif

namespace latentcmp {

// A loop that is unrolled at compile time; its counter is a constant in every iteration.
template <int N>
struct Constant {
  static constexpr int value = N;
};
template <int First, int Last, class Body>
LC_INLINE void for_each(Body body) {
  if constexpr (First <= Last) {
    body(Constant<First>{});
    for_each<First + 1, Last>(body);
  }
}

template <int N, int K>
constexpr double binomial() {
  if constexpr (K == 0) return 1;
  else return binomial<N, K - 1>() * (N - K + 1) / K;
}
template <int N, int K>
struct Binomial {
  static constexpr double value = binomial<N, K>();
};

// Replaces s[p] = sum (x - a)^p by sum (x - a + h)^p, p = 0 .. K (binomial theorem, by repeated addition).
template <int K, class V>
LC_INLINE void shift_sums(V (&s)[K + 1], V h) {
  for_each<1, K>([&](auto i) LC_INLINED {
    for_each<0, K - i.value>([&](auto j) LC_INLINED { s[K - j.value] += h * s[K - j.value - 1]; });
  });
}

// Adds the sums b about mean_b to the sums a about mean_a, both shifted to the joint mean (P. Pebay, SAND2008-6212).
template <int K, class V>
LC_INLINE void merge_sums(V& mean_a, V (&a)[K + 1], V mean_b, V (&b)[K + 1]) {
  const V gap = mean_b - mean_a;
  const V step = (gap * b[0] + a[1] + b[1]) * (1.0 / (a[0] + b[0]));
  shift_sums<K>(a, -step);
  shift_sums<K>(b, gap - step);
  mean_a += step;
  LC_UNROLL
  for (int p = 0; p <= K; ++p) a[p] += b[p];
}

// Cumulants k[1] .. k[K] from sums s about a: k_m = m_m - sum_j C(m - 1, j - 1) k_j m_{m-j}, m_j central.
template <int K, class V>
LC_INLINE void cumulants_of_sums(V a, V (&s)[K + 1], V (&k)[K + 1]) {
  const V inverse = 1.0 / s[0];
  const V left = s[1] * inverse;
  shift_sums<K>(s, -left);
  k[0] = s[0];
  k[1] = a + left;
  for_each<2, K>([&](auto m) LC_INLINED {
    s[m.value] *= inverse;
    k[m.value] = s[m.value];
    for_each<2, m.value - 2>([&](auto j) LC_INLINED {
      k[m.value] -= Binomial<m.value - 1, j.value - 1>::value * k[j.value] * s[m.value - j.value];
    });
  });
}

template <class V>
LC_INLINE V integer_power(V a, int n) {
  V value = a;
  for (int i = 1; i < n; ++i) value *= a;
  return value;
}

// a^(1/Q) for a >= 0 and odd Q by third-order iteration of the inverse root, from a guess of relative error 0.1.
template <int Q, class V>
LC_INLINE V odd_root(V a) {
  V z = guess_inverse_root(a, Q);
  LC_UNROLL
  for (int i = 0; i < 4; ++i) {
    const V error = 1.0 - a * integer_power(z, Q);
    z += z * error * (1.0 / Q + error * ((Q + 1.0) / (2.0 * Q * Q)));
  }
  return zero_unless_above(a, 1e-300, a * integer_power(z, Q - 1));
}

template <int M, class V>
LC_INLINE V root_of_magnitude(V a) {
  if constexpr (M == 1) return a;
  else if constexpr (M % 2 == 0) return root_of_magnitude<M / 2>(square_root(a));
  else return odd_root<M>(a);
}

template <int K, int M = 2, class V>
LC_INLINE void signed_roots(V (&k)[K + 1]) {
  if constexpr (M <= K) {
    k[M] = with_sign_of(root_of_magnitude<M>(magnitude(k[M])), k[M]);
    signed_roots<K, M + 1>(k);
  }
}

// Replaces the cotangent g[m] of r[m] = sign(k_m) |k_m|^(1/m) by that of k_m, and r[m] by k_m. The slope is taken as 0
// where it would exceed 1 / tiny, as it does at r = 0.
template <int K, class V>
LC_INLINE void through_roots(V (&g)[K + 1], V (&r)[K + 1], double tiny) {
  for_each<2, K>([&](auto m) LC_INLINED {
    const V power = integer_power(magnitude(r[m.value]), m.value - 1);
    g[m.value] = zero_unless_above(power, tiny, g[m.value] / (double(m.value) * power));
    r[m.value] *= power;
  });
}

// Coefficients c[0] .. c[K - 1] of (x - mean)^j in the gradient: with 1 / M(t) = exp(-K(t)) = sum a_j t^j / j!,
// d k_m / d x = (m / n) sum_j C(m - 1, j) a_{m-1-j} (x - mean)^j. k[1] is not read: it is taken as 0.
template <int K, class V>
LC_INLINE void gradient_coefficients(const V (&g)[K + 1], const V (&k)[K + 1], double rows, V (&c)[K]) {
  V a[K];
  a[0] = 0.0 * g[1] + 1.0;
  for_each<1, K - 1>([&](auto i) LC_INLINED {
    a[i.value] = a[0] - a[0];
    for_each<2, i.value>([&](auto j) LC_INLINED {
      a[i.value] -= Binomial<i.value - 1, j.value - 1>::value * k[j.value] * a[i.value - j.value];
    });
  });
  for_each<0, K - 1>([&](auto j) LC_INLINED {
    V sum = a[0] - a[0];
    for_each<j.value + 1, K>([&](auto m) LC_INLINED {
      sum += (m.value * Binomial<m.value - 1, j.value>::value) * g[m.value] * a[m.value - 1 - j.value];
    });
    c[j.value] = sum / rows;
  });
}

}  // namespace latentcmp
