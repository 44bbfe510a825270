"""COCO AP of the built program beside that of the reference implementation on the same photos and weights.

    python tools/coco_ap.py --program target/release/clip-aware --weights DIR --images DIR --instances FILE [--side 416]

Needs tools/requirements-detect.txt. The reference is tools/yolox_torch.py, which `--golden FILE` first compares with
ONNX Runtime's outputs for the published graph. Prints AP, AP50 and AP75 of both, in points.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file

import yolox_torch

FLOOR, IOU = 0.001, 0.65  # The reference's own for evaluation: exps/default, tools/eval.py.


def evaluate(coco, results):
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(results)
        run = COCOeval(coco, found, "bbox")
        run.params.imgIds = sorted(coco.getImgIds())
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [100 * x for x in run.stats[:3]]


def reference(net, photos, folder, side, resampling):
    results = []
    for photo in photos:
        image = cv2.imread(os.path.join(folder, photo["file_name"]))
        for x0, y0, x1, y1, score, cls in net.detect(image, side, FLOOR, IOU, resampling):
            results.append((photo["id"], [x0, y0, x1 - x0, y1 - y0], score, int(cls)))
    return results


def program(arguments, photos, names):
    command = [arguments.program, "--root", arguments.images, "--detector", arguments.weights, "--json", "detect"]
    command += ["--threshold", str(FLOOR), arguments.images]
    by_name = {photo["file_name"]: photo["id"] for photo in photos}
    results = []
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    if output.returncode == 2:
        raise SystemExit(output.stderr)
    for line in output.stdout.splitlines():
        answer = json.loads(line)
        photo = by_name.get(os.path.basename(answer["path"]))
        if photo is None:
            continue
        for found in answer["detections"]:
            x0, y0, x1, y1 = found["box"]
            results.append((photo, [x0, y0, x1 - x0, y1 - y0], found["score"], names.index(found["label"])))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program")
    parser.add_argument("--weights", required=True, help="folder with model.safetensors, batch norms folded")
    parser.add_argument("--images", required=True)
    parser.add_argument("--instances", required=True)
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--golden", help="inputs and outputs of the published graph in ONNX Runtime")
    arguments = parser.parse_args()
    net = yolox_torch.Yolox(os.path.join(arguments.weights, "model.safetensors"))
    if arguments.golden:
        golden = load_file(arguments.golden)
        for name in sorted({key.rsplit(".", 1)[0] for key in golden}):
            given, expected = golden[name + ".input_bgr"].float(), golden[name + ".output_raw"][0].float()
            ours = yolox_torch.letterbox(cv2.imread(os.path.join(arguments.images, name)), arguments.side, "pillow")
            output = net.raw(given)
            print(f"{name}: input differs by {np.abs(ours - given[0].numpy()).max():.0f}, "
                  f"output by {(output - expected).abs().max():.2e}")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(arguments.instances)
    photos = coco.loadImgs(sorted(coco.getImgIds()))
    categories = sorted(coco.loadCats(coco.getCatIds()), key=lambda c: c["id"])
    names = [c["name"] for c in categories]
    rows = {f"reference, {resampling}": reference(net, photos, arguments.images, arguments.side, resampling)
            for resampling in ("cv2", "pillow")}
    if arguments.program:
        rows["clip-aware"] = program(arguments, photos, names)
    for name, results in rows.items():
        formed = [{"image_id": i, "bbox": [float(v) for v in b], "score": float(s), "category_id": categories[c]["id"]}
                  for i, b, s, c in results]
        ap, ap50, ap75 = evaluate(coco, formed)
        print(f"{name:18s} boxes {len(formed):6d}  AP {ap:.2f}  AP50 {ap50:.2f}  AP75 {ap75:.2f}")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
