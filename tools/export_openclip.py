#!/usr/bin/env python3
"""Writes the tiny random checkpoints of tests/fixtures/openclip in the layouts of OpenAI and open_clip, and what open_clip makes of them.

    pip install -r tools/requirements-openclip.txt
    python tools/export_openclip.py [--out tests/fixtures/openclip] [--seed 0]

    torchscript/model.pt        TorchScript in 16 bits without any config, as OpenAI's files; heads of 64 numbers
    fine-tuned/state_dict.pt    a state dict; open_clip_config.json beside it says quick_gelu
    fine-tuned/training.pt      open_clip's training checkpoint of the same model in 16 bits: epoch, optimizer, module. in front
    hub/                        a repository in open_clip layout: safetensors in 16 bits, gelu, other means

expected-NAME.safetensors holds pixels, unit vectors of images and of texts.json, and exp(logit_scale). Deterministic for one seed
and one set of versions."""
import argparse
import json
import pathlib
import shutil

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = ["a photo of a cat", "two dogs", "", "A RED circle left of two blue squares and a cat", "7 cats?"]
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("p", "h"), ("o", "f</w>"), ("r", "e"), ("re", "d</w>")]


def tokenizer():
    """CLIP's pipeline over letters and digits; the end token has the highest id."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789?")
    vocabulary = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in MERGES] + [BEGIN, END]
    ids = {token: i for i, token in enumerate(vocabulary)}
    made = Tokenizer(models.BPE(vocab=ids, merges=MERGES, unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    made.add_special_tokens([AddedToken(BEGIN, special=True), AddedToken(END, special=True)])
    made.post_processor = processors.RobertaProcessing((END, ids[END]), (BEGIN, ids[BEGIN]), False, False)
    return made, len(vocabulary)


def spread(model, generator):
    """Weights that keep the size of what goes through them, and norms and biases that are not 1 and 0."""
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if name == "logit_scale":
            value.data = torch.full_like(value, 2.9)
        elif ".ln_" in name or name.startswith("ln_"):
            value.data = noise * 0.2 + (1 if name.endswith("weight") else 0)
        elif name.endswith("bias"):
            value.data = noise * 0.2
        elif "embedding" in name:
            value.data = noise * 0.7
        elif name in ("visual.proj", "text_projection"):
            value.data = noise * 1.6 * (value.shape[0] ** -0.5)
        else:
            value.data = noise * 1.6 * (value[0].numel() ** -0.5)


def build(config, generator):
    model = CLIP(**config).eval()
    spread(model, generator)
    return model


def through_halves(model):
    """What 16 bits keep of the weights."""
    for value in model.parameters():
        value.data = value.data.half().float()
    return model


def expect(model, words, path, generator):
    side, context = model.visual.image_size[0], model.context_length
    pixels = torch.randn(3, 3, side, side, generator=generator)
    words.enable_truncation(context)
    rows = [words.encode(text).ids for text in TEXTS]
    ids = torch.tensor([row + [0] * (context - len(row)) for row in rows])
    with torch.no_grad():
        images, texts = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
    for vectors in (images, texts):
        closest = (vectors @ vectors.T - 2 * torch.eye(len(vectors))).max().item()
        assert closest < 0.995, f"{path}: two inputs give nearly the same vector ({closest})"
    save_file({"pixels": pixels, "image_embeds": images.contiguous(), "text_embeds": texts.contiguous(),
               "scale": model.logit_scale.exp().detach().reshape(1)}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/fixtures/openclip")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out, generator = arguments.out, torch.Generator().manual_seed(arguments.seed)
    shutil.rmtree(out, ignore_errors=True)
    words, vocabulary = tokenizer()
    for name in ("torchscript", "fine-tuned", "hub"):
        (out / name).mkdir(parents=True)
        words.save(str(out / name / "tokenizer.json"), pretty=False)
    (out / "texts.json").write_text(json.dumps(TEXTS))

    wide = {"embed_dim": 12, "quick_gelu": True,
            "vision_cfg": {"image_size": 12, "layers": 1, "width": 64, "patch_size": 4, "mlp_ratio": 0.25},
            "text_cfg": {"context_length": 14, "vocab_size": vocabulary, "width": 64, "heads": 1, "layers": 1, "mlp_ratio": 0.25}}
    model = through_halves(build(wide, generator))
    expect(model, words, out / "expected-torchscript.safetensors", generator)
    # OpenAI's files also hold numbers that are no weights.
    model.register_buffer("input_resolution", torch.tensor(12))
    example = torch.zeros(1, 3, 12, 12, dtype=torch.half), torch.zeros(1, 14, dtype=torch.long)
    torch.jit.trace(model.half(), example, check_trace=False).save(str(out / "torchscript/model.pt"))

    narrow = {"embed_dim": 12, "quick_gelu": True,
              "vision_cfg": {"image_size": 12, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4, "mlp_ratio": 1.5},
              "text_cfg": {"context_length": 14, "vocab_size": vocabulary, "width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0}}
    model = build(narrow, generator)
    folder = out / "fine-tuned"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": narrow}))
    torch.save(model.state_dict(), folder / "state_dict.pt")
    expect(model, words, out / "expected-state_dict.safetensors", generator)
    optimizer = torch.optim.AdamW([model.logit_scale, model.ln_final.weight])
    model.logit_scale.grad, model.ln_final.weight.grad = torch.ones([]), torch.ones(16)
    optimizer.step()
    through_halves(model)
    halves = {f"module.{name}": value.half() for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "pc-clip", "state_dict": halves, "optimizer": optimizer.state_dict()}, folder / "training.pt")
    expect(model, words, out / "expected-training.safetensors", generator)

    exact = {**narrow, "quick_gelu": False}
    model = through_halves(build(exact, generator))
    means = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
    (out / "hub/open_clip_config.json").write_text(json.dumps({"model_cfg": exact, "preprocess_cfg": means}))
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, out / "hub/open_clip_model.safetensors")
    expect(model, words, out / "expected-hub.safetensors", generator)


if __name__ == "__main__":
    main()
