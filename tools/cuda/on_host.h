// CUDA on a CPU, as far as src/compute/gpu/kernels.cu uses it: every thread of a block is a thread of the CPU, blocks run one
// after the other, and what a warp does together goes through a place that its 32 threads share. Slow, and the same
// indices, barriers and tiles as on a GPU: a wrong one gives wrong numbers here too, and a missing barrier shows under
// `-fsanitize=thread`.
#pragma once

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define CUDART_INF_F INFINITY

using std::max;
using std::min;

struct uint3 { unsigned x, y, z; };
struct float2 { float x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline thread_local uint3 threadIdx, blockIdx;
inline uint3 blockDim, gridDim;

// What the 32 threads of a warp exchange.
struct Warp {
    std::barrier<> together{32};
    unsigned words[32][8];
    const unsigned short *rows[32];
};
inline thread_local Warp *warp_of_thread;
inline std::barrier<> *block_barrier;

inline void __syncthreads() { block_barrier->arrive_and_wait(); }
inline int lane_of_thread() { return threadIdx.x % 32; }

inline unsigned bits_of(float value) { unsigned bits; std::memcpy(&bits, &value, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline float __shfl_xor_sync(unsigned, float value, int distance) {
    Warp &warp = *warp_of_thread;
    warp.words[lane_of_thread()][0] = bits_of(value);
    warp.together.arrive_and_wait();
    float other = __uint_as_float(warp.words[lane_of_thread() ^ distance][0]);
    warp.together.arrive_and_wait();
    return other;
}

// Round to nearest, ties to even.
inline unsigned short bf16_of(float value) {
    unsigned bits = bits_of(value);
    if (std::isnan(value)) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
struct __nv_bfloat162 { unsigned short x, y; };
struct __half2 { _Float16 x, y; };
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) { return {bf16_of(low), bf16_of(high)}; }
inline __half2 __floats2half2_rn(float low, float high) {
    return {static_cast<_Float16>(low), static_cast<_Float16>(high)};
}
inline float2 __half22float2(__half2 pair) { return {static_cast<float>(pair.x), static_cast<float>(pair.y)}; }

// ldmatrix .x4: lane i names row i % 8 of tile i / 8; lane i gets the numbers 2 * (i % 4) and the next of row i / 4.
inline void load_tiles_as(unsigned (&tiles)[4], const unsigned short *row, bool transposed) {
    Warp &warp = *warp_of_thread;
    int lane = lane_of_thread();
    warp.rows[lane] = row;
    warp.together.arrive_and_wait();
    for (int tile = 0; tile < 4; tile++) {
        unsigned short pair[2];
        for (int i = 0; i < 2; i++) {
            int along = lane % 4 * 2 + i, across = lane / 4;
            pair[i] = transposed ? warp.rows[tile * 8 + along][across] : warp.rows[tile * 8 + across][along];
        }
        tiles[tile] = pair[0] | static_cast<unsigned>(pair[1]) << 16;
    }
    warp.together.arrive_and_wait();
}
inline void load_tiles(unsigned (&tiles)[4], const unsigned short *row) { load_tiles_as(tiles, row, false); }
inline void load_tiles_transposed(unsigned (&tiles)[4], const unsigned short *row) { load_tiles_as(tiles, row, true); }

// mma.m16n8k16. A: a pair of numbers in each of four registers, row lane / 4 (registers 1 and 3: plus 8), column
// 2 * (lane % 4) (registers 2 and 3: plus 8). B: row 2 * (lane % 4) (register 1: plus 8), column lane / 4. Sums: row
// lane / 4 (2 and 3: plus 8), columns 2 * (lane % 4) and the next.
template <typename F>
void warp_multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    Warp &warp = *warp_of_thread;
    int lane = lane_of_thread();
    unsigned *own = warp.words[lane];
    std::copy(a, a + 4, own);
    own[4] = b0;
    own[5] = b1;
    warp.together.arrive_and_wait();
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            float2 left = F::unpack(warp.words[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2]);
            float2 right = F::unpack(warp.words[column * 4 + k % 8 / 2][4 + k / 8]);
            sum[i] += (k % 2 ? left.y : left.x) * (k % 2 ? right.y : right.x);
        }
    }
    warp.together.arrive_and_wait();
}

// Runs a kernel's threads, block after block.
template <typename Kernel>
void launch(unsigned grid_x, unsigned grid_y, unsigned threads, Kernel kernel) {
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    std::vector<std::unique_ptr<Warp>> warps;
    for (unsigned i = 0; i < threads / 32; i++) warps.push_back(std::make_unique<Warp>());
    std::barrier<> barrier(threads), blocks(threads);
    block_barrier = &barrier;
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < threads; thread++) {
        running.emplace_back([&, thread] {
            threadIdx = {thread, 0, 0};
            warp_of_thread = warps[thread / 32].get();
            for (unsigned block = 0; block < grid_x * grid_y; block++) {
                blockIdx = {block % grid_x, block / grid_x, 0};
                kernel();
                blocks.arrive_and_wait();
            }
        });
    }
    for (std::thread &thread : running) thread.join();
}
