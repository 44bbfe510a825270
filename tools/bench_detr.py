"""Time of one picture through a DETR (800 x 1066), an RT-DETR (640 x 640), an OWL (its own size; the image side alone, as a second
question is nearly free) or a Faster R-CNN (640 x 480, which becomes 800 x 1066): transformers on torch, or torchvision, beside the program,
in turns on one machine.

    python tools/check_full_size.py --arch detr-resnet-50 --export DIR
    python tools/bench_detr.py --binary target/release/clip-aware --folder DIR

Only ratios of one run mean anything. Needs tools/requirements-detr.txt, or tools/requirements-owl.txt.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
from transformers import AutoModelForObjectDetection, Owlv2ForObjectDetection, OwlViTForObjectDetection


def program(arguments, precision):
    command = [arguments.binary, "--detector", arguments.folder, "--precision", precision, "--device", "cpu", "--threads",
               str(arguments.threads), "bench", "detect", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)["ms_per_image"]


def pass_of(model_type, folder, dtype):
    """What is timed: a function of nothing."""
    if model_type == "faster_rcnn":
        # Both are given the picture as it is; theirs has numbers from 0 to 1 already.
        from torchvision.models.detection import fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2
        tensors = torch.load(pathlib.Path(folder) / "weights.pth")
        make = fasterrcnn_resnet50_fpn_v2 if "roi_heads.box_head.0.0.weight" in tensors else fasterrcnn_resnet50_fpn
        model = make(weights=None, weights_backbone=None).eval()
        model.load_state_dict(tensors)
        picture = torch.full((3, 480, 640), 128 / 255)
        return lambda: model.to(dtype)([picture.to(dtype)])
    if not model_type.startswith("owl"):
        model = AutoModelForObjectDetection.from_pretrained(folder, dtype=dtype).eval()
        height, width = (800, 1066) if model_type == "detr" else (640, 640)
        pixels, mask = torch.zeros(1, 3, height, width, dtype=dtype), torch.ones(1, height, width, dtype=torch.long)
        return lambda: model(pixel_values=pixels, pixel_mask=mask)
    kind = Owlv2ForObjectDetection if model_type == "owlv2" else OwlViTForObjectDetection
    model = kind.from_pretrained(folder, dtype=dtype).eval()
    side = model.config.vision_config.image_size
    pixels = torch.zeros(1, 3, side, side, dtype=dtype)

    def look():
        grid = model.image_embedder(pixel_values=pixels)[0]
        patches = grid.flatten(1, 2)
        return model.class_predictor(patches), model.box_predictor(patches, grid)

    return look


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-bf16", action="store_true", help="torch in bf16 too: for an OWL minutes without instructions for it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = pathlib.Path(arguments.folder) / "config.json"
    model_type = json.loads(config.read_text())["model_type"] if config.exists() else "faster_rcnn"
    names = ["float32", "bfloat16"] if arguments.torch_bf16 else ["float32"]
    models = {name: pass_of(model_type, arguments.folder, getattr(torch, name)) for name in names}
    labels = {"float32": "torch f32", "bfloat16": "torch bf16"}

    def reference(name):
        start = time.perf_counter()
        with torch.inference_mode():
            models[name]()
        return 1e3 * (time.perf_counter() - start)

    times = {labels[name]: [] for name in names} | {"f32": [], "bf16": []}
    for name in names:
        reference(name)
    for _ in range(arguments.rounds):
        for name in names:
            times[labels[name]].append(statistics.median(reference(name) for _ in range(3)))
        for precision in ("f32", "bf16"):
            times[precision].append(program(arguments, precision))
    base = statistics.median(times["torch f32"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:10s} {median:8.0f} ms  {base / median:.2f} x torch f32  (rounds {', '.join(f'{v:.0f}' for v in values)})")


if __name__ == "__main__":
    main()
