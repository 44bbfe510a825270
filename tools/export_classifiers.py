#!/usr/bin/env python3
"""Writes tiny random image classifiers into tests/fixtures/parity and what the reference makes of pictures and of other sizes.

    pip install -r tools/requirements-parity.txt
    python tools/export_classifiers.py [--out tests/fixtures/parity] [--seed 0]

Every folder holds a checkpoint as on the hub and expected.safetensors: two pictures `picture.N` as 8-bit RGB, and for each size of the
input `HxW.pixels` (the first made from the pictures by the reference's PIL processor), the output of every stage and the
logits. Maps lie as pixels with their channels side by side. check_full_size.py calls full_size()."""
import argparse
import json
import pathlib
import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForImageClassification, ConvNextConfig, ConvNextForImageClassification, ConvNextV2Config,
                          ConvNextV2ForImageClassification, ResNetConfig, ResNetForImageClassification, ViTConfig,
                          ViTForImageClassification)
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from export_parity import unlike_images

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
LABELS = ["tench, Tinca tinca", "goldfinch, Carduelis carduelis", "beagle", "whippet", "dome"]


def convnext_processor(side, share=0.875):
    """As facebook/convnext-tiny-224 and microsoft/resnet-50 have it: bare number, older name."""
    return {"crop_pct": share, "do_normalize": True, "do_resize": True, "feature_extractor_type": "ConvNextFeatureExtractor",
            **IMAGENET, "resample": 3, "size": side}


def vit_processor(side):
    """As google/vit-base-patch16-224 has it."""
    return {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_processor_type": "ViTImageProcessor", **HALF,
            "resample": 2, "rescale_factor": 1 / 255, "size": {"height": side, "width": side}}


# Config, model, settings, numbers of the file, preprocessor, further sizes of the input.
CASES = {
    # Bottlenecks that halve in their first convolution; between them ReLU, whatever the config says.
    "resnet-a": (ResNetConfig, ResNetForImageClassification,
                 dict(embedding_size=6, hidden_sizes=[16, 24, 32], depths=[1, 2, 1], layer_type="bottleneck", hidden_act="gelu",
                      downsample_in_bottleneck=True), "bf16", convnext_processor(32), [(45, 30)]),
    "resnet-b": (ResNetConfig, ResNetForImageClassification,
                 dict(embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], layer_type="basic", downsample_in_first_stage=True),
                 "f32", convnext_processor(40, 0.9), [(33, 48)]),
    "vit-a": (ViTConfig, ViTForImageClassification,
              dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=40, image_size=24, patch_size=6),
              "f16", vit_processor(24), []),
    "vit-b": (ViTConfig, ViTForImageClassification,
              dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=44, image_size=32, patch_size=8,
                   qkv_bias=False, hidden_act="gelu_new", layer_norm_eps=1e-6), "f32", vit_processor(32), []),
    "convnext-a": (ConvNextConfig, ConvNextForImageClassification,
                   dict(num_stages=3, hidden_sizes=[8, 16, 20], depths=[1, 2, 1], patch_size=4), "bf16", convnext_processor(36), [(44, 29)]),
    # Without the factors of a block's channels.
    "convnext-b": (ConvNextConfig, ConvNextForImageClassification,
                   dict(num_stages=2, hidden_sizes=[12, 18], depths=[2, 1], patch_size=2, layer_scale_init_value=0.0, layer_norm_eps=1e-5), "f32",
                   convnext_processor(20, 0.8), [(24, 31)]),
    "convnextv2-a": (ConvNextV2Config, ConvNextV2ForImageClassification,
                     dict(num_stages=2, hidden_sizes=[8, 16], depths=[1, 2], patch_size=4), "f32", convnext_processor(32), [(40, 27)]),
}
FULL = {
    "resnet-50": (ResNetConfig, ResNetForImageClassification, {}, convnext_processor(224)),
    "vit-base-patch16-224": (ViTConfig, ViTForImageClassification, {}, vit_processor(224)),
    "convnext-tiny-224": (ConvNextConfig, ConvNextForImageClassification, {}, convnext_processor(224)),
    "convnextv2-tiny-1k-224": (ConvNextV2Config, ConvNextV2ForImageClassification, {}, convnext_processor(224)),
}


def spread(model, generator):
    """Weights that keep the size of what goes through them, and norms, scales and biases that are not 1 and 0."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            value.data = noise.abs() * 0.5 + 0.6
        elif name.endswith("running_mean"):
            value.data = noise * 0.3
        elif "norm" in name:
            value.data = noise * 0.2 + (1 if name.endswith("weight") else 0)
        elif "layer_scale" in name:
            value.data = noise * 0.3 + 0.8
        elif "grn" in name:
            value.data = noise * 0.5
        elif name.endswith("bias"):
            value.data = noise * 0.2
        elif "token" in name or "position" in name:
            value.data = noise * 0.7
        else:
            value.data = noise * 1.4 * (value[0].numel() ** -0.5)


def pictures(generator):
    """Two unlike pictures of odd sizes, 8-bit RGB."""
    for index, (width, height) in enumerate([(61, 45), (40, 70)]):
        noise = unlike_images(2, 72, generator)[index][:, :height, :width]
        low, high = noise.min(), noise.max()
        yield Image.fromarray(((noise - low) / (high - low) * 255).permute(1, 2, 0).round().to(torch.uint8).numpy())


def preprocess(config, images):
    kind = ViTImageProcessorPil if "image_processor_type" in config else ConvNextImageProcessorPil
    return kind(**config)(images, return_tensors="pt")["pixel_values"].float()


def last(x):
    """A map with its channels last; other outputs as they are."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).contiguous()


def run(model, pixels):
    """All stage outputs by name."""
    kept = {}

    def record(module, name, change=lambda x: x):
        def hook(_, __, output):
            kept[name] = last(change((output[0] if isinstance(output, tuple) else output).detach().clone()))
        return module.register_forward_hook(hook)
    body = model.base_model
    if hasattr(body, "layers"):
        hooks = [record(body.embeddings, "embeddings"), record(body.layernorm, "pooled", lambda x: x[:, 0])]
        hooks += [record(layer, f"layers.{i}") for i, layer in enumerate(body.layers)]
    else:
        hooks = [record(stage, f"stages.{i}") for i, stage in enumerate(body.encoder.stages)]
        if hasattr(body, "pooler"):
            hooks.append(record(body.pooler, "pooled", lambda x: x.flatten(1)))
        else:
            hooks += [record(body.embeddings, "embeddings"), record(body.layernorm, "pooled")]
    with torch.no_grad():
        kept["logits"] = model(pixel_values=pixels).logits
    for hook in hooks:
        hook.remove()
    return kept


def write(name, case, out, seed):
    config_class, model_class, settings, number, processor, sizes = case
    generator = torch.Generator().manual_seed(seed * 1000 + sum(map(ord, name)))
    labels = LABELS[:4] if name.endswith("b") else LABELS
    model = model_class(config_class(**settings, id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}))
    spread(model.eval(), generator)
    half = {"f16": torch.float16, "bf16": torch.bfloat16}.get(number, torch.float32)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    # As on the hub: names of before the reference was rewritten, which its own loading still expects.
    model.to(half).save_pretrained(folder)
    if name.startswith("vit"):
        assert any("attention.attention.query" in key for key in load_file(folder / "model.safetensors"))
    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    images = list(pictures(generator))
    expected = {f"picture.{i}": torch.from_numpy(np.asarray(image).copy()) for i, image in enumerate(images)}
    inputs = [preprocess(processor, images)]
    inputs += [torch.nn.functional.interpolate(unlike_images(2, max(size), generator), size=size, mode="bilinear") for size in sizes]
    for pixels in inputs:
        stages, size = run(model, pixels), "x".join(map(str, pixels.shape[2:]))
        logits = stages["logits"]
        assert (logits[0] - logits[1]).abs().max() > 0.1, f"{name}: the two pictures are alike"
        assert all(0.02 < stage.std() < 30 for stage in stages.values()), {key: stage.std() for key, stage in stages.items()}
        expected |= {f"{size}.image.{stage}": value for stage, value in stages.items()}
        expected |= {f"{size}.pixels": pixels, f"{size}.probabilities": logits.softmax(-1)}
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    bytes_ = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {bytes_ / 1e3:.0f} kB, logits {logits.std():.2f}")
    assert bytes_ < 2e5, bytes_
    return bytes_


def full_size(arch, folder, seed):
    """For a_full_size_classifier_agrees: a random checkpoint of full size, pixels and the reference's logits."""
    config_class, model_class, settings, processor = FULL[arch]
    labels = {i: f"label {i}" for i in range(1000)}
    torch.manual_seed(seed)
    model = model_class(config_class(**settings, id2label=labels, label2id={label: i for i, label in labels.items()})).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        # What the constructor leaves at nothing would hide a mistake.
        if any(part in name for part in ("position", "token", "layer_scale", "grn")):
            value.data = torch.randn(value.shape, generator=generator) * 0.3
        elif name.endswith("running_var"):
            value.data = torch.rand(value.shape, generator=generator) + 0.5
        elif name.endswith("running_mean"):
            value.data = torch.randn(value.shape, generator=generator) * 0.1
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    pixels = unlike_images(4, 224, generator)
    with torch.no_grad():
        logits = model(pixel_values=pixels).logits
    print(f"{arch}: {sum(value.numel() for value in model.parameters()) / 1e6:.1f} M parameters, logits {logits.std():.3f}")
    save_file({"224x224.pixels": pixels, "224x224.image.logits": logits.contiguous()}, folder / "expected.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=here / "tests/fixtures/parity")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    total = sum(write(name, case, arguments.out, arguments.seed) for name, case in CASES.items())
    assert total < 1.2e6, total


if __name__ == "__main__":
    main()
