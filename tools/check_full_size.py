#!/usr/bin/env python3
"""Compares the program with transformers on a checkpoint of full size with random weights.

    pip install -r tools/requirements-parity.txt
    python tools/check_full_size.py --arch clip-b32 --make-checkpoint PATH/make_checkpoint.py --binary target/release/clip-aware
    python tools/check_full_size.py --arch siglip-b16 --export DIR     # for `cargo test -- --ignored a_full_size`

`--make-checkpoint` is a script that is called as `SCRIPT b32 DIR SEED` and writes a CLIP in Hugging Face layout; the SigLIP is
made here, with the tokenizer of tests/fixtures/parity/siglip-a. With --binary, `clip-aware embed` turns rendered images and
texts into vectors, which have to have cosine 0.99999 and 2e-4 absolute to the reference's. With --export, pixels and the
reference's vectors are written for a_full_size_checkpoint_agrees in tests/it/parity.rs (CLIP_AWARE_FULL_SIZE=DIR).

A file as OpenAI publishes it, TorchScript in 16 bits with nothing beside it, is made of an open_clip model
(tools/requirements-openclip.txt), whose towers and tokenizer are the reference:

    python tools/check_full_size.py --arch openai-vit-b32-pt --binary target/release/clip-aware

Detectors, which need tools/requirements-detr.txt, are exported only, for a_full_size_detr_agrees and those like it:

    python tools/check_full_size.py --arch detr-resnet-50 --export DIR
    CLIP_AWARE_FULL_SIZE=DIR cargo test --release --test it a_full_size_detr -- --ignored --nocapture
    python tools/check_full_size.py --arch rtdetr-v2-r50 --export DIR     # then a_full_size_rtdetr
    python tools/check_full_size.py --arch fasterrcnn-resnet50-fpn-v2 --export DIR     # then a_full_size_faster_rcnn

an encoder without texts for a_full_size_dinov2_agrees (tools/requirements-parity.txt):

    python tools/check_full_size.py --arch dinov2-small --export DIR     # also -base, -large, and each with -registers behind

an image classifier for a_full_size_classifier_agrees (the same):

    python tools/check_full_size.py --arch resnet-50 --export DIR     # also vit-base-patch16-224, convnext-tiny-224, ...

a face embedder for a_full_size_iresnet_agrees, with --arch iresnet50 or iresnet100 (the same),

and for a_full_size_owl_agrees, which need tools/requirements-owl.txt, with --arch owlv2-base-patch16-ensemble and its like."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = [
    "a photo of a cat", "two dogs on a red sofa", "", "A crowded street at night, seen from above!", "naïve café № 7",
    "the quick brown fox jumps over the lazy dog " * 12, "狗和猫", "one",
]
DETECTORS = ["detr-resnet-50", "detr-resnet-101", "detr-resnet-50-dc5", "detr-resnet-50-no-timm", "rtdetr-v2-r18", "rtdetr-v2-r34",
             "rtdetr-v2-r50", "rtdetr-v2-r101", "fasterrcnn-resnet50-fpn", "fasterrcnn-resnet50-fpn-v2"]
OWLS = ["owlv2-base-patch16-ensemble", "owlv2-large-patch14-ensemble", "owlvit-base-patch32", "owlvit-base-patch16",
        "owlvit-large-patch14"]
DINOV2 = [f"dinov2-{size}{registers}" for size in ("small", "base", "large") for registers in ("", "-registers")]
CLASSIFIERS = ["resnet-50", "vit-base-patch16-224", "convnext-tiny-224", "convnextv2-tiny-1k-224"]
IRESNETS = ["iresnet50", "iresnet100"]
COSINE, ABSOLUTE = 0.99999, 2e-4


def rendered_images(folder):
    """Photos are not ours to ship: coloured shapes and noise of several sizes, as PNG files."""
    rng = np.random.default_rng(0)
    paths = []
    for i, (width, height) in enumerate([(224, 224), (640, 480), (333, 500), (97, 64), (1200, 300), (224, 225)]):
        y, x = np.mgrid[0:height, 0:width]
        image = np.stack([(x * (i + 2)) % 256, (y * 3 + i * 40) % 256, ((x + y) * 2) % 256], axis=-1).astype(np.float64)
        inside = ((x - width / 2) ** 2 + (y - height / 3) ** 2) < (min(width, height) / 3) ** 2
        image[inside] = rng.integers(0, 256, 3)
        image += rng.normal(0, 12, image.shape)
        paths.append(folder / f"image-{i}.png")
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def make_siglip(folder, seed):
    from transformers import SiglipConfig, SiglipModel
    torch.manual_seed(seed)
    # The defaults are google/siglip-base-patch16-224.
    model = SiglipModel(SiglipConfig()).eval()
    model.logit_scale.data.fill_(4.7)
    model.logit_bias.data.fill_(-12.9)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "SiglipImageProcessor"}))
    shutil.copy(HERE.parent / "tests/fixtures/parity/siglip-a/tokenizer.json", folder / "tokenizer.json")


def reference(folder, paths):
    """Pixels, unit image vectors and unit text vectors, by transformers."""
    from transformers import AutoConfig, CLIPImageProcessorPil, CLIPModel, SiglipImageProcessorPil, SiglipModel
    siglip = AutoConfig.from_pretrained(folder).model_type == "siglip"
    model = (SiglipModel if siglip else CLIPModel).from_pretrained(folder).eval()
    processor = (SiglipImageProcessorPil if siglip else CLIPImageProcessorPil).from_pretrained(folder)
    pixels = processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")["pixel_values"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if siglip:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), tokenizer.normalizer])
    context = model.config.text_config.max_position_embeddings
    tokenizer.enable_truncation(context)
    pad = 0 if siglip else 49407
    rows = [tokenizer.encode(text).ids for text in TEXTS]
    ids = torch.tensor([row + [pad] * (context - len(row)) for row in rows])
    with torch.inference_mode():
        out = model(input_ids=ids, pixel_values=pixels)
    return pixels, out.image_embeds.float(), out.text_embeds.float()


def openai_file(folder, seed, paths):
    """A lone .pt; unit vectors of it by open_clip. torchvision crops as OpenAI does, where the margins are odd by another pixel
    than transformers: the vectors of its pixels are told apart."""
    import open_clip
    from transformers import CLIPImageProcessorPil
    torch.manual_seed(seed)
    model = open_clip.create_model("ViT-B-32-quickgelu").eval()
    tokenize = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    for value in model.parameters():
        value.data = value.data.half().float()
    ids, pictures = tokenize(TEXTS), [Image.open(path).convert("RGB") for path in paths]
    pixels = CLIPImageProcessorPil()(pictures, return_tensors="pt")["pixel_values"]
    theirs = torch.stack([open_clip.image_transform(224, is_train=False)(picture) for picture in pictures])
    with torch.no_grad():
        images, cropped = model.encode_image(pixels, normalize=True), model.encode_image(theirs, normalize=True)
        texts = model.encode_text(ids, normalize=True)
    path = folder / "model.pt"
    example = torch.zeros(1, 3, 224, 224, dtype=torch.half), ids[:1]
    torch.jit.trace(model.half(), example, check_trace=False).save(str(path))
    return path, images, texts, cropped


def embed(binary, folder, paths):
    command = [binary, "embed", "--model", folder, "--device", "cpu", "--precision", "f32", "--root", paths[0].parent, "--json"]
    for path in paths:
        command += ["--image", path]
    for text in TEXTS:
        command += ["--text", text]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                         env=os.environ | {"CLIP_AWARE_OFFLINE": "true"})
    if run.returncode:
        sys.exit(f"embed failed: {run.stderr[-2000:]}")
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return tuple(torch.tensor([line["vector"] for line in lines if line["kind"] == kind]) for kind in ("image", "text"))


def compare(name, found, expected):
    assert found.shape == expected.shape, f"{name}: {tuple(found.shape)} instead of {tuple(expected.shape)}"
    cosine = torch.nn.functional.cosine_similarity(found.double(), expected.double()).min().item()
    difference = (found - expected).abs().max().item()
    passed = cosine >= COSINE and difference <= ABSOLUTE
    print(f"{'ok  ' if passed else 'FAIL'} {name}: smallest cosine {cosine:.9f}, largest difference {difference:.2e}")
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=["clip-b32", "clip-b16", "clip-l14", "siglip-b16", "openai-vit-b32-pt", *DINOV2, *CLASSIFIERS,
                                             *IRESNETS, *DETECTORS, *OWLS], default="clip-b32")
    parser.add_argument("--make-checkpoint", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--export", type=pathlib.Path)
    arguments = parser.parse_args()
    if not arguments.binary and not arguments.export:
        parser.error("one of --binary and --export is needed")
    if arguments.arch == "openai-vit-b32-pt" and not arguments.binary:
        parser.error("a lone file needs --binary")
    torch.set_num_threads(arguments.threads)
    if arguments.arch in DINOV2 + CLASSIFIERS + IRESNETS + DETECTORS + OWLS:
        if not arguments.export:
            parser.error(f"{arguments.arch} needs --export")
        if arguments.arch in DINOV2:
            import export_dinov2 as exporter
        elif arguments.arch in CLASSIFIERS:
            import export_classifiers as exporter
        elif arguments.arch in IRESNETS:
            import export_iresnet as exporter
        elif arguments.arch in OWLS:
            import export_owl as exporter
        elif arguments.arch.startswith("rtdetr"):
            import export_rtdetr as exporter
        elif arguments.arch.startswith("fasterrcnn"):
            import export_faster_rcnn as exporter
        else:
            import export_detr as exporter
        torch.set_grad_enabled(False)
        exporter.full_size(arguments.arch, arguments.export, arguments.seed)
        return
    if arguments.arch == "openai-vit-b32-pt":
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            paths = rendered_images(folder)
            model, images, texts, cropped = openai_file(folder, arguments.seed, paths)
            found = embed(arguments.binary.resolve(), model, paths)
            results = [compare("images", found[0], images), compare("texts", found[1], texts)]
            print("cosines to open_clip's own pixels:", torch.nn.functional.cosine_similarity(found[0], cropped).tolist())
        sys.exit(0 if all(results) else 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.export or pathlib.Path(temporary) / "model"
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.arch == "siglip-b16":
            make_siglip(folder, arguments.seed)
        elif arguments.make_checkpoint:
            size = arguments.arch.removeprefix("clip-")
            subprocess.run([sys.executable, arguments.make_checkpoint, size, folder, str(arguments.seed)], check=True)
        else:
            parser.error("a CLIP needs --make-checkpoint")
        paths = rendered_images(pathlib.Path(temporary))
        pixels, images, texts = reference(folder, paths)
        if arguments.export:
            save_file({"pixels": pixels.contiguous(), "image_embeds": images.contiguous(), "text_embeds": texts.contiguous()},
                      folder / "expected.safetensors")
            (folder / "texts.json").write_text(json.dumps(TEXTS))
        if arguments.binary:
            found = embed(arguments.binary.resolve(), folder.resolve(), paths)
            results = [compare("images", found[0], images), compare("texts", found[1], texts)]
            sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
