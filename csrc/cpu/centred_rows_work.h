// Between the entry point and the kernels of one instruction set.
#pragma once
#include "../include/latentcmp.h"

namespace latentcmp {

// Rows first .. last of `in`, by the type of x.
using CentredRowsKernel = void (*)(const LcCentredRows& in, int64_t first, int64_t last);
CentredRowsKernel centred_rows_kernel_baseline(int32_t type);
CentredRowsKernel centred_rows_kernel_avx2(int32_t type);
CentredRowsKernel centred_rows_kernel_avx512(int32_t type);

}  // namespace latentcmp
