"""The network of the starter detector, as it is trained: YOLOX with batch norms, its assignment and its loss.

Names and structure are those of Megvii-BaseDetection/YOLOX (yolox/models/{darknet,yolo_pafpn,yolo_head}.py), so that the
program reads the result like any other YOLOX; the code is our own. tools/yolox_torch.py is the same network for checks.
"""

import torch
import torch.nn.functional as functional
from torch import nn

STRIDES = (8, 16, 32)
# Boxes of a thing are looked for in cells this near to its centre, in cells (as the reference's `center_radius`).
CENTRE_RADIUS = 2.5
# Cells that a thing may claim: the sum of the overlaps of its best ones, as SimOTA does.
CANDIDATES = 10
BOX_WEIGHT = 5.0


def base_conv(inputs, outputs, kernel=1, stride=1):
    block = nn.Module()
    block.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    block.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
    return block


def apply(block, x):
    return functional.silu(block.bn(block.conv(x)), inplace=True)


class Csp(nn.Module):
    def __init__(self, inputs, outputs, depth, shortcut):
        super().__init__()
        hidden, self.shortcut = outputs // 2, shortcut
        self.conv1, self.conv2 = base_conv(inputs, hidden), base_conv(inputs, hidden)
        self.conv3 = base_conv(2 * hidden, outputs)
        self.m = nn.ModuleList()
        for _ in range(depth):
            bottleneck = nn.Module()
            bottleneck.conv1, bottleneck.conv2 = base_conv(hidden, hidden), base_conv(hidden, hidden, 3)
            self.m.append(bottleneck)

    def forward(self, x):
        a = apply(self.conv1, x)
        for bottleneck in self.m:
            y = apply(bottleneck.conv2, apply(bottleneck.conv1, a))
            a = y + a if self.shortcut else y
        return apply(self.conv3, torch.cat([a, apply(self.conv2, x)], 1))


class Spp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = base_conv(channels, channels // 2), base_conv(2 * channels, channels)

    def forward(self, x):
        x = apply(self.conv1, x)
        pooled = [functional.max_pool2d(x, kernel, 1, kernel // 2) for kernel in (5, 9, 13)]
        return apply(self.conv2, torch.cat([x, *pooled], 1))


class Darknet(nn.Module):
    def __init__(self, base, depth):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv = base_conv(12, base, 3)

        def stage(inputs, bottlenecks):
            return nn.Sequential(base_conv(inputs, 2 * inputs, 3, 2), Csp(2 * inputs, 2 * inputs, bottlenecks, True))

        self.dark2, self.dark3, self.dark4 = stage(base, depth), stage(2 * base, 3 * depth), stage(4 * base, 3 * depth)
        c5 = 16 * base
        self.dark5 = nn.Sequential(base_conv(c5 // 2, c5, 3, 2), Spp(c5), Csp(c5, c5, depth, False))

    def forward(self, x):
        # `Focus`: every second pixel, four ways, as channels; top left, bottom left, top right, bottom right.
        parts = [x[..., dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
        x = apply(self.stem.conv, torch.cat(parts, 1))
        maps = []
        for stage in (self.dark2, self.dark3, self.dark4, self.dark5):
            x = apply(stage[0], x)
            for module in stage[1:]:
                x = module(x)
            maps.append(x)
        return maps[1:]


class Pafpn(nn.Module):
    def __init__(self, base, depth):
        super().__init__()
        c3, c4, c5 = 4 * base, 8 * base, 16 * base
        self.backbone = Darknet(base, depth)
        self.lateral_conv0, self.C3_p4 = base_conv(c5, c4), Csp(2 * c4, c4, depth, False)
        self.reduce_conv1, self.C3_p3 = base_conv(c4, c3), Csp(2 * c3, c3, depth, False)
        self.bu_conv2, self.C3_n3 = base_conv(c3, c3, 3, 2), Csp(2 * c3, c4, depth, False)
        self.bu_conv1, self.C3_n4 = base_conv(c4, c4, 3, 2), Csp(2 * c4, c5, depth, False)

    def forward(self, x):
        x2, x1, x0 = self.backbone(x)
        twice = lambda y: functional.interpolate(y, scale_factor=2.0, mode="nearest")
        f0 = apply(self.lateral_conv0, x0)
        f1 = apply(self.reduce_conv1, self.C3_p4(torch.cat([twice(f0), x1], 1)))
        n2 = self.C3_p3(torch.cat([twice(f1), x2], 1))
        n1 = self.C3_n3(torch.cat([apply(self.bu_conv2, n2), f1], 1))
        return n2, n1, self.C3_n4(torch.cat([apply(self.bu_conv1, n1), f0], 1))


class Head(nn.Module):
    def __init__(self, base, classes):
        super().__init__()
        hidden = 4 * base
        pair = lambda: nn.Sequential(base_conv(hidden, hidden, 3), base_conv(hidden, hidden, 3))
        levels = range(len(STRIDES))
        self.stems = nn.ModuleList(base_conv(base * (4 << level), hidden) for level in levels)
        self.cls_convs, self.reg_convs = nn.ModuleList(pair() for _ in levels), nn.ModuleList(pair() for _ in levels)
        pred = lambda outputs: nn.ModuleList(nn.Conv2d(hidden, outputs, 1) for _ in levels)
        self.cls_preds, self.reg_preds, self.obj_preds = pred(classes), pred(4), pred(1)
        for layer in (*self.cls_preds, *self.obj_preds):
            # As RetinaNet: everything begins as improbable, or the many empty cells drown the few full ones.
            nn.init.constant_(layer.bias, -4.6)

    def forward(self, maps):
        rows = []
        for level, x in enumerate(maps):
            x = apply(self.stems[level], x)
            c, r = x, x
            for i in (0, 1):
                c, r = apply(self.cls_convs[level][i], c), apply(self.reg_convs[level][i], r)
            out = torch.cat([self.reg_preds[level](r), self.obj_preds[level](r), self.cls_preds[level](c)], 1)
            rows.append(out.flatten(2).transpose(1, 2))
        return torch.cat(rows, 1)


class Yolox(nn.Module):
    """[n, 3, side, side] BGR 0..255 -> [n, cells, 5 + classes]: x, y, w, h undecoded, then log-odds."""

    def __init__(self, base, depth, classes, side):
        super().__init__()
        self.backbone, self.head = Pafpn(base, depth), Head(base, classes)
        grids = []
        for stride in STRIDES:
            n = side // stride
            y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
            grids.append(torch.stack([x.flatten(), y.flatten(), torch.full((n * n,), stride)], 1))
        self.register_buffer("grid", torch.cat(grids).float(), persistent=False)  # [cells, 3]: x, y, stride

    def forward(self, x):
        return self.head(self.backbone(x))

    def boxes(self, rows):
        """Corners in pixels of the input, [n, cells, 4]."""
        stride = self.grid[:, 2:]
        centre = (rows[..., :2] + self.grid[:, :2]) * stride
        half = rows[..., 2:4].clamp(max=6.0).exp() * stride / 2
        return torch.cat([centre - half, centre + half], -1)


def overlap(a, b):
    """Intersection over union of boxes with the same leading shape."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    both = size.prod(-1)
    area = lambda c: (c[..., 2:] - c[..., :2]).clamp(min=0).prod(-1)
    return both / (area(a) + area(b) - both + 1e-9)


@torch.no_grad()
def assign(model, rows, boxes, truth):
    """SimOTA over all things of a batch at once. `truth`: [m, 6] picture, class, x0, y0, x1, y1.

    Returns for every assigned cell: picture, cell, row of `truth`, overlap.
    """
    picture, label, true = truth[:, 0].long(), truth[:, 1].long(), truth[:, 2:]
    grid, stride = model.grid[:, :2], model.grid[:, 2]
    centres = (grid + 0.5) * stride[:, None]  # [cells, 2]
    inside = (centres[None] > true[:, None, :2]) & (centres[None] < true[:, None, 2:])
    middle = (true[:, :2] + true[:, 2:]) / 2
    near = (centres[None] - middle[:, None]).abs() < CENTRE_RADIUS * stride[None, :, None]
    near = near.all(-1) & inside.all(-1)  # [m, cells]
    iou = overlap(boxes[picture], true[:, None])  # [m, cells]
    score = (rows[..., 5:].sigmoid() * rows[..., 4:5].sigmoid()).sqrt()[picture]  # [m, cells, classes]
    chosen = score.gather(2, label[:, None, None].expand(-1, score.shape[1], 1))[..., 0]
    # Cross entropy of the class, summed over the classes.
    absent = (1 - score.clamp(max=1 - 1e-6)).log()
    cost = -(absent.sum(-1) - (1 - chosen.clamp(max=1 - 1e-6)).log() + chosen.clamp(min=1e-8).log())
    cost = cost - 3.0 * iou.clamp(min=1e-8).log() + 1e6 * ~near
    wanted = (iou * near).topk(CANDIDATES, 1).values.sum(1).int().clamp(min=1)
    ranked, cells = cost.topk(CANDIDATES, 1, largest=False)
    taken = (torch.arange(CANDIDATES)[None] < wanted[:, None]) & (ranked < 1e6)
    row, place = taken.nonzero(as_tuple=True)
    cell, price = cells[row, place], ranked[row, place]
    # A cell that several things want goes to the cheapest.
    key = picture[row] * grid.shape[0] + cell
    least = torch.full((rows.shape[0] * grid.shape[0],), float("inf")).scatter_reduce(0, key, price, "amin")
    kept = price <= least[key]
    row, cell = row[kept], cell[kept]
    return picture[row], cell, row, iou[row, cell]


def loss(model, rows, truth):
    """Sum of box, objectness and class loss per assigned cell; returns it with its parts."""
    boxes = model.boxes(rows)
    picture, cell, row, iou = assign(model, rows.detach(), boxes.detach(), truth)
    assigned = max(1, len(row))
    objectness = torch.zeros(rows.shape[:2])
    objectness[picture, cell] = 1.0
    labels = functional.one_hot(truth[row, 1].long(), rows.shape[2] - 5) * iou.clamp(min=0.05)[:, None]
    own = boxes[picture, cell]
    true = truth[row, 2:]
    fit = overlap(own, true)
    # The part of the smallest enclosing box that neither covers moves boxes which do not overlap yet (GIoU).
    lo, hi = torch.minimum(own[:, :2], true[:, :2]), torch.maximum(own[:, 2:], true[:, 2:])
    around = (hi - lo).clamp(min=0).prod(-1) + 1e-9
    area = lambda c: (c[:, 2:] - c[:, :2]).clamp(min=0).prod(-1)
    union = (area(own) + area(true)) / (1 + fit)
    box = (1 - fit + (around - union) / around).sum() / assigned
    sums = {"reduction": "sum"}
    obj = functional.binary_cross_entropy_with_logits(rows[..., 4], objectness, **sums) / assigned
    cls = functional.binary_cross_entropy_with_logits(rows[picture, cell, 5:], labels, **sums) / assigned
    return BOX_WEIGHT * box + obj + cls, (box.item(), obj.item(), cls.item(), assigned / max(1, len(truth)))


def folded(model):
    """The state with batch norms folded into their convolutions: `<name>.conv.weight` and `<name>.conv.bias`."""
    state, tensors = model.state_dict(), {}
    for name, value in state.items():
        if name.endswith(".conv.weight"):
            norm = name.removesuffix("conv.weight") + "bn."
            scale = state[norm + "weight"] / (state[norm + "running_var"] + 1e-3).sqrt()
            tensors[name] = value * scale[:, None, None, None]
            tensors[name.removesuffix("weight") + "bias"] = state[norm + "bias"] - state[norm + "running_mean"] * scale
        elif "_preds." in name:
            tensors[name] = value
    return tensors
