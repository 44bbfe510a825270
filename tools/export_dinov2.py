#!/usr/bin/env python3
"""Writes tiny random DINOv2 checkpoints into tests/fixtures/parity and what the reference makes of pictures of several sizes.

    pip install -r tools/requirements-parity.txt
    python tools/export_dinov2.py [--out tests/fixtures/parity] [--seed 0]

Every folder holds a checkpoint as on the hub and expected.safetensors: for each size of the input `HxW.pixels`, the output of
every stage and the unit vectors. check_full_size.py calls full_size()."""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from export_parity import unlike_images

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# Sizes: hidden, heads, layers; then the sizes of the inputs, the first of them that of the preprocessor.
CASES = {
    # A position for each patch of the usual input; larger, smaller and oblong ones are interpolated.
    "dinov2-a": (Dinov2Config, Dinov2Model, dict(hidden_size=24, num_attention_heads=3, num_hidden_layers=3, image_size=28,
                                                 patch_size=7, mlp_ratio=2), "f32", [(28, 28), (42, 42), (21, 36)]),
    # Registers, and positions that are smoothed as they shrink: the usual input is smaller than what it was trained on.
    "dinov2-b": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel,
                 dict(hidden_size=30, num_attention_heads=5, num_hidden_layers=2, image_size=42, patch_size=6, mlp_ratio=3,
                      num_register_tokens=3, layer_norm_eps=1e-5), "bf16", [(24, 24), (42, 42), (54, 30)]),
    # The giant's gated MLP, no bias in queries, keys and values, no mask token, in f16.
    "dinov2-c": (Dinov2Config, Dinov2Model, dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=2, image_size=30,
                                                 patch_size=5, mlp_ratio=3, use_swiglu_ffn=True, qkv_bias=False,
                                                 use_mask_token=False), "f16", [(20, 20), (25, 45)]),
}
FULL = {  # Parameters as on the hub: hidden, heads, layers.
    "dinov2-small": (384, 6, 12), "dinov2-base": (768, 12, 12), "dinov2-large": (1024, 16, 24),
}


def spread(model, generator):
    """Weights that keep the size of what goes through them, and norms, scales and biases that are not 1 and 0."""
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name:
            value.data = noise * 0.2 + (1 if name.endswith("weight") else 0)
        elif "lambda1" in name:
            value.data = noise * 0.3 + 0.8
        elif name.endswith("bias"):
            value.data = noise * 0.2
        elif "token" in name or "position" in name:
            value.data = noise * 0.7
        else:
            value.data = noise * 1.6 * (value[0].numel() ** -0.5)


def preprocessor(side, edge):
    return {"crop_size": {"height": side, "width": side}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
            "do_rescale": True, "do_resize": True, "image_processor_type": "BitImageProcessor", **IMAGENET, "resample": 3,
            "rescale_factor": 1 / 255, "size": {"shortest_edge": edge}}


def run(model, pixels):
    """All stage outputs by name."""
    kept = {}

    def record(module, name):
        def hook(_, __, output):
            kept[name] = (output[0] if isinstance(output, tuple) else output).detach().clone().contiguous()
        return module.register_forward_hook(hook)
    hooks = [record(model.embeddings, "embeddings")]
    hooks += [record(layer, f"layers.{i}") for i, layer in enumerate(model.encoder.layer)]
    with torch.no_grad():
        out = model(pixel_values=pixels)
    for hook in hooks:
        hook.remove()
    kept["pooled"] = out.pooler_output
    return kept


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def write(name, case, out, seed):
    config_class, model_class, settings, number, sizes = case
    generator = torch.Generator().manual_seed(seed * 1000 + sum(map(ord, name)))
    model = model_class(config_class(**settings)).eval()
    spread(model, generator)
    half = {"f16": torch.float16, "bf16": torch.bfloat16}.get(number, torch.float32)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    # As on the hub: names of before the reference was rewritten, which its own loading still expects.
    model.to(half).save_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    assert any("attention.attention.query" in key for key in state), sorted(state)[:20]
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    side = sizes[0][0]
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(side, side * 8 // 7), indent=2) + "\n")
    expected = {}
    for height, width in sizes:
        pixels = torch.nn.functional.interpolate(unlike_images(2, max(height, width), generator), size=(height, width), mode="bilinear")
        stages = run(model, pixels)
        before = stages["embeddings"]
        for i in range(settings["num_hidden_layers"]):
            after = stages[f"layers.{i}"]
            change = ((after - before).norm() / before.norm()).item()
            assert change > 0.2, f"{name}: layer {i} changes its input by {change:.3f} only"
            before = after
        vectors = unit(stages["pooled"])
        assert vectors[0] @ vectors[1] < 0.99, f"{name}: the two pictures are alike"
        expected |= {f"{height}x{width}.image.{stage}": value.contiguous() for stage, value in stages.items()}
        expected |= {f"{height}x{width}.pixels": pixels, f"{height}x{width}.image_embeds": vectors}
    save_file(expected, folder / "expected.safetensors")
    bytes_ = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {bytes_ / 1e3:.0f} kB")
    return bytes_


def make_full(arch, seed):
    """A checkpoint of the hub's size, as it comes from the reference's constructor but for scales that matter."""
    registers = arch.endswith("-registers")
    hidden, heads, layers = FULL[arch.removesuffix("-registers")]
    settings = dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers, image_size=518, patch_size=14)
    torch.manual_seed(seed)
    if registers:
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**settings))
    else:
        model = Dinov2Model(Dinov2Config(**settings))
    for name, value in model.named_parameters():
        if "position" in name or "token" in name:
            torch.nn.init.normal_(value, std=0.5)
    return model.eval()


def full_size(arch, folder, seed):
    """For a_full_size_dinov2_agrees: a random checkpoint of full size, pixels and the reference's unit vectors."""
    model = make_full(arch, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(224, 256)))
    generator = torch.Generator().manual_seed(seed)
    pixels = unlike_images(4, 224, generator)
    with torch.no_grad():
        vectors = unit(model(pixel_values=pixels).pooler_output)
    save_file({"224x224.pixels": pixels, "224x224.image_embeds": vectors.contiguous()}, folder / "expected.safetensors")


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
