// What a transformer does between its matrix products, in 16-bit floats, each in one pass over memory.
//
// nvcc compiles this for the feature `cuda` (build.rs); tools/cuda/check_kernels.py compiles it for the CPU with
// tools/cuda/on_host.h, where a thread of the CPU stands for every one of the GPU, and compares it with a reference.
// All arithmetic is in 32-bit floats; rows are read and written in vectors of eight numbers.

#ifdef CLIP_AWARE_ON_HOST
#include "on_host.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

// Four 8 x 8 tiles of 16-bit numbers from shared memory: lane i names row i % 8 of tile i / 8.
// Source: PTX ISA, `ldmatrix`.
__device__ inline void load_tiles(unsigned (&tiles)[4], const unsigned short *row) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(address) : "memory");
}

// As `load_tiles`, each tile transposed.
__device__ inline void load_tiles_transposed(unsigned (&tiles)[4], const unsigned short *row) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(address) : "memory");
}
#endif

struct Bf16 {
    static __device__ inline float2 unpack(unsigned bits) {
        return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
    }

    static __device__ inline unsigned pack(float low, float high) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
        return reinterpret_cast<unsigned &>(pair);
    }

    // sum[16, 8] += a[16, 16] b[16, 8], a warp together. Source: PTX ISA, `mma.m16n8k16`.
    static __device__ inline void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef CLIP_AWARE_ON_HOST
        warp_multiply<Bf16>(sum, a, b0, b1);
#else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
    }
};

struct F16 {
    static __device__ inline float2 unpack(unsigned bits) {
        return __half22float2(reinterpret_cast<const __half2 &>(bits));
    }

    static __device__ inline unsigned pack(float low, float high) {
        __half2 pair = __floats2half2_rn(low, high);
        return reinterpret_cast<unsigned &>(pair);
    }

    static __device__ inline void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef CLIP_AWARE_ON_HOST
        warp_multiply<F16>(sum, a, b0, b1);
#else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
    }
};

template <typename F>
__device__ inline void unpack_eight(uint4 eight, float (&values)[8]) {
    const unsigned words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 pair = F::unpack(words[i]);
        values[2 * i] = pair.x;
        values[2 * i + 1] = pair.y;
    }
}

template <typename F>
__device__ inline uint4 pack_eight(const float (&values)[8]) {
    return make_uint4(F::pack(values[0], values[1]), F::pack(values[2], values[3]), F::pack(values[4], values[5]),
                      F::pack(values[6], values[7]));
}

template <typename F>
__device__ inline void add_eight(float (&values)[8], uint4 other) {
    float more[8];
    unpack_eight<F>(other, more);
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] += more[i];
}

// The functions of src/compute/activation.rs, by their place there; 0 is none.
__device__ inline float activate(float x, int activation) {
    switch (activation) {
        case 1: return x / (1.0f + __expf(-1.702f * x));
        case 2: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case 3: return x / (1.0f + __expf(-1.5957691f * (x + 0.044715f * x * x * x)));
        case 4: return fmaxf(x, 0.0f);
        case 5: return x / (1.0f + __expf(-x));
        case 6: return 1.0f / (1.0f + __expf(-x));
        default: return x;
    }
}

// A product's end, in place: plus bias, the activation, plus residual. Shapes: `values`, `residual` `[rows, row]`, `bias`
// `[row]`, either may be null; lengths in vectors of eight numbers.
template <typename F>
__device__ inline void finish(uint4 *values, const uint4 *bias, const uint4 *residual, unsigned all, unsigned row,
                              int activation) {
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < all; i += gridDim.x * blockDim.x) {
        float x[8];
        unpack_eight<F>(values[i], x);
        if (bias) add_eight<F>(x, bias[i % row]);
        if (activation) {
#pragma unroll
            for (int n = 0; n < 8; n++) x[n] = activate(x[n], activation);
        }
        if (residual) add_eight<F>(x, residual[i]);
        values[i] = pack_eight<F>(x);
    }
}

__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

// Vectors of a row that a lane keeps: rows of at most 32 * 8 * 8 numbers.
constexpr int NORM_VECTORS = 8;

// Layer normalisation, a warp for each row. Shapes: `x`, `out` `[rows, row]`, `weight`, `bias` `[row]`; `row` in vectors.
template <typename F>
__device__ inline void norm(const uint4 *x, const uint4 *weight, const uint4 *bias, uint4 *out, unsigned rows, unsigned row,
                            float eps) {
    unsigned warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (warp >= rows) return;
    x += static_cast<size_t>(warp) * row;
    out += static_cast<size_t>(warp) * row;
    float values[NORM_VECTORS][8];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < NORM_VECTORS; i++) {
        if (i * 32 + lane < row) {
            unpack_eight<F>(x[i * 32 + lane], values[i]);
#pragma unroll
            for (int n = 0; n < 8; n++) sum += values[i][n];
        }
    }
    float width = static_cast<float>(row) * 8.0f, mean = warp_sum(sum) / width;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < NORM_VECTORS; i++) {
        if (i * 32 + lane < row) {
#pragma unroll
            for (int n = 0; n < 8; n++) squares += (values[i][n] - mean) * (values[i][n] - mean);
        }
    }
    float scale = rsqrtf(warp_sum(squares) / width + eps);
#pragma unroll
    for (int i = 0; i < NORM_VECTORS; i++) {
        if (i * 32 + lane < row) {
            float gain[8];
            unpack_eight<F>(weight[i * 32 + lane], gain);
#pragma unroll
            for (int n = 0; n < 8; n++) values[i][n] = (values[i][n] - mean) * scale * gain[n];
            add_eight<F>(values[i], bias[i * 32 + lane]);
            out[i * 32 + lane] = pack_eight<F>(values[i]);
        }
    }
}

// Queries of a block, sixteen for each of its warps, and keys that it looks at together.
constexpr int QUERIES = 64, KEYS = 64, ATTENTION_THREADS = 128;

// The rows of one head of one sequence.
struct Rows {
    const unsigned short *values, *bias;  // the head's first number; `bias` may be null
    unsigned stride;                      // numbers from row to row
};

// Rows with their bias into shared memory; what lies behind `count` rows or `size` numbers is zeros.
template <typename F, int SIZE>
__device__ inline void load_rows(unsigned short *shared, Rows rows, int first, int count, int size) {
    for (int i = threadIdx.x; i < KEYS * (SIZE / 8); i += ATTENTION_THREADS) {
        int row = i / (SIZE / 8), column = i % (SIZE / 8) * 8;
        uint4 eight = make_uint4(0, 0, 0, 0);
        if (row < count && column < size) {
            size_t at = static_cast<size_t>(first + row) * rows.stride + column;
            eight = *reinterpret_cast<const uint4 *>(rows.values + at);
            if (rows.bias) {
                float x[8];
                unpack_eight<F>(eight, x);
                add_eight<F>(x, *reinterpret_cast<const uint4 *>(rows.bias + column));
                eight = pack_eight<F>(x);
            }
        }
        *reinterpret_cast<uint4 *>(shared + row * (SIZE + 8) + column) = eight;
    }
}

// What an attention is given; lengths in numbers.
struct Attention {
    const unsigned short *q, *k, *v;                 // first number of head 0 of sequence 0
    const unsigned short *q_bias, *k_bias, *v_bias;  // null: none
    const unsigned *lengths;                         // keys that each sequence has; null: all
    unsigned short *out;                             // [batch, queries, heads * size]
    unsigned queries, keys, heads, size;
    unsigned q_stride, q_sequence, k_stride, k_sequence, v_stride, v_sequence;  // from row to row, sequence to sequence
    int causal;
};

// `softmax(q k^T) v` of 64 queries of one head of one sequence; queries come scaled. Scores and weights stay in registers,
// the largest score so far and the sum of the weights are kept for every query and what was summed is scaled when a larger
// score turns up. Source: Dao 2023, "FlashAttention-2", section 3.1; PTX ISA for which lane holds what.
template <typename F, int SIZE>
__device__ inline void attention(const Attention &of) {
    constexpr int STRIDE = SIZE + 8;  // so that eight rows of a tile begin in different banks
    constexpr float LOG2_E = 1.44269504f;
    __shared__ uint4 memory[2 * KEYS * STRIDE / 8];
    unsigned short *all_keys = reinterpret_cast<unsigned short *>(memory), *all_values = all_keys + KEYS * STRIDE;

    const int lane = threadIdx.x % 32, group = lane / 4, pair = lane % 4 * 2;
    const int head = blockIdx.y % of.heads, sequence = blockIdx.y / of.heads, size = of.size;
    const int queries = of.queries, first = blockIdx.x * QUERIES, own = first + threadIdx.x / 32 * 16;
    const int column = head * size;
    auto rows = [&](const unsigned short *values, const unsigned short *bias, unsigned stride, unsigned step) {
        return Rows{values + static_cast<size_t>(sequence) * step + column, bias ? bias + column : nullptr, stride};
    };
    const Rows q = rows(of.q, of.q_bias, of.q_stride, of.q_sequence);
    const Rows k = rows(of.k, of.k_bias, of.k_stride, of.k_sequence);
    const Rows v = rows(of.v, of.v_bias, of.v_stride, of.v_sequence);
    int keys = of.keys;
    if (of.lengths) keys = min(keys, static_cast<int>(of.lengths[sequence]));
    const int seen = of.causal ? min(keys, first + QUERIES) : keys;

    // The warp's queries as tiles, by way of the keys' place.
    load_rows<F, SIZE>(all_keys, q, first, min(QUERIES, queries - first), size);
    __syncthreads();
    unsigned query_tiles[SIZE / 16][4];
#pragma unroll
    for (int d = 0; d < SIZE / 16; d++)
        load_tiles(query_tiles[d], all_keys + (own - first + lane % 16) * STRIDE + d * 16 + lane / 16 * 8);

    float sums[SIZE / 8][4] = {}, most[2] = {-CUDART_INF_F, -CUDART_INF_F}, totals[2] = {};
    for (int start = 0; start < seen; start += KEYS) {
        __syncthreads();
        load_rows<F, SIZE>(all_keys, k, start, min(KEYS, seen - start), size);
        load_rows<F, SIZE>(all_values, v, start, min(KEYS, seen - start), size);
        __syncthreads();
        // The last block may have fewer queries than warps; under a causal mask a warp's queries may see none of these.
        if (own >= queries || (of.causal && start > own + 15)) continue;

        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            if (start + n * 8 >= seen) continue;
#pragma unroll
            for (int d = 0; d < SIZE / 16; d++) {
                unsigned tiles[4];
                load_tiles(tiles, all_keys + (n * 8 + lane / 16 * 8 + lane % 8) * STRIDE + d * 16 + lane / 8 % 2 * 8);
                F::multiply(scores[n], query_tiles[d], tiles[0], tiles[1]);
                F::multiply(scores[n + 1], query_tiles[d], tiles[2], tiles[3]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = own + group + half * 8;
            float largest = most[half];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    const int key = start + n * 8 + pair + i % 2;
                    if (key >= seen || (of.causal && key > query)) scores[n][i] = -CUDART_INF_F;
                    largest = fmaxf(largest, scores[n][i]);
                }
            }
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
            // A query that sees nothing yet: not infinity minus infinity.
            const float shift = largest == -CUDART_INF_F ? 0.0f : largest * LOG2_E;
            const float scale = exp2f(most[half] * LOG2_E - shift);
            most[half] = largest;
            totals[half] *= scale;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    scores[n][i] = exp2f(scores[n][i] * LOG2_E - shift);
                    totals[half] += scores[n][i];
                }
            }
#pragma unroll
            for (int d = 0; d < SIZE / 8; d++) {
                sums[d][2 * half] *= scale;
                sums[d][2 * half + 1] *= scale;
            }
        }
        // Two tiles of scores are laid out as one of the left side of a product.
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
            if (start + n * 16 >= seen) continue;
            const unsigned weights[4] = {
                F::pack(scores[2 * n][0], scores[2 * n][1]), F::pack(scores[2 * n][2], scores[2 * n][3]),
                F::pack(scores[2 * n + 1][0], scores[2 * n + 1][1]), F::pack(scores[2 * n + 1][2], scores[2 * n + 1][3])};
#pragma unroll
            for (int d = 0; d < SIZE / 16; d++) {
                unsigned tiles[4];
                load_tiles_transposed(tiles, all_values + (n * 16 + lane % 16) * STRIDE + d * 16 + lane / 16 * 8);
                F::multiply(sums[2 * d], weights, tiles[0], tiles[1]);
                F::multiply(sums[2 * d + 1], weights, tiles[2], tiles[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float total = totals[half];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        const float factor = total > 0.0f ? 1.0f / total : 0.0f;
        const int query = own + group + half * 8;
        if (query >= queries) continue;
        unsigned short *out = of.out + (static_cast<size_t>(sequence) * queries + query) * of.heads * size + column;
#pragma unroll
        for (int d = 0; d < SIZE / 8; d++) {
            if (d * 8 < size)
                *reinterpret_cast<unsigned *>(out + d * 8 + pair) =
                    F::pack(sums[d][2 * half] * factor, sums[d][2 * half + 1] * factor);
        }
    }
}

#define FINISH(NAME, F)                                                                                                     \
    extern "C" __global__ void finish_##NAME(uint4 *values, const uint4 *bias, const uint4 *residual, unsigned all,         \
                                             unsigned row, int activation) {                                                \
        finish<F>(values, bias, residual, all, row, activation);                                                            \
    }
#define NORM(NAME, F)                                                                                                       \
    extern "C" __global__ void norm_##NAME(const uint4 *x, const uint4 *weight, const uint4 *bias, uint4 *out,              \
                                           unsigned rows, unsigned row, float eps) {                                        \
        norm<F>(x, weight, bias, out, rows, row, eps);                                                                      \
    }
#define ATTENTION(NAME, F, SIZE)                                                                                            \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_##NAME##_##SIZE(                              \
        const unsigned short *q, const unsigned short *k, const unsigned short *v, const unsigned short *q_bias,            \
        const unsigned short *k_bias, const unsigned short *v_bias, const unsigned *lengths, unsigned short *out,           \
        unsigned queries, unsigned keys, unsigned heads, unsigned size, unsigned q_stride, unsigned q_sequence,             \
        unsigned k_stride, unsigned k_sequence, unsigned v_stride, unsigned v_sequence, int causal) {                       \
        const Attention of = {q,    k,    v,        q_bias,     k_bias,   v_bias,     lengths,  out,        queries, keys,  \
                              heads, size, q_stride, q_sequence, k_stride, k_sequence, v_stride, v_sequence, causal};        \
        attention<F, SIZE>(of);                                                                                             \
    }

FINISH(bf16, Bf16)
FINISH(f16, F16)
NORM(bf16, Bf16)
NORM(f16, F16)
ATTENTION(bf16, Bf16, 64)
ATTENTION(bf16, Bf16, 96)
ATTENTION(bf16, Bf16, 128)
ATTENTION(f16, F16, 64)
ATTENTION(f16, F16, 96)
ATTENTION(f16, F16, 128)
