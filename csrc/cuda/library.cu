// Entry points that belong to the whole library: its ABI, error names, and the GPUs that it was built for.
#include "../include/abi.h"

LC_API int32_t lc_cuda_abi_version() { return LC_ABI_VERSION; }

LC_API int64_t lc_cuda_struct_size(const char* name) { return latentcmp::struct_size(name); }

LC_API const char* lc_cuda_error_name(int32_t code) { return cudaGetErrorName(cudaError_t(code)); }

LC_API int32_t lc_cuda_lowest_architecture() {
#ifdef __CUDA_ARCH_LIST__
  const int ascending[] = {__CUDA_ARCH_LIST__};
  return ascending[0] / 10;
#else
  return 0;  // compiled for no GPU
#endif
}
