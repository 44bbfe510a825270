"""Random Faster R-CNN checkpoints as torchvision saves them, with its outputs.

    pip install -r tools/requirements-detr.txt
    python tools/export_faster_rcnn.py tests/fixtures/detectors

writes the tiny ones of tests/fixtures/detectors for the pictures of export_detr.py: the second version's layout (batch norms
in the pyramid and in the head's convolutions, two convolutions before the proposals) with bottlenecks, and the first version's
(frozen batch norms, two linear layers) with basic blocks under the names and in the format that files had before torchvision 0.13 and torch 1.6. Weights are rounded to
16 bits before the reference runs. Pictures go through the reference one by one. tools/check_full_size.py makes the large one from the same functions.
"""

import json
import os
import sys

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms.functional import pil_to_tensor

from export_detr import contiguous, noise

LABELS = ("__background__", "ant", "bee", "N/A", "cow")
# Of a stage with more numbers every so many-th is kept.
MOST, STEP = 2000, 97


def randomise(model, seed, heads):
    """Weights of usual size, and batch norms whose statistics matter. `heads` scales the predictors."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda like: torch.randn(like.shape, generator=g)
    tensors = model.state_dict()
    norms = {name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")}
    for name, value in tensors.items():
        norm = any(name.startswith(prefix) for prefix in norms)
        if name.endswith("running_mean"):
            value.copy_(0.2 * rand(value))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=g))
        elif name.endswith("num_batches_tracked"):
            value.fill_(1000)
        elif norm and name.endswith("weight"):
            # The last norm of a block is small, as after training, or dozens of blocks would add up to infinity.
            last = ".bn3." in name or (".bn2." in name and f"{name.rsplit('.bn2.', 1)[0]}.bn3.weight" not in tensors)
            value.copy_((0.4 if last else 1) * (1 + 0.3 * rand(value)))
        elif norm:
            value.copy_(0.3 * rand(value) - 0.2)
        elif value.dim() == 1:
            value.copy_(0.2 * rand(value))
        else:
            scale = next((scale for part, scale in heads.items() if part in name), 2.0 if value.dim() == 4 else 1.0)
            value.copy_(rand(value) * (scale / value[0].numel()) ** 0.5)
    for value in tensors.values():
        if value.is_floating_point():
            value.copy_(value.half().float())


def tensor(picture):
    """As `ObjectDetection`, the transform of the published weights."""
    return pil_to_tensor(picture.convert("RGB")).float() / 255


def stages(model, picture):
    """Per-stage outputs for one picture. The scales of the pooling are those of its own padded sides."""
    seen = {}
    hook = lambda name: lambda module, given, out: seen.setdefault(name, []).append(out)
    pooler = model.roi_heads.box_roi_pool
    pooler.scales = pooler.map_levels = None
    handles = [module.register_forward_hook(hook(name)) for name, module in (
        ("body", model.backbone.body), ("fpn", model.backbone), ("rpn", model.rpn), ("head", model.rpn.head),
        ("pooled", pooler), ("predictor", model.roi_heads.box_predictor))]
    handles.append(model.transform.register_forward_hook(hook("input")))
    found = model([tensor(picture)])[0]
    for handle in handles:
        handle.remove()
    arrays = {"pixel_rows": seen["input"][0][0].tensors[0, :, ::37]}
    arrays |= {f"backbone.{n}": one[0].permute(1, 2, 0) for n, one in enumerate(seen["body"][0].values())}
    arrays |= {f"fpn.{n}": one[0].permute(1, 2, 0) for n, one in enumerate(seen["fpn"][0].values())}
    objectness, deltas = seen["head"][0]
    order = lambda one, size: one[0].unflatten(0, (-1, size)).permute(2, 3, 0, 1).reshape(-1, size)
    arrays["objectness"] = torch.cat([order(one, 1) for one in objectness])
    arrays["pred_bbox_deltas"] = torch.cat([order(one, 4) for one in deltas])
    arrays["proposals"] = seen["rpn"][0][0][0]
    # Proposals take turns: bins first.
    arrays["pooled"] = seen["pooled"][0].permute(2, 3, 0, 1)
    arrays["class_logits"], arrays["box_regression"] = seen["predictor"][0]
    arrays["detections"] = torch.cat([found["boxes"], found["scores"][:, None], found["labels"][:, None].float()], 1)
    return arrays


def margins(model, arrays):
    """How near the choices are to others: scores of neighbours in the order of proposals and of boxes, scores to the threshold."""
    scores = arrays["detections"][:, 4].sort(descending=True).values
    gap = (scores[:-1] - scores[1:]).min().item() if len(scores) > 1 else 1.0
    every = arrays["class_logits"].softmax(-1)[:, 1:]
    return gap, (every - model.roi_heads.score_thresh).abs().min().item()


def tiny(version, rules, seed):
    frozen = version == 1
    block, planes = (resnet.BasicBlock, 8) if frozen else (resnet.Bottleneck, 4)
    norm = FrozenBatchNorm2d if frozen else nn.BatchNorm2d
    body = resnet.ResNet(block, [1, 2, 1, 1], norm_layer=norm)
    # torchvision's own widths are fixed: a network with narrower ones, stage by stage.
    body.inplanes = planes
    body.conv1, body.bn1 = nn.Conv2d(3, planes, 7, 2, 3, bias=False), norm(planes)
    for n, (depth, width) in enumerate(zip([1, 2, 1, 1], [planes, planes + 2, planes + 4, planes + 4])):
        setattr(body, f"layer{n + 1}", body._make_layer(block, width, depth, stride=1 if n == 0 else 2))
    inputs = [width * block.expansion for width in (planes, planes + 2, planes + 4, planes + 4)]
    channels = 8
    backbone = BackboneWithFPN(body, {f"layer{n + 1}": str(n) for n in range(4)}, inputs, channels,
                               norm_layer=None if frozen else nn.BatchNorm2d)
    head = TwoMLPHead(channels * 49, 16) if frozen else FastRCNNConvFCHead((channels, 7, 7), [8, 12], [16], norm_layer=nn.BatchNorm2d)
    model = FasterRCNN(backbone, rpn_head=RPNHead(channels, 3, conv_depth=1 if frozen else 2), box_head=head,
                       box_predictor=FastRCNNPredictor(16, len(LABELS)), **rules).eval()
    randomise(model, seed, {"cls_logits": 3.0, "rpn.head.bbox_pred": 0.1, "cls_score": 3.0, "box_predictor.bbox_pred": 2.0})
    return model


def old_names(tensors):
    """As files were written before torchvision 0.13."""
    def rename(name):
        for block in ("inner_blocks", "layer_blocks"):
            for n in range(4):
                name = name.replace(f"{block}.{n}.0.", f"{block}.{n}.")
        return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return type(tensors)((rename(name), value) for name, value in tensors.items())


RULES = dict(min_size=256, max_size=384, rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=48, box_detections_per_img=20)


def export(out, kind, version, pictures, seed):
    folder = os.path.join(out, kind)
    os.makedirs(folder, exist_ok=True)
    model = tiny(version, RULES | (dict(rpn_nms_thresh=0.6, box_nms_thresh=0.4, box_score_thresh=0.1) if version == 1 else {}), seed)
    if version == 1:
        # As for torchvision's own old files.
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 0.0
    arrays = {}
    for name, picture in pictures.items():
        own = stages(model, picture)
        print(kind, name, len(own["proposals"]), "proposals", len(own["detections"]), "boxes, margins", margins(model, own))
        arrays |= {f"{name}.{stage}": one.flatten()[::STEP] if one.numel() > MOST else one for stage, one in own.items()}
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    tensors = model.state_dict()
    if version == 1:
        tensors = old_names(tensors)
    for name, value in tensors.items():
        if value.is_floating_point():
            tensors[name] = value.half()
    # The first version's published file is older than torch's archives.
    torch.save(tensors, os.path.join(folder, "weights.pth"), _use_new_zipfile_serialization=version == 2)
    config = RULES | {"model_type": "faster_rcnn", "id2label": dict(enumerate(LABELS))}
    if version == 1:
        config |= {"rpn_nms_thresh": 0.6, "box_nms_thresh": 0.4, "box_score_thresh": 0.1}
        del config["model_type"]
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    print(kind, sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)), "bytes")


def full_size(arch, folder, seed):
    """A checkpoint of full size with random weights, as torchvision saves it, and the reference's outputs for two pictures.
    `arch` is fasterrcnn-resnet50-fpn or fasterrcnn-resnet50-fpn-v2."""
    make = fasterrcnn_resnet50_fpn_v2 if arch.endswith("v2") else fasterrcnn_resnet50_fpn
    model = make(weights=None, weights_backbone=None).eval()
    # Maps of random weights are large: predictors that keep scores apart from 0 and 1.
    randomise(model, seed, {"cls_logits": 0.0075, "rpn.head.bbox_pred": 0.0003, "cls_score": 0.03, "box_predictor.bbox_pred": 0.01})
    print(arch, f"{sum(value.numel() for value in model.parameters()) / 1e6:.2f} M parameters")
    os.makedirs(folder, exist_ok=True)
    torch.save(model.state_dict(), os.path.join(folder, "weights.pth"))
    arrays = {}
    for number, size in enumerate(((640, 480), (300, 640))):
        picture = noise(seed + number, *size)
        picture.save(os.path.join(folder, f"picture-{number}.png"))
        own = stages(model, picture)
        keep = ("objectness", "pred_bbox_deltas", "proposals", "class_logits", "box_regression", "detections")
        arrays |= {f"picture-{number}.{name}": own[name] for name in keep}
        print(arch, "picture", number, {name: (tuple(own[name].shape), own[name].abs().max().item()) for name in keep},
              "margins", margins(model, own))
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    return model


def main(out):
    pictures = {name: Image.open(os.path.join(out, "detr-pictures", f"{name}.png")) for name in "ab"}
    for kind, version, seed in (("faster-rcnn-v2", 2, 3), ("faster-rcnn-v1", 1, 5)):
        export(out, kind, version, pictures, seed)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
