"""Random RT-DETR checkpoints in the layouts that are read, with transformers' outputs.

    pip install -r tools/requirements-detr.txt
    python tools/export_rtdetr.py tests/fixtures/detectors

writes the tiny ones of tests/fixtures/detectors: basic blocks and a narrow CSP layer under the names that the hub's files have;
bottlenecks, the discrete attention, another size and the names that transformers 5 holds in memory. The first version's network, loaded
with the first of them, has to say the same: it has the same tensors, and with default settings the same attention.
Weights are rounded to 16 bits before the reference runs. tools/check_full_size.py makes the large ones from the same functions.
"""

import json
import os
import sys

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection
from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

from export_detr import contiguous, detections, noise

LABELS = ("ant", "bee", "cow", "dog", "eel")
COCO = 80
# As the authors' conversion sets them for each checkpoint of the hub.
PUBLISHED = {
    "r18": dict(depths=[2, 2, 2, 2], basic=True, hidden_expansion=0.5, decoder_layers=3),
    "r34": dict(depths=[3, 4, 6, 3], basic=True, hidden_expansion=0.5, decoder_layers=4),
    "r50": dict(depths=[3, 4, 6, 3], basic=False),
    "r101": dict(depths=[3, 4, 23, 3], basic=False, encoder_ffn_dim=2048, encoder_hidden_dim=384, decoder_in_channels=[384] * 3),
}


def randomise(model, seed):
    """Weights of usual size, and batch norms whose statistics matter; the heads in the decoder are those that count."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda like: torch.randn(like.shape, generator=g)
    tensors = model.state_dict()
    norms = {name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")}
    for name, value in tensors.items():
        norm = any(name.startswith(prefix) for prefix in norms)
        if name.endswith("n_points_scale"):
            continue
        if name.endswith("running_mean"):
            value.copy_(0.2 * rand(value))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=g))
        elif name.endswith("num_batches_tracked"):
            value.fill_(1000)
        elif norm and name.endswith("weight"):
            # The last norm of a block is small, as after training, or dozens of blocks would add up to infinity.
            last = ".layer.2." in name or (".layer.1." in name and "bottlenecks" not in name)
            value.copy_((0.4 if last else 1) * (1 + 0.3 * rand(value)))
        elif norm:
            value.copy_(0.3 * rand(value) - 0.2)
        elif value.dim() == 1 and "norm" not in name and "enc_output.1" not in name:
            value.copy_(0.2 * rand(value))
        elif value.dim() == 1:
            value.copy_((1 if name.endswith("weight") else 0) + 0.2 * rand(value))
        else:
            scale = 2.0 if value.dim() == 4 or "sampling_offsets" in name or "attention_weights" in name else 1.0
            scale = {"enc_score_head": 6.0, "class_embed": 6.0, "bbox_embed": 0.5}.get(
                next((part for part in ("enc_score_head", "class_embed", "bbox_embed") if part in name), None), scale)
            value.copy_(rand(value) * (scale / value[0].numel()) ** 0.5)
    # Where the sampling looks at first: another direction for each head, as at the start of training.
    for name, value in tensors.items():
        if name.endswith("sampling_offsets.bias"):
            value.copy_(2 * rand(value))
        if name.endswith("class_embed.0.bias") or ".class_embed." in name and name.endswith("bias"):
            value.copy_(rand(value) - 2)
    for name, value in tensors.items():
        if name.startswith(("class_embed", "bbox_embed")):
            value.copy_(tensors[f"model.decoder.{name}"])
    model.load_state_dict(tensors)


def published(model):
    """The state dict under the names that files on the hub have: the heads once, in the decoder."""
    rename = lambda name: (name.replace("o_proj", "out_proj").replace("mlp.fc", "fc").replace("encoder.aifi", "encoder.encoder")
                           if not name.startswith("model.backbone") else name)
    return {rename(name): value for name, value in model.state_dict().items() if not name.startswith(("class_embed", "bbox_embed"))}


def stages(model, batch):
    """Per-stage outputs for a batch of the processor."""
    seen = {}
    core = model.model
    hook = lambda name: lambda module, given, out: seen.setdefault(name, []).append(out)
    handles = [core.backbone.register_forward_hook(hook("backbone")), core.encoder.register_forward_hook(hook("encoder")),
               core.enc_score_head.register_forward_hook(hook("scores"))]
    handles += [layer.register_forward_hook(hook(f"hidden.{n}")) for n, layer in enumerate(core.decoder.layers)]
    out = model(pixel_values=batch["pixel_values"])
    for handle in handles:
        handle.remove()
    arrays = {f"feature_map.{n}": one for n, (one, _) in enumerate(seen["backbone"][0])}
    arrays |= {f"encoder.{n}": one for n, one in enumerate(seen["encoder"][0].last_hidden_state)}
    scores = seen["scores"][0]
    best = scores.max(-1).values
    order = best.topk(model.config.num_queries, dim=1)
    arrays |= {"enc_outputs_class": scores, "topk_ind": order.indices, "logits": out.logits, "pred_boxes": out.pred_boxes}
    for n in range(len(out.logits)):
        arrays |= {f"hidden.{layer}.{n}": seen[f"hidden.{layer}"][0][n] for layer in range(len(core.decoder.layers))}
        arrays[f"last_hidden_state.{n}"] = out.last_hidden_state[n].clone()
    # How far the first cell that is not chosen lies from the last that is, and neighbours in the order from each other.
    ranked = best.sort(-1, descending=True).values
    gap = (ranked[:, model.config.num_queries - 1] - ranked[:, model.config.num_queries]).min().item() \
        if ranked.shape[1] > model.config.num_queries else 1.0
    steps = (ranked[:, :model.config.num_queries - 1] - ranked[:, 1:model.config.num_queries]).min().item()
    return arrays, out, (gap, steps)


def build(version, resnet, fields, labels, seed):
    config, network = (RTDetrConfig, RTDetrForObjectDetection) if version == 1 else (RTDetrV2Config, RTDetrV2ForObjectDetection)
    backbone = RTDetrResNetConfig(out_indices=[2, 3, 4], **resnet)
    # Every layer has heads of its own, as in the published files.
    config = config(backbone_config=backbone, num_labels=len(labels), tie_word_embeddings=False, **fields)
    config.id2label, config.label2id = dict(enumerate(labels)), {}
    model = network(config).eval()
    randomise(model, seed)
    for value in model.state_dict().values():
        value.copy_(value.half().float())
    return model


def save_config(model, folder, keep=None):
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["backbone_config"] = {key: value for key, value in config["backbone_config"].items() if key in (
        "model_type", "depths", "hidden_sizes", "embedding_size", "layer_type", "hidden_act", "downsample_in_first_stage",
        "downsample_in_bottleneck", "out_features")}
    if keep:
        config = {key: value for key, value in config.items() if key in keep}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)


KEPT = {"model_type", "id2label", "backbone_config", "encoder_hidden_dim", "hidden_expansion", "encoder_layers",
        "encoder_attention_heads", "encoder_ffn_dim", "encoder_activation_function", "encode_proj_layers",
        "positional_encoding_temperature", "activation_function", "eval_size", "normalize_before", "d_model", "num_queries",
        "num_feature_levels", "decoder_in_channels", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim",
        "decoder_activation_function", "decoder_n_points", "decoder_n_levels", "decoder_offset_scale", "decoder_method",
        "learn_initial_query", "layer_norm_eps", "batch_norm_eps", "anchor_image_size"}

COMMON = dict(encoder_hidden_dim=12, d_model=16, decoder_in_channels=[12] * 3, encoder_attention_heads=2, encoder_ffn_dim=20,
              decoder_attention_heads=4, decoder_ffn_dim=24, num_queries=12, num_denoising=0)
# Version, backbone, fields, height and width of the input.
TINY = {
    "rtdetr-v2-basic": (2, dict(embedding_size=8, hidden_sizes=[8, 10, 12, 14], depths=[1, 2, 1, 1], layer_type="basic"),
                        dict(hidden_expansion=0.5, decoder_layers=2), (64, 96)),
    "rtdetr-v2-discrete": (2, dict(embedding_size=8, hidden_sizes=[8, 12, 16, 16], depths=[1, 1, 2, 1], layer_type="bottleneck"),
                           dict(decoder_layers=1, decoder_method="discrete", decoder_n_points=2, decoder_offset_scale=0.75), (96, 64)),
}


def export(out, kind, seed, pictures):
    folder = os.path.join(out, kind)
    os.makedirs(folder, exist_ok=True)
    version, resnet, fields, (height, width) = TINY[kind]
    model = build(version, resnet, COMMON | fields, LABELS, seed)
    tensors = model.state_dict() if kind == "rtdetr-v2-discrete" else published(model)
    save_file({name: value.half().contiguous() for name, value in tensors.items()
               if not name.endswith(("num_batches_tracked", "n_points_scale"))}, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    save_config(model, folder, KEPT)
    processor = RTDetrImageProcessorPil(size={"height": height, "width": width})
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
        json.dump({"image_processor_type": "RTDetrImageProcessor", "do_normalize": False, "do_resize": True, "do_rescale": True,
                   "do_pad": False, "image_mean": processor.image_mean, "image_std": processor.image_std, "resample": 2,
                   "rescale_factor": 1 / 255, "size": {"height": height, "width": width}}, file)
    arrays, outputs, gaps = stages(model, processor(pictures, return_tensors="pt"))
    if kind == "rtdetr-v2-basic":
        first = build(1, resnet, COMMON | fields, LABELS, seed)
        assert not first.load_state_dict(model.state_dict(), strict=False).missing_keys
        own = first(pixel_values=processor(pictures, return_tensors="pt")["pixel_values"])
        assert (own.logits - outputs.logits).abs().max() < 1e-4 and (own.pred_boxes - outputs.pred_boxes).abs().max() < 1e-5
    # Of what is large, one picture.
    large = ("feature_map", "encoder", "enc_outputs_class")
    arrays = {f"batch.{name}": value[:1] if name.startswith(large) else value for name, value in arrays.items()}
    single = processor(pictures[0], return_tensors="pt")
    _, outputs, _ = stages(model, single)
    arrays["pixel_rows"] = single["pixel_values"][0, :, ::16]
    arrays["detections"] = detections(processor, outputs, pictures[0], LABELS)
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    scores = arrays["detections"][:, 4]
    print(kind, len(scores), "detections, scores", scores.min().item(), scores.max().item(), "gaps in the choice", gaps,
          sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)), "bytes")


def full_size(arch, folder, seed):
    """A checkpoint of full size with random weights, as `PekingU/rtdetr_v2_*` is laid out, and the reference's outputs for two
    pictures. `arch` is rtdetr-v2-r18, -r34, -r50 or -r101."""
    fields = dict(PUBLISHED[arch.removeprefix("rtdetr-v2-")])
    basic, depths = fields.pop("basic"), fields.pop("depths")
    resnet = dict(depths=depths, layer_type="basic" if basic else "bottleneck")
    if basic:
        resnet["hidden_sizes"] = [64, 128, 256, 512]
        fields["encoder_in_channels"] = [128, 256, 512]
    model = build(2, resnet, fields, [f"thing {n}" for n in range(COCO)], seed)
    print(arch, f"{sum(value.numel() for value in model.parameters()) / 1e6:.2f} M parameters in memory,",
          f"{sum(value.numel() for value in published(model).values()) * 4 / 2**20:.1f} MiB in the file")
    os.makedirs(folder, exist_ok=True)
    save_config(model, folder)
    save_file({name: value.contiguous() for name, value in published(model).items()},
              os.path.join(folder, "model.safetensors"), {"format": "pt"})
    processor = RTDetrImageProcessorPil()
    processor.save_pretrained(folder)
    arrays, found, tried = {}, 0, seed
    # Pictures whose choice of queries does not hang on the last digits.
    while found < 2:
        picture = noise(tried, *((640, 480), (300, 640))[found])
        own, out, (gap, steps) = stages(model, processor(picture, return_tensors="pt"))
        tried += 1
        if gap < 1e-3:
            continue
        picture.save(os.path.join(folder, f"picture-{found}.png"))
        keep = ("topk_ind", "last_hidden_state", "logits", "pred_boxes")
        arrays |= {f"picture-{found}.{name}": value for name, value in own.items() if name.startswith(keep)}
        print(arch, "picture", found, "gap", gap, "least step", steps, "scores up to", out.logits.sigmoid().max().item(), "logits up to",
              out.logits.abs().max().item())
        found += 1
    save_file(contiguous(arrays), os.path.join(folder, "expected.safetensors"))
    return model


def main(out):
    pictures = [Image.open(os.path.join(out, "detr-pictures", f"{name}.png")) for name in "ab"]
    for seed, kind in ((46, "rtdetr-v2-basic"), (42, "rtdetr-v2-discrete")):
        export(out, kind, seed, pictures)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
