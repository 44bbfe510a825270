"""YOLOX in torch from a checkpoint with or without batch norms, written after the paper's code: the reference that tools/ compares with.

Source: Megvii-BaseDetection/YOLOX, yolox/models/{darknet,yolo_pafpn,yolo_head,network_blocks}.py and
yolox/data/data_augment.py (`preproc`), yolox/utils/boxes.py (`postprocess`).
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

STRIDES = (8, 16, 32)


class Yolox:
    def __init__(self, path):
        self.t = load_file(path) if isinstance(path, str) else path
        self.classes = self.t["head.cls_preds.0.weight"].shape[0]

    def conv(self, name, x, stride=1):
        w, b = self.t[name + ".conv.weight"], self.t.get(name + ".conv.bias")
        x = F.conv2d(x, w, b, stride, w.shape[-1] // 2, groups=x.shape[1] // w.shape[1])
        if name + ".bn.weight" in self.t:
            norm = [self.t[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
            x = F.batch_norm(x, *norm, eps=1e-3)
        return F.silu(x)

    def block(self, name, x, stride=1):
        if name + ".dconv.conv.weight" in self.t:
            return self.conv(name + ".pconv", self.conv(name + ".dconv", x, stride))
        return self.conv(name, x, stride)

    def csp(self, name, x, shortcut):
        a, b, n = self.conv(name + ".conv1", x), self.conv(name + ".conv2", x), 0
        while f"{name}.m.{n}.conv1.conv.weight" in self.t:
            y = self.block(f"{name}.m.{n}.conv2", self.conv(f"{name}.m.{n}.conv1", a))
            a, n = (y + a if shortcut else y), n + 1
        return self.conv(name + ".conv3", torch.cat([a, b], 1))

    def stage(self, name, x):
        x = self.block(f"{name}.0", x, 2)
        if name.endswith("dark5"):
            x = self.conv(f"{name}.1.conv1", x)
            x = torch.cat([x] + [F.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)], 1)
            x = self.conv(f"{name}.1.conv2", x)
            return self.csp(f"{name}.2", x, False)
        return self.csp(f"{name}.1", x, True)

    @torch.no_grad()
    def raw(self, x):
        """[1, 3, h, w] BGR 0..255 -> [cells, 5 + classes], scores as probabilities, boxes undecoded."""
        n = "backbone.backbone."
        parts = [x[..., dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
        x = self.conv(n + "stem.conv", torch.cat(parts, 1))
        x = self.stage(n + "dark2", x)
        x2 = self.stage(n + "dark3", x)
        x1 = self.stage(n + "dark4", x2)
        x0 = self.stage(n + "dark5", x1)
        up = lambda y: F.interpolate(y, scale_factor=2, mode="nearest")
        f0 = self.conv("backbone.lateral_conv0", x0)
        p4 = self.csp("backbone.C3_p4", torch.cat([up(f0), x1], 1), False)
        f1 = self.conv("backbone.reduce_conv1", p4)
        n2 = self.csp("backbone.C3_p3", torch.cat([up(f1), x2], 1), False)
        n1 = self.csp("backbone.C3_n3", torch.cat([self.block("backbone.bu_conv2", n2, 2), f1], 1), False)
        n0 = self.csp("backbone.C3_n4", torch.cat([self.block("backbone.bu_conv1", n1, 2), f0], 1), False)
        rows = []
        for k, y in enumerate((n2, n1, n0)):
            y = self.conv(f"head.stems.{k}", y)
            c, r = y, y
            for i in (0, 1):
                c, r = self.block(f"head.cls_convs.{k}.{i}", c), self.block(f"head.reg_convs.{k}.{i}", r)
            pred = lambda part, z: F.conv2d(z, self.t[f"head.{part}_preds.{k}.weight"], self.t[f"head.{part}_preds.{k}.bias"])
            out = torch.cat([pred("reg", r), pred("obj", r).sigmoid(), pred("cls", c).sigmoid()], 1)
            rows.append(out.flatten(2).permute(0, 2, 1))
        return torch.cat(rows, 1)[0]

    def detect(self, bgr, side, floor, iou, resampling="pillow"):
        """[n, 6]: x0, y0, x1, y1 in pixels of the image, score, class; class-wise suppression."""
        h, w = bgr.shape[:2]
        scale = min(side / h, side / w)
        x = torch.from_numpy(letterbox(bgr, side, resampling))[None]
        return postprocess(self.raw(x).numpy(), side, scale, floor, iou)


def letterbox(bgr, side, resampling="cv2"):
    """`cv2` samples four neighbours, as the training code does; `pillow` averages all pixels that shrink into one."""
    h, w = bgr.shape[:2]
    scale = min(side / h, side / w)
    out = np.full((side, side, 3), 114, np.uint8)
    size = (int(w * scale), int(h * scale))
    if resampling == "cv2":
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR)
    else:
        small = np.asarray(Image.fromarray(bgr).resize(size, Image.BILINEAR))
    out[: small.shape[0], : small.shape[1]] = small
    return np.ascontiguousarray(out.transpose(2, 0, 1), dtype=np.float32)


def decode(rows, side):
    out, at = rows.copy(), 0
    for stride in STRIDES:
        n = side // stride
        ys, xs = np.divmod(np.arange(n * n), n)
        part = out[at : at + n * n]
        part[:, 0] = (part[:, 0] + xs) * stride
        part[:, 1] = (part[:, 1] + ys) * stride
        part[:, 2:4] = np.exp(part[:, 2:4]) * stride
        at += n * n
    return out


def postprocess(rows, side, scale, floor, iou):
    rows = decode(rows, side)
    cls = rows[:, 5:].argmax(1)
    score = rows[:, 4] * rows[np.arange(len(rows)), 5 + cls]
    keep = score >= floor
    rows, cls, score = rows[keep], cls[keep], score[keep]
    xy, wh = rows[:, :2], rows[:, 2:4]
    boxes = np.concatenate([xy - wh / 2, xy + wh / 2], 1) / scale
    kept = nms(boxes, score, cls, iou)
    return np.concatenate([boxes[kept], score[kept, None], cls[kept, None]], 1)


def iou_matrix(a, b):
    lo, hi = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(hi - lo, 0, None), 2)
    area = lambda x: np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), 1)
    return both / np.maximum(area(a)[:, None] + area(b)[None] - both, 1e-9)


def nms(boxes, score, cls, iou):
    kept = []
    for c in np.unique(cls):
        order = np.flatnonzero(cls == c)
        order = order[np.argsort(-score[order], kind="stable")]
        m = iou_matrix(boxes[order], boxes[order])
        gone = np.zeros(len(order), bool)
        for i in range(len(order)):
            if not gone[i]:
                kept.append(order[i])
                gone |= m[i] > iou
    kept = np.array(kept, int)
    return kept[np.argsort(-score[kept], kind="stable")]
