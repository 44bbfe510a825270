"""Tiny random YOLOX checkpoints with torch's outputs: the fixtures of tests/fixtures/detectors.

    python tools/export_detectors.py tests/fixtures/detectors

Needs tools/requirements-detect.txt. Weights carry batch norms with running statistics, under the key `model` beside an
optimiser's state, as the reference's training code saves them.
"""

import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import yolox_torch

BASE, HIDDEN, CLASSES, SIDE = 4, 8, 3, 96


def names(depthwise):
    """(name of the BaseConv, inputs, outputs, kernel, groups)"""
    rows = []

    def conv(name, i, o, k, groups=1):
        rows.append((name, i, o, k, groups))

    def block(name, i, o):
        if depthwise:
            conv(name + ".dconv", i, i, 3, i)
            conv(name + ".pconv", i, o, 1)
        else:
            conv(name, i, o, 3)

    def csp(name, i, o, n):
        h = o // 2
        conv(name + ".conv1", i, h, 1)
        conv(name + ".conv2", i, h, 1)
        conv(name + ".conv3", 2 * h, o, 1)
        for m in range(n):
            conv(f"{name}.m.{m}.conv1", h, h, 1)
            block(f"{name}.m.{m}.conv2", h, h)

    b = "backbone.backbone."
    conv(b + "stem.conv", 12, BASE, 3)
    for k, (name, n) in enumerate((("dark2", 1), ("dark3", 3), ("dark4", 3), ("dark5", 1))):
        i, o = BASE << k, BASE << (k + 1)
        block(f"{b}{name}.0", i, o)
        if name == "dark5":
            conv(f"{b}{name}.1.conv1", o, o // 2, 1)
            conv(f"{b}{name}.1.conv2", 2 * o, o, 1)
        csp(f"{b}{name}.{2 if name == 'dark5' else 1}", o, o, n)
    c3, c4, c5 = 4 * BASE, 8 * BASE, 16 * BASE
    conv("backbone.lateral_conv0", c5, c4, 1)
    csp("backbone.C3_p4", 2 * c4, c4, 1)
    conv("backbone.reduce_conv1", c4, c3, 1)
    csp("backbone.C3_p3", 2 * c3, c3, 1)
    block("backbone.bu_conv2", c3, c3)
    csp("backbone.C3_n3", 2 * c3, c4, 1)
    block("backbone.bu_conv1", c4, c4)
    csp("backbone.C3_n4", 2 * c4, c5, 1)
    for k, i in enumerate((c3, c4, c5)):
        conv(f"head.stems.{k}", i, HIDDEN, 1)
        for part in ("cls_convs", "reg_convs"):
            for n in (0, 1):
                block(f"head.{part}.{k}.{n}", HIDDEN, HIDDEN)
    return rows


def state(depthwise, seed):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g)
    tensors = {}
    for name, i, o, k, groups in names(depthwise):
        tensors[name + ".conv.weight"] = rand(o, i // groups, k, k) * (2.0 / (i // groups * k * k)) ** 0.5
        tensors[name + ".bn.weight"] = 1 + 0.3 * rand(o)
        tensors[name + ".bn.bias"] = 0.3 * rand(o)
        tensors[name + ".bn.running_mean"] = 0.2 * rand(o)
        tensors[name + ".bn.running_var"] = 0.5 + torch.rand(o, generator=g)
        tensors[name + ".bn.num_batches_tracked"] = torch.tensor(100)
    for k in range(3):
        for part, o in (("cls", CLASSES), ("reg", 4), ("obj", 1)):
            tensors[f"head.{part}_preds.{k}.weight"] = rand(o, HIDDEN, 1, 1) * (0.1 if part == "reg" else 0.5)
            tensors[f"head.{part}_preds.{k}.bias"] = 0.3 * rand(o)
    # The first convolution sees values of 0 to 255.
    tensors["backbone.backbone.stem.conv.conv.weight"] /= 128
    return tensors


def main(out):
    for seed, kind in ((5, "yolox-depthwise"), (6, "yolox-dense")):
        folder = os.path.join(out, kind)
        os.makedirs(folder, exist_ok=True)
        tensors = state(kind == "yolox-depthwise", seed)
        saved = {"start_epoch": 3, "model": tensors, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
        torch.save(saved, os.path.join(folder, "weights.pth"))
        net = yolox_torch.Yolox(tensors)
        random = np.random.default_rng(seed)
        noise = Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).resize((150, 100), Image.BICUBIC)
        noise.save(os.path.join(folder, "picture.png"))
        bgr = np.ascontiguousarray(np.asarray(noise)[..., ::-1])
        tall = torch.from_numpy(yolox_torch.letterbox(bgr, SIDE, "pillow")[None, :, :, :64].copy())
        raw = net.raw(tall).numpy()
        decoded, at = raw.copy(), 0
        for stride in yolox_torch.STRIDES:
            h, w = SIDE // stride, 64 // stride
            ys, xs = np.divmod(np.arange(h * w), w)
            part = decoded[at : at + h * w]
            part[:, 0], part[:, 1] = (part[:, 0] + xs) * stride, (part[:, 1] + ys) * stride
            part[:, 2:4] = np.exp(part[:, 2:4]) * stride
            at += h * w
        detections = net.detect(bgr, SIDE, 0.01, 0.65)
        h, w = bgr.shape[:2]
        detections[:, [0, 2]] = detections[:, [0, 2]].clip(0, w)
        detections[:, [1, 3]] = detections[:, [1, 3]].clip(0, h)
        area = (detections[:, 2] - detections[:, 0]) * (detections[:, 3] - detections[:, 1])
        detections = detections[area > 0]
        arrays = {"input": tall, "raw": raw, "decoded": decoded, "detections": detections}
        save_file({name: torch.as_tensor(value, dtype=torch.float32).contiguous() for name, value in arrays.items()},
                  os.path.join(folder, "expected.safetensors"))
        labels = {str(n): name for n, name in enumerate(("ant", "bee", "cow"))}
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump({"model_type": "yolox", "id2label": labels, "image_size": SIDE}, file)
        print(kind, len(detections), "detections", {k: tuple(np.shape(v)) for k, v in arrays.items()})


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
