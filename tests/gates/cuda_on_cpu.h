// The part of CUDA that the kernels' source needs to run on the CPU. Kernels launched by <<<>>> use neither shared memory
// nor synchronisation, so their threads run one after another; cuda_fibers.h runs the others.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __CUDACC__ 1

using std::max;
using std::min;
enum cudaError_t { cudaSuccess = 0 };
typedef void* cudaStream_t;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorName(int) { return "none"; }

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1) : x(x), y(y), z(1) {}
};
inline dim3 blockIdx, threadIdx, blockDim;

template <class Kernel>
void run_on_cpu(dim3 grid, dim3 block, Kernel kernel) {
  blockDim = block;
  for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x)
        for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y) kernel();
}

template <class To, class From>
To same_bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline int __float_as_int(float v) { return same_bits<int>(v); }
inline float __int_as_float(int v) { return same_bits<float>(v); }
inline int __double2hiint(double v) { return int(same_bits<int64_t>(v) >> 32); }
inline double __hiloint2double(int high, int low) {
  return same_bits<double>(int64_t(uint64_t(uint32_t(high)) << 32 | uint32_t(low)));
}

typedef _Float16 __half;
struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __half2float(__half v) { return float(v); }
inline __half __float2half(float v) { return __half(v); }
inline float __bfloat162float(__nv_bfloat16 v) { return same_bits<float>(uint32_t(v.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16(float v) {
  const uint32_t bits = same_bits<uint32_t>(v);
  return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
