// C ABI between the native kernels and latentcmp/_runtime/abi.py, which mirrors the structs and constants below. A
// kernel takes a pointer to a struct of addresses, extents and a stream, and returns an LcStatus or a CUDA error code.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define LC_API extern "C" __declspec(dllexport)
#else
#define LC_API extern "C" __attribute__((visibility("default")))
#endif

// Raise it with every change of a struct, a signature or a meaning in this file, and ABI_VERSION in abi.py with it.
constexpr int32_t LC_ABI_VERSION = 2;

enum LcStatus : int32_t { LC_OK = 0, LC_BAD_ARGUMENT = -1, LC_BAD_OFFSETS = -2, LC_NO_MEMORY = -3 };
enum LcType : int32_t { LC_FLOAT32 = 0, LC_FLOAT64 = 1, LC_FLOAT16 = 2, LC_BFLOAT16 = 3 };

// Rows of x grouped by segment; `wide` below is float64 for float64 input and float32 for the other types.
struct LcSegmentCumulants {
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

// Rows of x in double, minus a centre, and their squared norms. Row numbers are not checked.
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

// One fold of every problem: its rows of y, and the factors u s v' of its source rows. All arrays are contiguous.
struct LcFold {
  const int64_t* rows;       // [problems, count] rows of y
  const double* directions;  // [problems, count, rank] u, singular values in descending order
  const double* projected;   // [problems, rank, count of the other fold] source rows of the other fold times v / s
  const int64_t* kept;       // [problems, alphas] number of leading directions kept, not increasing with alpha
  int64_t count;
  int64_t rank;
};

// Two-fold losses of truncated SVD maps. Row numbers are not checked.
struct LcCutoffLosses {
  const double* y;     // [train rows, columns], unit column stride
  int64_t columns;
  int64_t row_stride;  // elements from one row of y to the next
  int64_t problems;
  int64_t alphas;
  LcFold folds[2];
  void* stream;        // CUDA stream; unused on the CPU
};

// The `rank` largest eigenvalues of Gram matrices, in descending order, and their eigenvectors.
struct LcSpectrum {
  double* squares;     // [problems, rank]
  double* directions;  // [problems, count, rank], eigenvectors in columns
  int64_t count;
  int64_t rank;        // 1 .. count
};

// Gathered rows of x, centred, with their Gram matrix and its eigendecompositions. Row numbers are not checked.
struct LcGramSpectra {
  const double* x;        // [train rows, columns], unit column stride
  const int64_t* rows;    // [problems, count] rows of x, the first fold before the second
  int64_t columns;
  int64_t row_stride;     // elements from one row of x to the next
  int64_t problems;
  int64_t count;          // 2 or more
  double* centred;        // [problems, count, columns] the rows minus their mean
  double* mean;           // [problems, columns]
  double* gram;           // [problems, count, count] inner products of the centred rows
  LcSpectrum spectra[3];  // of the diagonal block of the first fold, of that of the second, and of the whole matrix
  void* stream;
};

// Thin singular value decompositions u s v' of many small matrices, singular values in descending order.
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

// One target of LcLocalRidge.
struct LcLocalTarget {
  const double* train;   // [train rows, columns], unit column stride
  const double* test;    // [problems, columns], unit column stride
  int64_t columns;
  int64_t train_stride;  // elements from one row of train to the next
  int64_t test_stride;
};

// Ridge maps of every test row from its nearest training rows. Row numbers are not checked.
struct LcLocalRidge {
  const double* x;           // [train rows, columns], unit column stride
  const double* query;       // [problems, columns], unit column stride
  const int64_t* rows;       // [problems, count] rows of x and of the targets, the first fold before the second
  const double* strengths;   // [n_strengths] above 0, ascending, relative to the largest singular value
  const LcLocalTarget* targets;
  int64_t columns;
  int64_t row_stride;        // elements from one row of x to the next
  int64_t query_stride;
  int64_t problems;
  int64_t count;             // 2 or more
  int64_t first_count;       // rows of the first fold, 1 .. count - 1
  int64_t n_strengths;
  int64_t n_targets;
};

// Ridge maps fitted to one fold of every problem, and the rows of one target, centred. All arrays are contiguous.
struct LcRidgeFold {
  const double* y;           // [problems, count + other_count, columns]
  const double* directions;  // [problems, count, rank] eigenvectors of the Gram matrix of the fold's source rows
  const double* projected;   // [problems, rank, other_count] directions times inner products with the other fold
  const double* filters;     // [problems, n_strengths, rank] factors of the directions
  int64_t columns;
  int64_t problems;
  int64_t n_strengths;
  int64_t rank;
  int64_t start;             // rows start .. start + count of y are fitted
  int64_t count;
  int64_t other_start;       // rows other_start .. other_start + other_count are held out
  int64_t other_count;
  void* stream;
};

// What the loader compares with its own before it calls a kernel. The size of a struct is in bytes, 0 for a name that
// is not the name of a struct above.
LC_API int32_t lc_cpu_abi_version();
LC_API int32_t lc_cuda_abi_version();
LC_API int64_t lc_cpu_struct_size(const char* name);
LC_API int64_t lc_cuda_struct_size(const char* name);

// out: [segments, order, columns] wide. residual: [segments, columns] wide, the mean minus its rounded value in out, or
// null. workspace: lc_cuda_segment_cumulants_workspace bytes.
LC_API int32_t lc_cpu_segment_cumulants(const LcSegmentCumulants* in, void* out, void* residual);
LC_API int32_t lc_cuda_segment_cumulants(const LcSegmentCumulants* in, void* out, void* residual, void* workspace);
LC_API int64_t lc_cuda_segment_cumulants_workspace(const LcSegmentCumulants* in);

// grad, out: [segments, order, columns] wide. residual: as above. dx: [rows, columns] in x's type.
LC_API int32_t lc_cpu_segment_cumulants_backward(const LcSegmentCumulants* in, const void* grad, const void* out,
                                                 const void* residual, void* dx);
LC_API int32_t lc_cuda_segment_cumulants_backward(const LcSegmentCumulants* in, const void* grad, const void* out,
                                                  const void* residual, void* dx);

LC_API int32_t lc_cpu_centred_rows(const LcCentredRows* in);

// losses: [problems, alphas], the mean over columns of the root mean squared error on the fold that was not fitted,
// averaged over the two folds.
LC_API int32_t lc_cpu_cutoff_losses(const LcCutoffLosses* in, double* losses);
// One fold fitted at a time. squares: [problems, alphas, columns], sums over rows of the squared error on the other
// fold. workspace: [problems, rank + 1, columns].
LC_API int32_t lc_cuda_cutoff_losses(const LcCutoffLosses* in, int32_t fitted, double* squares, double* workspace);

// errors: [n_targets, problems], norms of the residuals of the test rows at the strength with the least squared error
// over both folds.
LC_API int32_t lc_cpu_local_ridge(const LcLocalRidge* in, double* errors);
// One fold fitted at a time, after its decomposition. squares: [problems, n_strengths, columns], sums over rows of the
// squared error on the other fold. workspace: [problems, rank, columns].
LC_API int32_t lc_cuda_local_ridge(const LcRidgeFold* in, double* squares, double* workspace);

// `fits`: 1 where the shared memory of the current device holds one problem of these extents, else 0.
LC_API int32_t lc_cuda_gram_spectra(const LcGramSpectra* in);
LC_API int32_t lc_cuda_gram_spectra_fits(int64_t count);
LC_API int32_t lc_cuda_small_svd(const LcSmallSvd* in);
LC_API int32_t lc_cuda_small_svd_fits(int64_t count, int64_t columns);

// The instruction set in use: "avx512", "avx2" or "baseline".
LC_API const char* lc_cpu_instruction_set();
// Requests huge pages for memory that has not been touched yet; no effect on systems without them.
LC_API void lc_cpu_advise_huge_pages(void* memory, int64_t bytes);
// The name of a positive code of a kernel.
LC_API const char* lc_cuda_error_name(int32_t code);
// The lowest compute capability that the kernels were compiled for: 80 for sm_80.
LC_API int32_t lc_cuda_lowest_architecture();
