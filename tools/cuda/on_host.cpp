// The kernels behind functions that Python can call; see check_kernels.py.
#include "../../src/compute/gpu/kernels.cu"

using Number = unsigned short;

extern "C" void run_finish(bool half, Number *values, const Number *bias, const Number *residual, unsigned all, unsigned row,
                           int activation) {
    auto eights = [](const Number *numbers) { return reinterpret_cast<const uint4 *>(numbers); };
    launch(2, 1, 64, [=] {
        auto kernel = half ? finish_f16 : finish_bf16;
        kernel(reinterpret_cast<uint4 *>(values), eights(bias), eights(residual), all / 8, row / 8, activation);
    });
}

extern "C" void run_norm(bool half, const Number *x, const Number *weight, const Number *bias, Number *out, unsigned rows,
                         unsigned row, float eps) {
    auto eights = [](const Number *numbers) { return reinterpret_cast<const uint4 *>(numbers); };
    launch((rows + 3) / 4, 1, 128, [=] {
        auto kernel = half ? norm_f16 : norm_bf16;
        kernel(eights(x), eights(weight), eights(bias), reinterpret_cast<uint4 *>(out), rows, row / 8, eps);
    });
}

// `padded`: 64, 96 or 128. Strides in numbers; a sequence's step of zero shares one among all.
extern "C" void run_attention(bool half, int padded, const Number *q, const Number *k, const Number *v, const Number *q_bias,
                              const Number *k_bias, const Number *v_bias, const unsigned *lengths, Number *out,
                              unsigned batch, unsigned queries, unsigned keys, unsigned heads, unsigned size,
                              unsigned q_stride, unsigned q_sequence, unsigned k_stride, unsigned k_sequence,
                              unsigned v_stride, unsigned v_sequence, bool causal) {
    auto kernel = padded == 64 ? (half ? attention_f16_64 : attention_bf16_64)
                  : padded == 96 ? (half ? attention_f16_96 : attention_bf16_96)
                                 : (half ? attention_f16_128 : attention_bf16_128);
    launch((queries + QUERIES - 1) / QUERIES, batch * heads, ATTENTION_THREADS, [=] {
        kernel(q, k, v, q_bias, k_bias, v_bias, lengths, out, queries, keys, heads, size, q_stride, q_sequence, k_stride,
               k_sequence, v_stride, v_sequence, causal);
    });
}
