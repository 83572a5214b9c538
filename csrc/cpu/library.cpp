// Entry points that belong to the whole library: its ABI, and memory.
#include "../include/abi.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

LC_API int32_t lc_cpu_abi_version() { return LC_ABI_VERSION; }

LC_API int64_t lc_cpu_struct_size(const char* name) { return latentcmp::struct_size(name); }

LC_API void lc_cpu_advise_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, first = (reinterpret_cast<uintptr_t>(memory) + page - 1) & ~(page - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + bytes) & ~(page - 1);
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}
