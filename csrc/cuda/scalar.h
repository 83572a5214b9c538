// The functions that cumulants.h requires, for one double on the device, and the input types.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cstdint>

namespace latentcmp {

__device__ __forceinline__ double magnitude(double v) { return fabs(v); }
__device__ __forceinline__ double square_root(double v) { return sqrt(v); }
__device__ __forceinline__ double with_sign_of(double size, double sign) { return copysign(size, sign); }
__device__ __forceinline__ double zero_unless_above(double key, double bound, double value) {
  return key <= bound ? 0.0 : value;
}
// a^(-1/q) to a relative error of 0.1: exponent and mantissa, read as one fixed-point number, divided by -q.
__device__ __forceinline__ double guess_inverse_root(double a, int q) {
  const double one = 1023.0 * (1 << 20);
  const double high = double(__double2hiint(a));
  return __hiloint2double(int(one + (one - high) / q), 0);
}

template <class X>
struct WideOf {
  typedef float type;
};
template <>
struct WideOf<double> {
  typedef double type;
};
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(__half v) { return __half2float(v); }
__device__ __forceinline__ float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ void narrow(float v, float* to) { *to = v; }
__device__ __forceinline__ void narrow(double v, double* to) { *to = v; }
__device__ __forceinline__ void narrow(float v, __half* to) { *to = __float2half(v); }
__device__ __forceinline__ void narrow(float v, __nv_bfloat16* to) { *to = __float2bfloat16(v); }

}  // namespace latentcmp
