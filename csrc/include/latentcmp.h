// C ABI between the native kernels and latentcmp/_runtime/native.py: pointers, extents and a stream in, a code out.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define LC_API extern "C" __declspec(dllexport)
#else
#define LC_API extern "C" __attribute__((visibility("default")))
#endif

enum LcStatus : int32_t { LC_OK = 0, LC_BAD_ARGUMENT = -1, LC_BAD_OFFSETS = -2, LC_NO_MEMORY = -3 };
enum LcType : int32_t { LC_FLOAT32 = 0, LC_FLOAT64 = 1, LC_FLOAT16 = 2, LC_BFLOAT16 = 3 };

// Rows of x grouped by segment; `wide` below is float64 for float64 input and float32 for the other types.
struct LcSegments {
  const void* x;         // [rows, columns], unit column stride
  const int64_t* ptr;    // [segments + 1]
  int64_t rows;
  int64_t columns;
  int64_t row_stride;    // elements from one row of x to the next
  int64_t segments;
  int32_t type;          // LcType of x
  int32_t order;         // 1 .. 8
  int32_t root;          // 0: cumulants; 1: sign(k) |k|^(1/m)
  int32_t threads;       // CPU threads; unused on CUDA
  void* stream;          // CUDA stream; unused on the CPU
};

// out: [segments, order, columns] wide; residual: [segments, columns] wide, the mean less its rounded value in
// out, or null.
LC_API int32_t lc_cpu_segment_cumulants(const LcSegments* in, void* out, void* residual);

// grad, out: [segments, order, columns] wide; residual as above or null; dx: [rows, columns] in x's type.
LC_API int32_t lc_cpu_segment_cumulants_backward(const LcSegments* in, const void* grad, const void* out,
                                                 const void* residual, void* dx);

// Targets of local maps: for each problem, rows of y in two folds, and for each fold the factors of the source's
// rows fitted there. All arrays are contiguous but y, whose columns have unit stride.
struct LcFold {
  const int64_t* rows;       // [problems, count] rows of y
  const double* directions;  // [problems, count, rank] left singular vectors of the source rows, strongest first
  const double* projected;   // [problems, rank, count of the other fold] its source rows along the right singular
                             // vectors, over the singular values
  const int64_t* kept;       // [problems, alphas] leading directions kept, not rising with alpha
  int64_t count;
  int64_t rank;
};

struct LcCutoffLosses {
  const double* y;     // [train rows, columns]
  int64_t columns;
  int64_t row_stride;  // elements from one row of y to the next
  int64_t problems;
  int64_t alphas;
  LcFold folds[2];
  void* stream;        // CUDA stream; unused on the CPU
};

// losses: [problems, alphas], the mean over columns of the root mean squared error on the fold that was not fitted,
// averaged over the two folds. Rows are taken as they are: they must lie inside y.
LC_API int32_t lc_cpu_cutoff_losses(const LcCutoffLosses* in, double* losses);

// Rows of x in double, less a centre, and their squared norms. Rows are taken as they are: they must lie inside x.
struct LcCentredRows {
  const void* x;          // [rows of x, columns] float32 or float64, unit column stride
  const int64_t* rows;    // [count] rows of x
  const double* centre;   // [columns]
  double* out;            // [count, columns], unit column stride
  double* squares;        // [count]
  int64_t count;
  int64_t columns;
  int64_t row_stride;     // elements from one row of x to the next
  int64_t out_stride;     // elements from one row of out to the next
  int64_t squares_stride; // elements from one of squares to the next
  int32_t type;           // LcType of x
  int32_t threads;
};

LC_API int32_t lc_cpu_centred_rows(const LcCentredRows* in);

// Names the instruction set in use: "avx512", "avx2" or "baseline".
LC_API const char* lc_cpu_instruction_set();

// Asks for huge pages behind memory nobody has touched yet; a no-op where that means nothing.
LC_API void lc_cpu_advise_huge_pages(void* memory, int64_t bytes);

// The same operators on device memory; workspace holds lc_cuda_segment_workspace bytes.
LC_API int64_t lc_cuda_segment_workspace(const LcSegments* in);
LC_API int32_t lc_cuda_segment_cumulants(const LcSegments* in, void* out, void* residual, void* workspace);
LC_API int32_t lc_cuda_segment_cumulants_backward(const LcSegments* in, const void* grad, const void* out,
                                                  const void* residual, void* dx);
LC_API const char* lc_cuda_error_name(int32_t code);
// The oldest GPUs that the kernels were compiled for: 80 for sm_80.
LC_API int32_t lc_cuda_lowest_architecture();

// The same losses on device memory, one fold fitted at a time: squares [problems, alphas, columns] holds sums over
// rows of the squared error; workspace [problems, rank + 1, columns].
LC_API int32_t lc_cuda_cutoff_losses(const LcCutoffLosses* in, int32_t fitted, double* squares, double* workspace);

// Eigenvalues and eigenvectors of Gram matrices, the largest `rank` in falling order.
struct LcSpectrum {
  double* squares;     // [problems, rank]
  double* directions;  // [problems, count, rank], eigenvectors in columns
  int64_t count;
  int64_t rank;        // 1 .. count
};

// Rows of x near each of many points, and what is made of them. Rows are taken as they are: they must lie inside x.
struct LcGramSpectra {
  const double* x;        // [train rows, columns], unit column stride
  const int64_t* rows;    // [problems, count] rows of x, the first fold before the second
  int64_t columns;
  int64_t row_stride;     // elements from one row of x to the next
  int64_t problems;
  int64_t count;          // 2 or more
  double* centred;        // [problems, count, columns] the rows less their mean
  double* mean;           // [problems, columns]
  double* gram;           // [problems, count, count] inner products of the centred rows
  LcSpectrum spectra[3];  // of the first fold's block, of the second's, and of the whole
  void* stream;
};

// 1 where the current device's on-chip memory holds a neighbourhood of so many rows, 0 where it does not.
LC_API int32_t lc_cuda_gram_spectra_fit(int64_t count);
LC_API int32_t lc_cuda_gram_spectra(const LcGramSpectra* in);

// Thin singular value decompositions u s v' of many small matrices, strongest first.
struct LcSmallSvd {
  const double* rows;  // [problems, count, columns]
  int64_t columns;
  int64_t problems;
  int64_t count;
  int64_t rank;        // 1 .. min(count, columns) leading directions are written
  double* u;           // [problems, count, rank]
  double* s;           // [problems, rank]
  double* vh;          // [problems, rank, columns]; zeros where a singular value is zero
  void* stream;
};

// 1 where the current device's on-chip memory holds a matrix of these extents, 0 where it does not.
LC_API int32_t lc_cuda_small_svd_fit(int64_t count, int64_t columns);
LC_API int32_t lc_cuda_small_svd(const LcSmallSvd* in);
