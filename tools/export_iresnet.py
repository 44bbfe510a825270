#!/usr/bin/env python3
"""Writes tiny random IResNets, the network of ArcFace and CosFace, into tests/fixtures/parity and what torch makes of pictures.

    pip install -r tools/requirements-parity.txt
    python tools/export_iresnet.py [--out tests/fixtures/parity] [--seed 0]

The network is written here after the description in insightface's recognition/arcface_torch (names of tensors, order of the
layers): no weights of theirs and no faces. check_full_size.py calls full_size()."""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from torch import nn

from export_classifiers import spread
from export_parity import unlike_images

# Depths, widths, length of the vectors, side of the crops, numbers of the file.
CASES = {
    "iresnet-a": ([1, 2, 1, 1], [4, 6, 8, 12], 14, 40, "f16"),
    "iresnet-b": ([2, 1, 1, 2], [4, 6, 8, 10], 12, 32, "f32"),
}
FULL = {"iresnet50": [3, 4, 14, 3], "iresnet100": [3, 13, 30, 3]}


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-5)


class Block(nn.Module):
    """Normalised, a 3 x 3, a PReLU, a 3 x 3 that may halve the sides, and what came in."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = batch_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = batch_norm(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = batch_norm(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), batch_norm(outputs))

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    def __init__(self, depths, widths, dim, side):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = batch_norm(widths[0])
        self.prelu = nn.PReLU(widths[0])
        inputs = widths[0]
        for place, (depth, width) in enumerate(zip(depths, widths)):
            blocks = [Block(inputs if block == 0 else width, width, 2 if block == 0 else 1) for block in range(depth)]
            setattr(self, f"layer{place + 1}", nn.Sequential(*blocks))
            inputs, side = width, -(-side // 2)
        self.bn2 = batch_norm(inputs)
        self.fc = nn.Linear(inputs * side * side, dim)
        self.features = nn.BatchNorm1d(dim, eps=1e-5)

    def forward(self, x):
        """All stage outputs by name, maps with their channels last."""
        kept = {"embeddings": self.prelu(self.bn1(self.conv1(x)))}
        x = kept["embeddings"]
        for place in range(4):
            x = kept[f"layers.{place}"] = getattr(self, f"layer{place + 1}")(x)
        kept = {name: map_.permute(0, 2, 3, 1).contiguous() for name, map_ in kept.items()}
        return kept | {"pooled": self.features(self.fc(torch.flatten(self.bn2(x), 1)))}


def described(depths, widths, dim, side):
    return {"model_type": "iresnet", "depths": depths, "hidden_sizes": widths, "embedding_size": dim, "image_size": side}


def preprocessor(side):
    """(x / 255 - 0.5) / 0.5 of RGB, as insightface's inference.py."""
    return {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}, "resample": 2,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def prepared(case, generator, number="f32"):
    """The network with random weights that a file of this format holds, as the file and in f32."""
    model = IResNet(*case).eval()
    spread(model, generator)
    for name, value in model.named_parameters():
        if "prelu" in name:
            value.data = 0.25 + 0.15 * torch.randn(value.shape, generator=generator)
        elif "bn" in name or "features" in name or "downsample.1" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.2 + (1 if name.endswith("weight") else 0)
        else:
            # Blocks add up.
            value.data *= 0.5
    half = {"f16": torch.float16}.get(number, torch.float32)
    state = {name: value.to(half) if value.is_floating_point() else value for name, value in model.state_dict().items()}
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    return model, state


def save(folder, case, state, pixels, stages):
    vectors = torch.nn.functional.normalize(stages["pooled"], dim=-1)
    assert vectors[0] @ vectors[1] < 0.99, "the pictures are alike"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(described(*case)) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(case[3])) + "\n")
    size = f"{case[3]}x{case[3]}"
    expected = {f"{size}.image.{name}": value.contiguous() for name, value in stages.items()}
    save_file(expected | {f"{size}.pixels": pixels.contiguous(), f"{size}.image_embeds": vectors}, folder / "expected.safetensors")


def write(name, out, seed):
    *case, number = CASES[name]
    generator = torch.Generator().manual_seed(seed * 1000 + sum(map(ord, name)))
    model, state = prepared(case, generator, number)
    pixels = unlike_images(2, case[3], generator)
    with torch.no_grad():
        stages = model(pixels)
    assert all(0.05 < stage.std() < 30 for stage in stages.values()), {key: stage.std() for key, stage in stages.items()}
    shutil.rmtree(out / name, ignore_errors=True)
    save(out / name, case, state, pixels, stages)
    bytes_ = sum(file.stat().st_size for file in (out / name).iterdir())
    print(f"{name}: {bytes_ / 1e3:.0f} kB")
    assert bytes_ < 1.5e5, bytes_


def full_size(arch, folder, seed):
    """For a_full_size_iresnet_agrees: a random checkpoint of full size, pixels and the reference's unit vectors."""
    case = (FULL[arch], [64, 128, 256, 512], 512, 112)
    generator = torch.Generator().manual_seed(seed)
    model, state = prepared(case, generator)
    pixels = unlike_images(4, 112, generator)
    with torch.no_grad():
        pooled = model(pixels)["pooled"]
    print(f"{arch}: {sum(value.numel() for value in model.parameters()) / 1e6:.1f} M parameters")
    save(folder, case, state, pixels, {"pooled": pooled})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=here / "tests/fixtures/parity")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in CASES:
        write(name, arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
