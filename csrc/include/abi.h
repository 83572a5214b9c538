// The sizes of the structs of latentcmp.h, for lc_cpu_struct_size and lc_cuda_struct_size.
#pragma once
#include <cstring>
#include "latentcmp.h"

namespace latentcmp {

struct StructSize {
  const char* name;
  int64_t bytes;
};

#define LC_SIZE_OF(name) {#name, int64_t(sizeof(name))}
constexpr StructSize STRUCT_SIZES[] = {
    LC_SIZE_OF(LcSegmentCumulants), LC_SIZE_OF(LcCentredRows), LC_SIZE_OF(LcFold),     LC_SIZE_OF(LcCutoffLosses),
    LC_SIZE_OF(LcSpectrum),         LC_SIZE_OF(LcGramSpectra), LC_SIZE_OF(LcSmallSvd), LC_SIZE_OF(LcLocalTarget),
    LC_SIZE_OF(LcLocalRidge),       LC_SIZE_OF(LcRidgeFold),
};
#undef LC_SIZE_OF

inline int64_t struct_size(const char* name) {
  for (const StructSize& size : STRUCT_SIZES)
    if (std::strcmp(size.name, name) == 0) return size.bytes;
  return 0;
}

}  // namespace latentcmp
