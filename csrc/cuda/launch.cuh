// Chooses the smallest team of threads whose shared memory holds a problem, and launches one team for each problem.
#pragma once
#include "../include/latentcmp.h"
#include "team.cuh"

namespace latentcmp {

constexpr int MAX_THREADS = 512;
constexpr int MAX_COUNT = 1024;
constexpr int MAX_BLOCKS = 16;  // of a cluster

struct Shape {
  int blocks, threads, tile;  // blocks of a cluster, 0: the device cannot hold the problem
  int64_t bytes;              // of shared memory in each
};

// One kernel, compiled for a block and for a cluster; its arguments are a problem and the width of a tile.
template <class Problem>
struct TeamKernel {
  void (*on_block)(Problem, int);
  void (*on_cluster)(Problem, int);

  cudaLaunchConfig_t configure(const Shape& shape, int64_t problems, cudaLaunchAttribute* cluster) const {
    cluster->id = cudaLaunchAttributeClusterDimension;
    cluster->val.clusterDim.x = unsigned(shape.blocks);
    cluster->val.clusterDim.y = cluster->val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(unsigned(problems * shape.blocks));
    config.blockDim = dim3(unsigned(shape.threads));
    config.dynamicSmemBytes = size_t(shape.bytes);
    config.attrs = cluster;
    config.numAttrs = shape.blocks > 1 ? 1 : 0;
    const auto kernel = shape.blocks > 1 ? on_cluster : on_block;
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shape.bytes));
    if (shape.blocks > 8) cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    return config;
  }

  bool runs(const Shape& shape) const {
    if (shape.blocks == 1) return true;
    cudaLaunchAttribute cluster;
    const cudaLaunchConfig_t config = configure(shape, 1, &cluster);
    int clusters = 0;
    const cudaError_t code = cudaOccupancyMaxActiveClusters(&clusters, on_cluster, &config);
    cudaGetLastError();  // clears the error of an unsupported shape
    return code == cudaSuccess && clusters > 0;
  }

  // For `count` columns and numbers(blocks, tile) doubles in each block, on the current device.
  template <class Numbers>
  Shape shape_for(int64_t count, Numbers numbers) const {
    int device = 0, limit = 0, major = 0;
    if (count < 1 || count > MAX_COUNT || cudaGetDevice(&device) != cudaSuccess) return {};
    cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    const int threads = count <= 32 ? 32 : count <= 64 ? 128 : MAX_THREADS;
    for (int blocks = 1; blocks <= (major >= 9 ? MAX_BLOCKS : 1); blocks *= 2)
      for (int tile : {32, 8}) {
        const Shape shape{blocks, threads, tile, numbers(blocks, tile) * int64_t(sizeof(double))};
        if (shape.bytes <= limit && runs(shape)) return shape;
      }
    return {};
  }

  int32_t launch(const Shape& shape, const Problem& in) const {
    if (in.problems == 0) return LC_OK;
    cudaLaunchAttribute cluster;
    cudaLaunchConfig_t config = configure(shape, in.problems, &cluster);
    config.stream = static_cast<cudaStream_t>(in.stream);
    const auto kernel = shape.blocks > 1 ? on_cluster : on_block;
    const cudaError_t code = cudaLaunchKernelEx(&config, kernel, in, shape.tile);
    const cudaError_t last = cudaGetLastError();
    return int32_t(code == cudaSuccess ? last : code);
  }
};

}  // namespace latentcmp
