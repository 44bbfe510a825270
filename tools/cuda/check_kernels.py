#!/usr/bin/env python3
"""The CUDA kernels without a GPU: src/compute/gpu/kernels.cu, compiled for the CPU with on_host.h, against torch in f64.

    python3 tools/cuda/check_kernels.py [--sanitize]

Needs a C++20 compiler, torch and numpy. `--sanitize` builds with the thread sanitizer, which finds a missing barrier; run it
with `LD_PRELOAD=$(c++ -print-file-name=libtsan.so)`. What this cannot show: speed, and that the tiles of `ldmatrix` and
`mma` lie as on_host.h takes them to (its source is the PTX manual); benches/gpu.py compares whole towers on a GPU.
"""

import argparse
import ctypes
import pathlib
import subprocess
import sys
import tempfile

import torch
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).resolve().parent
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
# In the order of src/compute/activation.rs, from 1.
ACTIVATIONS = [
    lambda x: x,
    lambda x: x * torch.sigmoid(1.702 * x),
    F.gelu,
    lambda x: F.gelu(x, approximate="tanh"),
    F.relu,
    F.silu,
]


def build(folder: pathlib.Path, sanitize: bool) -> ctypes.CDLL:
    library = folder / "kernels.so"
    flags = ["-fsanitize=thread", "-g"] if sanitize else []
    command = ["c++", "-std=c++20", "-O2", "-fPIC", "-shared", "-pthread", "-fno-strict-aliasing", "-Wno-unknown-pragmas"]
    command += ["-DCLIP_AWARE_ON_HOST", f"-I{FOLDER}", *flags, str(FOLDER / "on_host.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def pointer(tensor):
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def numbers(*shape, kind, scale=1.0):
    return (torch.randn(*shape) * scale).to(TYPES[kind])


def compare(what, found, expected, kind):
    """Half a unit of the last place for the result, and a little for the sums before it."""
    found, expected = found.double(), expected.double()
    unit = {"bf16": 2.0**-8, "f16": 2.0**-11}[kind]
    error = ((found - expected).abs() / (expected.abs() + 0.2)).max().item()
    ok = found.isfinite().all().item() and error <= 2.5 * unit
    print(f"{'ok  ' if ok else 'FAIL'} {kind:4} {what}: {error / unit:.2f} units of the last place")
    return ok


def check_finish(library, kind):
    ok = True
    rows, row = 7, 40
    for activation, function in enumerate(ACTIVATIONS):
        for with_bias, with_residual in [(True, False), (True, True), (False, True), (False, False)]:
            x, bias, residual = numbers(rows, row, kind=kind), numbers(row, kind=kind), numbers(rows, row, kind=kind)
            expected = function(x.double() + (bias.double() if with_bias else 0)) + (residual.double() if with_residual else 0)
            library.run_finish(
                kind == "f16", pointer(x), pointer(bias if with_bias else None),
                pointer(residual if with_residual else None), x.numel(), row, activation,
            )
            ok &= compare(f"finish, activation {activation}, bias {with_bias}, residual {with_residual}", x, expected, kind)
    return ok


def check_norm(library, kind):
    ok = True
    for rows, row in [(1, 8), (5, 512), (6, 768), (3, 1024), (9, 1152), (2, 2048)]:
        x = numbers(rows, row, kind=kind, scale=3.0) + 2
        x, weight, bias = x.to(TYPES[kind]), numbers(row, kind=kind), numbers(row, kind=kind)
        out = torch.full_like(x, float("nan"))
        library.run_norm(
            kind == "f16", pointer(x), pointer(weight), pointer(bias), pointer(out), rows, row, ctypes.c_float(1e-5)
        )
        expected = F.layer_norm(x.double(), (row,), weight.double(), bias.double(), 1e-5)
        ok &= compare(f"norm of {rows} x {row}", out, expected, kind)
    return ok


def attention(q, k, v, heads, causal, lengths):
    batch, keys, hidden = k.shape
    split = lambda x: x.double().view(x.shape[0], x.shape[1], heads, hidden // heads).transpose(1, 2)
    scores = split(q) @ split(k).transpose(2, 3)
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), float("-inf"))
    if lengths is not None:
        hidden_keys = torch.arange(keys)[None, :] >= torch.tensor(lengths)[:, None]
        scores = scores.masked_fill(hidden_keys[:, None, None, :], float("-inf"))
    return (scores.softmax(-1).nan_to_num(0.0) @ split(v)).transpose(1, 2).reshape(batch, -1, hidden)


def check_packed(library, kind, batch, length, heads, size, causal=False, lengths=None, wanted=False):
    """Projections side by side, as the towers have them; `wanted`: one query of each sequence, apart."""
    hidden = heads * size
    padded = next(side for side in (64, 96, 128) if size <= side)
    qkv, bias = numbers(batch, length, 3 * hidden, kind=kind), numbers(3 * hidden, kind=kind)
    scale = size**-0.5
    qkv[..., :hidden] *= scale
    bias[:hidden] *= scale
    whole = (qkv.double() + bias.double()).to(TYPES[kind])
    q, k, v = whole.split(hidden, dim=-1)
    base, item = qkv.data_ptr(), qkv.element_size()
    at = lambda part: ctypes.c_void_p(base + part * hidden * item)
    bias_at = lambda part: ctypes.c_void_p(bias.data_ptr() + part * hidden * item)
    queries, row, sequence = length, 3 * hidden, 3 * hidden * length
    q_at, q_stride, q_sequence = at(0), row, sequence
    if wanted:
        some = qkv[:, length // 2 : length // 2 + 1, :hidden].contiguous()
        q, queries, q_at, q_stride, q_sequence = q[:, length // 2 : length // 2 + 1], 1, pointer(some), hidden, hidden
    out = torch.full((batch, queries, hidden), float("nan"), dtype=TYPES[kind])
    counts = None if lengths is None else torch.tensor(lengths, dtype=torch.int32)
    library.run_attention(
        kind == "f16", padded, q_at, at(1), at(2), bias_at(0), bias_at(1), bias_at(2), pointer(counts), pointer(out),
        batch, queries, length, heads, size, q_stride, q_sequence, row, sequence, row, sequence, causal,
    )
    what = f"attention of {batch} x {length}, {heads} heads of {size}"
    what += ", causal" * causal + f", lengths {lengths}" * (lengths is not None) + ", one query" * wanted
    return compare(what, out, attention(q, k, v, heads, causal, lengths), kind)


def check_apart(library, kind, batch, queries, keys, heads, size):
    """One query sequence for a whole batch, keys and values side by side without a bias: the head of SigLIP."""
    hidden = heads * size
    probe, kv = numbers(1, queries, hidden, kind=kind, scale=size**-0.5), numbers(batch, keys, 2 * hidden, kind=kind)
    out = torch.full((batch, queries, hidden), float("nan"), dtype=TYPES[kind])
    values = ctypes.c_void_p(kv.data_ptr() + hidden * kv.element_size())
    nothing = pointer(None)
    library.run_attention(
        kind == "f16", next(side for side in (64, 96, 128) if size <= side), pointer(probe), pointer(kv), values, nothing,
        nothing, nothing, nothing, pointer(out), batch, queries, keys, heads, size, hidden, 0, 2 * hidden,
        2 * hidden * keys, 2 * hidden, 2 * hidden * keys, False,
    )
    k, v = kv.split(hidden, dim=-1)
    expected = attention(probe.expand(batch, -1, -1), k, v, heads, False, None)
    return compare(f"attention of {queries} shared queries over {batch} x {keys}, {heads} heads of {size}", out, expected, kind)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanitize", action="store_true", help="with the thread sanitizer")
    sanitize = parser.parse_args().sanitize
    torch.manual_seed(3)
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        library = build(pathlib.Path(folder), sanitize)
        for kind in TYPES:
            ok &= check_finish(library, kind)
            ok &= check_norm(library, kind)
            ok &= check_packed(library, kind, 2, 50, 2, 64)
            ok &= check_packed(library, kind, 1, 77, 2, 64, causal=True)
            ok &= check_packed(library, kind, 3, 77, 1, 64, causal=True, wanted=False, lengths=[77, 1, 40])
            ok &= check_packed(library, kind, 1, 257, 1, 64)
            ok &= check_packed(library, kind, 2, 64, 1, 64, causal=True)
            ok &= check_packed(library, kind, 1, 1, 2, 64)
            ok &= check_packed(library, kind, 2, 50, 2, 64, wanted=True, lengths=[26, 0])
            ok &= check_packed(library, kind, 1, 70, 2, 72)
            ok &= check_packed(library, kind, 1, 65, 1, 80, causal=True)
            ok &= check_packed(library, kind, 1, 50, 2, 104)
            ok &= check_packed(library, kind, 1, 66, 1, 128)
            ok &= check_packed(library, kind, 2, 17, 3, 8)
            ok &= check_apart(library, kind, 3, 1, 130, 2, 64)
            ok &= check_apart(library, kind, 2, 70, 9, 1, 32)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
