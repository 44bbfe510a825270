"""Time of a picture through a DINOv2 at 224 x 224, in batches: transformers on torch beside the program, in turns on one machine.

    python tools/check_full_size.py --arch dinov2-small --export DIR
    python tools/bench_dinov2.py --binary target/release/clip-aware --folder DIR [--batch 8]

Only ratios of one run mean anything. Needs tools/requirements-parity.txt."""
import argparse
import json
import statistics
import subprocess
import time

import torch
from transformers import AutoModel


def program(arguments, precision):
    command = [arguments.binary, "--model", arguments.folder, "--precision", precision, "--device", "cpu", "--threads",
               str(arguments.threads), "bench", "encode", "--batch", str(arguments.batch), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)["ms_per_item"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = {name: AutoModel.from_pretrained(arguments.folder, dtype=getattr(torch, name)).eval()
              for name in ("float32", "bfloat16")}

    def reference(name):
        pixels = torch.full((arguments.batch, 3, 224, 224), 0.1, dtype=getattr(torch, name))
        start = time.perf_counter()
        with torch.inference_mode():
            models[name](pixel_values=pixels)
        return 1e3 * (time.perf_counter() - start) / arguments.batch

    times = {"torch f32": [], "torch bf16": [], "f32": [], "bf16": [], "int8": []}
    for name in models:
        reference(name)
    for _ in range(arguments.rounds):
        for label, name in (("torch f32", "float32"), ("torch bf16", "bfloat16")):
            times[label].append(statistics.median(reference(name) for _ in range(5)))
        for precision in ("f32", "bf16", "int8"):
            times[precision].append(program(arguments, precision))
    base = statistics.median(times["torch bf16"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:10s} {median:8.1f} ms  {base / median:.2f} x torch bf16  (rounds {', '.join(f'{v:.1f}' for v in values)})")


if __name__ == "__main__":
    main()
