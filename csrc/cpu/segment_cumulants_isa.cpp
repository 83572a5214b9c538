// The kernels of one instruction set; compiled once for each, whose name is LATENTCMP_ISA.
#include "segment_cumulants_backward.h"

namespace latentcmp {
namespace {

template <class X, class T, int K>
constexpr SegmentKernels kernels_of() {
  return {K,
          forward_segments<X, T, K>,
          forward_chunk<X, T, K>,
          forward_merge<T, K>,
          backward_segments<X, T, K>,
          backward_chunk<X, T, K>};
}

template <class X, class T>
SegmentKernels kernels_of_order(int32_t order) {
  static_assert(sizeof(Scratch<T>) <= SCRATCH_BYTES);
  return order > 4 ? kernels_of<X, T, 8>() : kernels_of<X, T, 4>();
}

}  // namespace

SegmentKernels LC_OF_ISA(segment_cumulants_kernels)(int32_t type, int32_t order) {
  switch (type) {
    case LC_FLOAT64: return kernels_of_order<double, double>(order);
    case LC_FLOAT16: return kernels_of_order<Half16, float>(order);
    case LC_BFLOAT16: return kernels_of_order<Brain16, float>(order);
    default: return kernels_of_order<float, float>(order);
  }
}

}  // namespace latentcmp
