"""Random DETR checkpoints in every layout that is read, with transformers' outputs.

    pip install -r tools/requirements-detr.txt
    python tools/export_detr.py tests/fixtures/detectors

writes the tiny ones of tests/fixtures/detectors: timm's names in the backbone as the hub's current files have them, with a dilated
last stage (DC5); the names of the hub's `no_timm` revision, with every stage halving the sides; and the authors' own file, with
basic blocks and another activation. Weights are rounded to 16 bits before the reference runs. tools/check_full_size.py makes the large ones from the
same functions.
"""

import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

# Slots of COCO's numbering that mean nothing are named so.
LABELS = ("N/A", "ant", "bee", "N/A", "cow")


def randomise(model, seed, head=1.0):
    """Weights of usual size, and batch norms whose statistics matter. `head` scales the classifier, so that scores differ."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda like: torch.randn(like.shape, generator=g)
    tensors = model.state_dict()
    for name, value in tensors.items():
        norm = "normalization" in name or ".bn" in name or "downsample.1" in name
        if name.endswith("running_mean"):
            value.copy_(0.2 * rand(value))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=g))
        elif name.endswith("num_batches_tracked"):
            value.fill_(1000)
        elif norm and name.endswith("weight"):
            # The last norm of a block is small, as after training, or dozens of blocks would add up to infinity.
            last = ".layer.2." in name or ".bn3." in name
            value.copy_((0.4 if last else 1) * (1 + 0.3 * rand(value)))
        elif norm:
            # Below zero, so that cells differ in which channels they have at all.
            value.copy_(0.5 * rand(value) - 0.4)
        elif value.dim() == 1 and "norm" not in name:
            value.copy_(0.2 * rand(value))
        elif "norm" in name:
            value.copy_((1 if name.endswith("weight") else 0) + 0.2 * rand(value))
        elif "query_position" in name:
            value.copy_(2 * rand(value))
        else:
            inputs = value[0].numel()
            # The encoder leaves cells apart and the decoder looks sharply, or all queries would see the same.
            if "decoder" in name and any(part in name for part in ("q_proj", "k_proj", "v_proj", "o_proj")):
                scale = 25.0
            elif "encoder" in name and "o_proj" in name:
                scale = 0.05
            else:
                scale = 2.0 if value.dim() == 4 else 1.0
            value.copy_(rand(value) * (scale / inputs) ** 0.5 * (head if "class_labels" in name else 1))
    model.load_state_dict(tensors)


def dilate(backbone):
    """DC5 as torchvision and timm build it: the last stage keeps its sides, its blocks but the first look further apart."""
    for index, block in enumerate(backbone.encoder.stages[-1].layers):
        conv = block.layer[1].convolution
        if index == 0:
            conv.stride = (1, 1)
            block.shortcut.convolution.stride = (1, 1)
        else:
            conv.dilation, conv.padding = (2, 2), (2, 2)


def timm_name(name):
    """A name of transformers' ResNet in timm's words."""
    name = name.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder.normalization", "bn1")
    if "encoder.stages." in name:
        before, after = name.split("encoder.stages.")
        stage, _, block, rest = after.split(".", 3)
        rest = rest.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
        for n in range(3):
            rest = rest.replace(f"layer.{n}.convolution", f"conv{n + 1}").replace(f"layer.{n}.normalization", f"bn{n + 1}")
        name = f"{before}layer{int(stage) + 1}.{block}.{rest}"
    return name


def published(model):
    """The state dict under the names that files on the hub have; the model in memory may use others."""
    rename = lambda name: (name.replace("model.backbone.model.", "model.backbone.conv_encoder.model.").replace("o_proj", "out_proj")
                           .replace("mlp.fc", "fc"))
    return {rename(name): value.clone() for name, value in model.state_dict().items()}


def authors(tensors):
    """Published names and tensors as facebookresearch/detr writes them."""
    out = {}
    for name, value in tensors.items():
        kind = name.rsplit(".", 1)[1]
        if any(part in name for part in (".q_proj.", ".k_proj.", ".v_proj.")):
            if ".q_proj." in name:
                parts = [tensors[name.replace("q_proj", p)] for p in ("q_proj", "k_proj", "v_proj")]
                name, value = name.replace(f".q_proj.{kind}", f".in_proj_{kind}"), torch.cat(parts)
            else:
                continue
        decoder = ".decoder.layers." in name
        name = name.replace("model.backbone.conv_encoder.model.", "backbone.0.body.")
        for old, new in (("model.encoder", "transformer.encoder"), ("model.decoder.layernorm", "transformer.decoder.norm"),
                         ("model.decoder", "transformer.decoder"), ("encoder_attn_layer_norm", "norm2"),
                         ("encoder_attn", "multihead_attn"), ("self_attn_layer_norm", "norm1"),
                         ("final_layer_norm", "norm3" if decoder else "norm2"), ("fc1", "linear1"), ("fc2", "linear2"),
                         ("model.input_projection", "input_proj"), ("model.query_position_embeddings", "query_embed"),
                         ("class_labels_classifier", "class_embed"), ("bbox_predictor", "bbox_embed")):
            name = name.replace(old, new)
        out[name] = value
    return out


def stages(model, batch):
    """Per-stage outputs for a batch of the processor. Those of single pictures leave the padding's cells out."""
    seen = {}
    hook = lambda name: lambda module, given, out: seen.__setitem__(name, out)
    core = model.model
    handles = [core.backbone.register_forward_hook(hook("backbone")),
               core.position_embedding.register_forward_hook(hook("positions")),
               core.input_projection.register_forward_hook(hook("projected"))]
    out = model(**batch)
    for handle in handles:
        handle.remove()
    feature_map, mask = seen["backbone"][-1]
    arrays = {"feature_map": feature_map, "logits": out.logits, "pred_boxes": out.pred_boxes}
    for n in range(len(out.logits)):
        own = mask[n].flatten()
        arrays[f"position_embeddings.{n}"] = seen["positions"][n].flatten(1).T[own]
        arrays[f"projected.{n}"] = seen["projected"][n].flatten(1).T[own]
        arrays[f"encoder_last_hidden_state.{n}"] = out.encoder_last_hidden_state[n][own]
        arrays[f"last_hidden_state.{n}"] = out.last_hidden_state[n]
    return arrays, out


def detections(processor, out, picture, labels):
    """Rows x0, y0, x1, y1, score, class; inside the picture, without nameless classes, best first."""
    found = processor.post_process_object_detection(out, 0.0, [picture.size[::-1]])[0]
    boxes = found["boxes"].clone()
    boxes[:, 0::2].clamp_(0, picture.width)
    boxes[:, 1::2].clamp_(0, picture.height)
    names = [name for name in labels if name != "N/A"]
    rows = [[*box.tolist(), score.item(), names.index(labels[label])]
            for box, score, label in zip(boxes, found["scores"], found["labels"].tolist())
            if labels[label] != "N/A" and (box[2] - box[0]) * (box[3] - box[1]) > 0]
    return torch.tensor(sorted(rows, key=lambda row: -row[4])).reshape(-1, 6)


def noise(seed, width, height):
    """A smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 256, (max(height // 7, 2), max(width // 7, 2), 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.BICUBIC)


def contiguous(arrays):
    return {name: torch.as_tensor(value, dtype=torch.float32).contiguous() for name, value in arrays.items()}


def tiny(kind, seed):
    resnet = {
        "detr-timm-dc5": dict(hidden_sizes=[8, 8, 12, 16], depths=[3, 4, 6, 3], out_features=["stage4"]),
        "detr-no-timm": dict(hidden_sizes=[8, 12, 16], depths=[1, 2, 2], out_features=["stage3"],
                             downsample_in_first_stage=True, downsample_in_bottleneck=True),
        "detr-authors": dict(hidden_sizes=[6, 6, 8, 12], depths=[2, 2, 2, 2], out_features=["stage4"], layer_type="basic"),
    }[kind]
    config = DetrConfig(
        backbone_config=ResNetConfig(embedding_size=6, **resnet), use_timm_backbone=False, d_model=16, num_queries=9, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=20, num_labels=len(LABELS),
        activation_function="gelu" if kind == "detr-authors" else "relu")
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {}
    model = DetrForObjectDetection(config).eval()
    randomise(model, seed, head=4.0)
    for value in model.state_dict().values():
        value.copy_(value.half().float())
    if kind == "detr-timm-dc5":
        dilate(model.model.backbone.model)
    return model


def export(out, kind, seed, pictures, processor):
    folder = os.path.join(out, kind)
    os.makedirs(folder, exist_ok=True)
    model = tiny(kind, seed)
    tensors = published(model)
    config = json.loads(model.config.to_json_string(use_diff=False))
    keep = ("d_model", "num_queries", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "decoder_layers",
            "decoder_attention_heads", "decoder_ffn_dim", "activation_function", "position_embedding_type", "model_type")
    config = {key: config[key] for key in keep} | {
        "id2label": {str(n): name for n, name in enumerate(LABELS)}, "use_timm_backbone": False, "dilation": False,
        "backbone_config": {key: config["backbone_config"][key] for key in (
            "model_type", "depths", "hidden_sizes", "embedding_size", "layer_type", "hidden_act", "downsample_in_first_stage",
            "downsample_in_bottleneck", "out_features")}}
    if kind != "detr-no-timm":
        tensors = {timm_name(name): value for name, value in tensors.items()}
        config |= {"use_timm_backbone": True, "backbone_config": None, "dilation": kind == "detr-timm-dc5",
                   "backbone": "resnet50" if kind == "detr-timm-dc5" else "resnet18"}
    half = {name: value.half().contiguous() for name, value in tensors.items()}
    if kind == "detr-authors":
        torch.save({"model": authors(half), "args": None}, os.path.join(folder, "weights.pth"))
    else:
        save_file(half, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    size = {"shortest_edge": 64, "longest_edge": 96}
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
        json.dump({"image_processor_type": "DetrImageProcessor", "do_normalize": True, "do_resize": True, "do_pad": True,
                   "format": "coco_detection", "image_mean": processor.image_mean, "image_std": processor.image_std,
                   "resample": 2, "rescale_factor": 1 / 255, "size": size}, file)
    arrays, _ = stages(model, processor(pictures, return_tensors="pt"))
    arrays = {f"batch.{name}": value for name, value in arrays.items()}
    single = processor(pictures[0], return_tensors="pt")
    own, outputs = stages(model, single)
    arrays |= {f"single.{name}": value for name, value in own.items()}
    arrays["pixel_rows"] = single["pixel_values"][0, :, ::16]
    arrays["detections"] = detections(processor, outputs, pictures[0], LABELS)
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    best = outputs.logits.softmax(-1)[0, :, :-1].max(-1).values
    print(kind, len(arrays["detections"]), "detections, scores", best.min().item(), best.max().item(),
          {name: tuple(value.shape) for name, value in arrays.items() if "single" in name})


def full_size(arch, folder, seed):
    """A checkpoint of full size with random weights, as `facebook/detr-*` is laid out, and the reference's outputs for two
    pictures. `arch` is detr-resnet-50, detr-resnet-101, with -dc5 for a dilated last stage, or with -no-timm."""
    depth = "resnet101" if "101" in arch else "resnet50"
    if arch.endswith("no-timm"):
        depths = [3, 4, 23, 3] if depth == "resnet101" else [3, 4, 6, 3]
        backbone = dict(use_timm_backbone=False, backbone_config=ResNetConfig(depths=depths, out_features=["stage4"]))
    else:
        backbone = dict(use_timm_backbone=True, backbone=depth, dilation=arch.endswith("dc5"))
    labels = {n: f"thing {n}" for n in range(91)}
    model = DetrForObjectDetection(DetrConfig(num_labels=91, **backbone)).eval()
    model.config.id2label = labels
    randomise(model, seed, head=4.0)
    config = json.loads(model.config.to_json_string(use_diff=False))
    if not arch.endswith("no-timm"):
        # As the hub's files have it, which were written by an older version.
        config |= {"use_timm_backbone": True, "backbone": depth, "backbone_config": None, "dilation": arch.endswith("dc5")}
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    save_file({name: value.contiguous() for name, value in published(model).items()},
              os.path.join(folder, "model.safetensors"), {"format": "pt"})
    processor = DetrImageProcessorPil()
    processor.save_pretrained(folder)
    arrays = {}
    for n, (width, height) in enumerate(((640, 480), (300, 640))):
        picture = noise(seed + n, width, height)
        picture.save(os.path.join(folder, f"picture-{n}.png"))
        own, out = stages(model, processor(picture, return_tensors="pt"))
        arrays |= {f"picture-{n}.{name}": value for name, value in own.items() if name != "feature_map"}
        best = out.logits.softmax(-1)[0].max(-1)
        print(arch, "picture", n, "scores", best.values.min().item(), best.values.max().item(), "classes",
              len(set(best.indices.tolist())), "logits up to", out.logits.abs().max().item())
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    return model


def main(out):
    processor = DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    pictures = [noise(3, 70, 50), noise(4, 40, 70)]
    folder = os.path.join(out, "detr-pictures")
    os.makedirs(folder, exist_ok=True)
    for name, picture in zip("ab", pictures):
        picture.save(os.path.join(folder, f"{name}.png"), optimize=True)
    for seed, kind in ((31, "detr-timm-dc5"), (12, "detr-no-timm"), (33, "detr-authors")):
        export(out, kind, seed, pictures, processor)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
