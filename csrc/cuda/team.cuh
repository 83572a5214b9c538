// Threads that solve one problem in shared memory: a block, or from sm_90 on a cluster of blocks.
#pragma once
#include <cooperative_groups.h>
#include <cstdint>

namespace latentcmp {

constexpr int WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;

__device__ inline int my_lane() { return threadIdx.x % WARP; }

// The same bits on every lane.
template <class T>
__device__ inline T warp_sum(T value, int lanes = WARP) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(EVERY_LANE, value, offset);
  return value;
}

// The largest share of `count` items distributed cyclically over `blocks`.
__host__ __device__ inline int64_t share_of(int64_t count, int64_t blocks) { return (count + blocks - 1) / blocks; }

struct Block {
  __device__ static int blocks() { return 1; }
  __device__ static int rank() { return 0; }
  template <class T>
  __device__ static T* address_in(T* shared, int) {
    return shared;
  }
  __device__ static void sync() { __syncthreads(); }
  __device__ static bool any(bool mine, int*) { return __syncthreads_or(mine); }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
struct Cluster : Block {};  // never launched there
#else
struct Cluster {
  __device__ static int blocks() { return int(cooperative_groups::this_cluster().num_blocks()); }
  __device__ static int rank() { return int(cooperative_groups::this_cluster().block_rank()); }
  // The address in another block of the cluster that corresponds to `shared` in this one.
  template <class T>
  __device__ static T* address_in(T* shared, int block) {
    return cooperative_groups::this_cluster().map_shared_rank(shared, block);
  }
  __device__ static void sync() { cooperative_groups::this_cluster().sync(); }
  // `flag` is in this block's shared memory; there must be a sync between two calls.
  __device__ static bool any(bool mine, int* flag) {
    const bool here = __syncthreads_or(mine);
    if (threadIdx.x == 0) *flag = here;
    sync();
    bool result = false;
    for (int block = 0; block < blocks(); ++block) result |= *address_in(flag, block) != 0;
    return result;
  }
};
#endif

// Columns of a matrix, distributed cyclically over the blocks of a team.
template <class Team>
struct Columns {
  double* mine;  // those of this block
  int n;
  int stride;    // from one column to the next; odd, so that columns start in different banks
  int measured;  // leading elements that enter norms and inner products
  int rows;      // all elements

  __device__ double* operator[](int j) const {
    return Team::address_in(mine + j / Team::blocks() * stride, j % Team::blocks());
  }

  // visit(j, column) for this block's columns from `first` on, one warp for each.
  template <class Visit>
  __device__ void each(int first, Visit visit) const {
    const int blocks = Team::blocks(), warps = blockDim.x / WARP;
    const int ahead = (Team::rank() - first % blocks + blocks) % blocks;
    for (int j = first + ahead + int(threadIdx.x / WARP) * blocks; j < n; j += warps * blocks)
      visit(j, mine + j / blocks * stride);
  }
};

}  // namespace latentcmp
