"""Time of one picture through a YOLOX (the network alone): ONNX Runtime beside the program, in turns on one machine.

    python tools/bench_yolox.py --binary target/release/clip-aware --weights DIR [--threads 1] [--side 416]

The graph for ONNX Runtime is made here, from tools/yolox_torch.py with the same weights. Only ratios of one run mean anything. Needs
tools/requirements-detect.txt, onnx, onnxscript and onnxruntime.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import time

import numpy as np
import onnxruntime
import torch

import yolox_torch


class Graph(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.raw(x)


def session(weights, side, threads):
    path = os.path.join(weights, "model.safetensors") if os.path.isdir(weights) else weights
    graph = Graph(yolox_torch.Yolox(path)).eval()
    pixels = torch.full((1, 3, side, side), 114.0)
    made = io.BytesIO()
    torch.onnx.export(graph, (pixels,), input_names=["images"], dynamo=True, verbose=False).save(made)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    ready = onnxruntime.InferenceSession(made.getvalue(), options, providers=["CPUExecutionProvider"])
    difference = np.abs(ready.run(None, {"images": pixels.numpy()})[0] - graph(pixels).numpy()).max()
    if difference > 1e-2:
        raise SystemExit(f"the exported graph differs from torch by {difference}")
    return lambda: ready.run(None, {"images": pixels.numpy()})


def program(arguments, precision):
    command = [arguments.binary, "--detector", arguments.weights, "--precision", precision, "--device", "cpu", "--threads",
               str(arguments.threads), "bench", "detect", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)["ms_per_image"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--side", type=int, default=416, help="of the square that the checkpoint is made for")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    look = session(arguments.weights, arguments.side, arguments.threads)

    def reference():
        times = []
        for _ in range(40):
            start = time.perf_counter()
            look()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)

    reference()
    times = {"onnxruntime": [], "f32": [], "bf16": [], "int8": []}
    for _ in range(arguments.rounds):
        times["onnxruntime"].append(reference())
        for precision in ("f32", "bf16", "int8"):
            times[precision].append(program(arguments, precision))
    base = statistics.median(times["onnxruntime"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:12s} {median:6.2f} ms  {base / median:.2f} x onnxruntime f32  (rounds {', '.join(f'{v:.1f}' for v in values)})")


if __name__ == "__main__":
    main()
