// CUDA kernels with shared memory and barriers on one CPU thread: every CUDA thread of a cluster of blocks is a fiber,
// and a barrier switches to the next one. Shared memory is NaN before its block writes it and after its block has ended,
// and the fibers can run in reverse order: results that depend on the order reveal a missing barrier.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <vector>

#include "cuda_on_cpu.h"

#define LC_SETTING extern "C" __attribute__((visibility("default"))) inline
LC_SETTING int emulated_shared_bytes = 232448;  // of an H100
LC_SETTING int emulated_major = 9;  // compute capability
LC_SETTING int emulated_last_first = 0;

struct Barrier {
  int size, arrived = 0, generation = 0;
  bool any[2] = {false, false};
};

struct Warp {
  Barrier barrier{32};
  char values[2][32][8];
};

struct ClusterOnCpu;

struct BlockOnCpu {
  ClusterOnCpu* cluster;
  unsigned rank;
  dim3 index;
  Barrier barrier;
  std::vector<Warp> warps;
  std::vector<unsigned char> shared;
  int alive;  // threads

  void end_thread() {
    if (--alive == 0) std::fill(shared.begin(), shared.end(), 0xff);
  }
};

struct Fiber {
  BlockOnCpu* block;
  dim3 thread;
  ucontext_t start;
  jmp_buf place;
  std::unique_ptr<char[]> stack;
  bool started = false, done = false;

  void prepare(BlockOnCpu* its_block, unsigned its_thread);
};

struct ClusterOnCpu {
  std::vector<BlockOnCpu> blocks;
  std::vector<Fiber> fibers;
  Barrier barrier;
  std::function<void()> kernel;
};

inline Fiber* running;
inline jmp_buf scheduler;

inline void begin_fiber() {
  running->block->cluster->kernel();
  running->done = true;
  running->block->end_thread();
  _longjmp(scheduler, 1);
}

inline void Fiber::prepare(BlockOnCpu* its_block, unsigned its_thread) {
  constexpr size_t STACK_BYTES = 1 << 15;
  block = its_block, thread = dim3(its_thread), stack.reset(new char[STACK_BYTES]);
  getcontext(&start);
  start.uc_stack.ss_sp = stack.get(), start.uc_stack.ss_size = STACK_BYTES;
  makecontext(&start, begin_fiber, 0);
}

inline void go_on(Fiber& fiber) {
  running = &fiber, blockIdx = fiber.block->index, threadIdx = fiber.thread;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

inline bool wait_at(Barrier& barrier, bool mine = false) {
  const int generation = barrier.generation;
  barrier.any[generation & 1] |= mine;
  if (++barrier.arrived == barrier.size) {
    barrier.arrived = 0, ++barrier.generation;
    barrier.any[barrier.generation & 1] = false;
  }
  while (barrier.generation == generation)
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
  return barrier.any[generation & 1];
}

inline void __syncthreads() { wait_at(running->block->barrier); }
inline int __syncthreads_or(int mine) { return wait_at(running->block->barrier, mine); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int offset) {
  Warp& warp = running->block->warps[threadIdx.x / 32];
  char(*values)[8] = warp.values[warp.barrier.generation & 1];
  const int lane = threadIdx.x % 32;
  std::memcpy(values[lane], &value, sizeof value);
  wait_at(warp.barrier);
  std::memcpy(&value, values[lane ^ offset], sizeof value);
  return value;
}

inline double* shared_memory() { return reinterpret_cast<double*>(running->block->shared.data()); }

namespace cooperative_groups {
struct cluster_group {
  static ClusterOnCpu& mine() { return *running->block->cluster; }
  static unsigned num_blocks() { return unsigned(mine().blocks.size()); }
  static unsigned block_rank() { return running->block->rank; }
  static void sync() { wait_at(mine().barrier); }
  template <class T>
  static T* map_shared_rank(T* at, int rank) {
    const auto offset = reinterpret_cast<unsigned char*>(at) - running->block->shared.data();
    return reinterpret_cast<T*>(mine().blocks[rank].shared.data() + offset);
  }
};
inline cluster_group this_cluster() { return {}; }
}  // namespace cooperative_groups

inline void run_cluster(unsigned first, unsigned blocks, unsigned threads, size_t bytes, std::function<void()> kernel) {
  ClusterOnCpu cluster{std::vector<BlockOnCpu>(blocks), std::vector<Fiber>(blocks * threads)};
  cluster.barrier.size = int(blocks * threads), cluster.kernel = kernel;
  for (unsigned b = 0; b < blocks; ++b)
    cluster.blocks[b] = {&cluster, b, dim3(first + b), {int(threads)}, std::vector<Warp>(threads / 32),
                         std::vector<unsigned char>(bytes, 0xff), int(threads)};
  size_t alive = cluster.fibers.size();
  for (size_t i = 0; i < alive; ++i) cluster.fibers[i].prepare(&cluster.blocks[i / threads], unsigned(i % threads));
  const size_t last = alive - 1;
  while (alive > 0)
    for (size_t i = 0; i <= last; ++i) {
      Fiber& fiber = cluster.fibers[emulated_last_first ? last - i : i];
      if (!fiber.done) go_on(fiber), alive -= fiber.done;
    }
}

enum { cudaLaunchAttributeClusterDimension };
enum { cudaFuncAttributeMaxDynamicSharedMemorySize, cudaFuncAttributeNonPortableClusterSizeAllowed };
enum { cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaDevAttrComputeCapabilityMajor };
struct cudaLaunchAttribute {
  int id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int which, int) {
  *value = which == cudaDevAttrComputeCapabilityMajor ? emulated_major : emulated_shared_bytes;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int) {
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, Kernel, const cudaLaunchConfig_t*) {
  return *clusters = 1, cudaSuccess;
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments... given) {
  const unsigned blocks = config->numAttrs ? config->attrs->val.clusterDim.x : 1;
  blockDim = config->blockDim;
  for (unsigned first = 0; first < config->gridDim.x; first += blocks)
    run_cluster(first, blocks, config->blockDim.x, config->dynamicSmemBytes, [&] { kernel(given...); });
  return cudaSuccess;
}
