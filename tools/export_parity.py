#!/usr/bin/env python3
"""Writes the tiny random checkpoints of tests/fixtures/parity and what the reference makes of them.

    pip install -r tools/requirements-parity.txt
    python tools/export_parity.py [--out tests/fixtures/parity] [--seed 0]

Every folder holds a checkpoint in Hugging Face layout, cases.json (texts and their ids) and expected.safetensors: the
pixels that went in, the output of every stage of both towers, the unit vectors and the logits. The weights are drawn wide
enough that every stage changes its input visibly; the script refuses to write a case where it does not. Deterministic for
one seed and one set of versions."""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = [
    "a photo of a cat",
    "A RED circle left of two blue squares",
    "",
    "   \t\n ",
    "naïve café, 100 % — it's fine!",
    "狗和猫 🐕🐈",
    "one \x00\x07 two",
    "no cat, no dog; " * 12,
    f"an {END} inside",
]
CORPUS = [
    "a photo of a cat", "a photo of two dogs", "a red circle left of a blue square", "one green triangle",
    "it's a picture of the left side", "two cats and three dogs", "a circle above a square", "no dog in the photo",
]


def clip_tokenizer():
    """CLIP's pipeline over a small byte-level vocabulary; the end token has the highest id, as in CLIP's own."""
    tokenizer = Tokenizer(models.BPE(unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    merges = learn_merges()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    vocabulary = list(dict.fromkeys(vocabulary)) + [BEGIN, END]
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer.model = models.BPE(vocab=ids, merges=merges, unk_token=END, continuing_subword_prefix="",
                                 end_of_word_suffix="</w>")
    tokenizer.add_special_tokens([AddedToken(BEGIN, normalized=False, special=True),
                                  AddedToken(END, normalized=False, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing((END, ids[END]), (BEGIN, ids[BEGIN]), False, False)
    return tokenizer, len(vocabulary), ids[BEGIN], ids[END]


def learn_merges():
    """Every word of the corpus, built up from its first letter; a trainer would break ties by chance."""
    merges = {}
    for word in sorted(set(" ".join(CORPUS).split())):
        letters = list(word[:-1]) + [word[-1] + "</w>"]
        piece = letters[0]
        for letter in letters[1:]:
            merges[(piece, letter)] = None
            piece += letter
    return list(merges)


def siglip_tokenizer():
    """SigLIP 2's pipeline (Gemma's, as its file on the hub: without the lower-casing that it was trained with)."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = sorted(set("".join(CORPUS)) - {" "}) + ["▁"]
    ids = {token: i for i, token in enumerate(special + [f"<0x{byte:02X}>" for byte in range(256)] + letters)}
    merges = []
    for word in sorted(set(" ".join(CORPUS).split())):
        piece = "▁"
        for letter in word:
            if piece + letter not in ids:
                ids[piece + letter] = len(ids)
                merges.append((piece, letter))
            piece += letter
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer, len(ids)


def spread(model, generator):
    """Weights that keep the size of what goes through them, and norms and biases that are not 1 and 0."""
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if name in ("logit_scale", "logit_bias"):
            value.data = torch.full_like(value, 2.9 if name == "logit_scale" else -7.5)
        elif "norm" in name or "layrnorm" in name:
            value.data = noise * 0.2 + (1 if name.endswith("weight") else 0)
        elif name.endswith("bias"):
            value.data = noise * 0.2
        elif "embedding" in name and "patch" not in name or name.endswith("probe"):
            value.data = noise * 0.7
        else:
            value.data = noise * 1.6 * (value[0].numel() ** -0.5)


def clip(hidden_act, eos, text, vision, projection_dim, images):
    def build(generator):
        tokenizer, vocab_size, begin, end = clip_tokenizer()
        config = CLIPConfig(
            text_config=dict(vocab_size=vocab_size, hidden_act=hidden_act, bos_token_id=begin,
                             eos_token_id=end if eos is None else eos, projection_dim=projection_dim, **text),
            vision_config=dict(hidden_act=hidden_act, projection_dim=projection_dim, **vision),
            projection_dim=projection_dim)
        model = CLIPModel(config).eval()
        spread(model, generator)
        return model, tokenizer, end, images
    return build


def siglip(text, vision, images):
    def build(generator):
        tokenizer, vocab_size = siglip_tokenizer()
        config = SiglipConfig(text_config=dict(vocab_size=vocab_size, bos_token_id=2, eos_token_id=1, **text),
                              vision_config=vision)
        # As on the hub: SigLIP 2's config keeps a pad_token_id that is not its tokenizer's.
        model = SiglipModel(config).eval()
        spread(model, generator)
        return model, tokenizer, 0, images
    return build


def tower(hidden, heads, layers, intermediate, **more):
    return dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=intermediate, **more)


CASES = {
    # OpenAI style: QuickGELU, the wrong eos_token_id 2, half the checkpoints on the hub are in f16.
    "clip-a": (clip("quick_gelu", 2, tower(24, 3, 2, 48, max_position_embeddings=20),
                    tower(32, 4, 3, 64, image_size=24, patch_size=8), 16, 3), "f32"),
    "clip-b": (clip("quick_gelu", 2, tower(32, 2, 3, 80, max_position_embeddings=28),
                    tower(24, 2, 2, 40, image_size=28, patch_size=14), 20, 2), "bin"),
    # OpenCLIP style: exact GELU, pooling at the position of the end token, head sizes that are no power of two, another eps.
    "openclip-a": (clip("gelu", None, tower(20, 2, 2, 40, max_position_embeddings=24),
                        tower(30, 5, 3, 50, image_size=32, patch_size=8, layer_norm_eps=1e-6), 36, 3), "f32"),
    "openclip-b": (clip("gelu", None, tower(44, 1, 2, 60, max_position_embeddings=16),
                        tower(22, 2, 2, 88, image_size=18, patch_size=6), 12, 3), "f16"),
    "siglip-a": (siglip(tower(24, 3, 2, 48, max_position_embeddings=16),
                        tower(24, 4, 3, 52, image_size=24, patch_size=8), 3), "f32"),
    # The image is no multiple of the patch, as in so400m-patch14-384; the weights are in bf16.
    "siglip-b": (siglip(tower(36, 2, 3, 40, max_position_embeddings=40),
                        tower(36, 3, 2, 64, image_size=31, patch_size=7), 2), "bf16"),
}


def unlike_images(count, size, generator):
    """Blots of colour with some noise: images of noise alone are all alike to a transformer."""
    blots = torch.randn((count, 3, 3, 3), generator=generator) + torch.randn((count, 3, 1, 1), generator=generator)
    blots = torch.nn.functional.interpolate(blots, size=(size, size), mode="bilinear")
    return blots + 0.3 * torch.randn((count, 3, size, size), generator=generator)


def record(module, kept, name):
    def hook(_, __, output):
        kept[name] = (output[0] if isinstance(output, tuple) else output).detach().clone().contiguous()
    module.register_forward_hook(hook)


def run(model, pixels, ids):
    """All stage outputs, named as the checkpoint names them."""
    image, text = {}, {}
    vision, texts = model.vision_model, model.text_model
    for kept, part in ((image, vision), (text, texts)):
        record(part.embeddings, kept, "embeddings")
        for i, layer in enumerate(part.encoder.layers):
            record(layer, kept, f"layers.{i}")
    record(texts.final_layer_norm, text, "final_layer_norm")
    if hasattr(vision, "pre_layrnorm"):
        record(vision.pre_layrnorm, image, "pre_layrnorm")
    else:
        record(vision.post_layernorm, image, "post_layernorm")
    with torch.no_grad():
        v, t = vision(pixel_values=pixels), texts(input_ids=ids)
        image["pooled"], text["pooled"] = v.pooler_output, t.pooler_output
        if hasattr(model, "visual_projection"):
            image["projected"] = model.visual_projection(v.pooler_output)
            text["projected"] = model.text_projection(t.pooler_output)
        out = model(input_ids=ids, pixel_values=pixels)
    expected = {f"image.{k}": v for k, v in image.items()} | {f"text.{k}": v for k, v in text.items()}
    return expected | {"image_embeds": out.image_embeds, "text_embeds": out.text_embeds, "logits_per_image": out.logits_per_image}


def check_not_degenerate(name, expected, layers):
    for kind, count in layers.items():
        stages = [expected[f"{kind}.embeddings"]] + [expected[f"{kind}.layers.{i}"] for i in range(count)]
        for i, (before, after) in enumerate(zip(stages, stages[1:])):
            change = ((after - before).norm() / before.norm()).item()
            assert change > 0.2, f"{name}: {kind} layer {i} changes its input by {change:.3f} only"
    for kind in ("image_embeds", "text_embeds"):
        cosines = expected[kind] @ expected[kind].T
        # The two texts without any letters are equal.
        others = cosines[cosines < 0.999999]
        assert others.median() < 0.9 and others.max() < 0.995, f"{name}: {kind} are alike: {others}"


def write(name, build, number, out, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed * 1000 + sum(map(ord, name)))
    model, tokenizer, pad, images = build(generator)
    half = {"f16": torch.float16, "bf16": torch.bfloat16}.get(number, torch.float32)
    state = {k: v.to(half).contiguous() for k, v in model.state_dict().items()}
    model.load_state_dict({k: v.float() for k, v in state.items()})
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    if number == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        # A tensor that older checkpoints carry and nobody needs.
        positions = torch.arange(model.config.text_config.max_position_embeddings).unsqueeze(0)
        save_file(state | {"text_model.embeddings.position_ids": positions}, folder / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    size = model.config.vision_config.image_size
    processor = {"do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    if name.startswith("siglip"):
        processor |= {"size": {"height": size, "width": size}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
                      "image_processor_type": "SiglipImageProcessor"}
    else:
        processor |= {"size": {"shortest_edge": size}, "do_center_crop": True, "crop_size": {"height": size, "width": size},
                      "do_convert_rgb": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
                      "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "CLIPImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")

    context = model.config.text_config.max_position_embeddings
    if name.startswith("siglip"):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), tokenizer.normalizer])
    full = [len(tokenizer.encode(text).ids) for text in TEXTS]
    tokenizer.enable_truncation(context)
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    cases = [{"text": text, "ids": own, "full_len": length} for text, own, length in zip(TEXTS, ids, full)]
    (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")
    padded = torch.tensor([own + [pad] * (context - len(own)) for own in ids])
    pixels = unlike_images(images, size, generator)
    expected = run(model, pixels, padded)
    layers = {"image": model.config.vision_config.num_hidden_layers, "text": model.config.text_config.num_hidden_layers}
    check_not_degenerate(name, expected, layers)
    save_file({"pixels": pixels} | {k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    bytes_ = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {bytes_ / 1e3:.0f} kB, {sum(v.numel() for v in state.values())} parameters in {number}")
    return bytes_


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=here / "tests/fixtures/parity")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    total = sum(write(name, build, number, arguments.out, arguments.seed) for name, (build, number) in CASES.items())
    print(f"{total / 1e6:.2f} MB in all")
    assert total < 2.5e6


if __name__ == "__main__":
    main()
