"""Time of one picture through a DETR (800 x 1066) or an RT-DETR (640 x 640): transformers on torch beside the program, in turns on one machine.

    python tools/check_full_size.py --arch detr-resnet-50 --export DIR
    python tools/bench_detr.py --binary target/release/clip-aware --folder DIR

Only ratios of one run mean anything. Needs tools/requirements-detr.txt.
"""

import argparse
import copy
import json
import statistics
import subprocess
import time

import torch
from transformers import AutoModelForObjectDetection


def program(arguments, precision):
    command = [arguments.binary, "--detector", arguments.folder, "--precision", precision, "--device", "cpu", "--threads",
               str(arguments.threads), "bench", "detect", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)["ms_per_image"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModelForObjectDetection.from_pretrained(arguments.folder).eval()
    height, width = (800, 1066) if model.config.model_type == "detr" else (640, 640)
    models = {"torch f32": model, "torch bf16": copy.deepcopy(model).to(torch.bfloat16)}

    def reference(name):
        pixels = torch.zeros(1, 3, height, width, dtype=models[name].dtype)
        mask = torch.ones(1, height, width, dtype=torch.long)
        start = time.perf_counter()
        with torch.inference_mode():
            models[name](pixel_values=pixels, pixel_mask=mask)
        return 1e3 * (time.perf_counter() - start)

    times = {name: [] for name in (*models, "f32", "bf16")}
    for name in models:
        reference(name)
    for _ in range(arguments.rounds):
        for name in models:
            times[name].append(statistics.median(reference(name) for _ in range(3)))
        for precision in ("f32", "bf16"):
            times[precision].append(program(arguments, precision))
    base = statistics.median(times["torch f32"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:10s} {median:8.0f} ms  {base / median:.2f} x torch f32  (rounds {', '.join(f'{v:.0f}' for v in values)})")


if __name__ == "__main__":
    main()
