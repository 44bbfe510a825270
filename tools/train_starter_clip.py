"""Trains, measures and writes the starter CLIP in assets/starter/clip.

    python tools/train_starter_clip.py train      # renders the training scenes, trains, writes the folder, measures
    python tools/train_starter_clip.py measure    # measures the folder again and rewrites the table of its README

Scenes come from the program's own renderer (`clip-aware scenes`, see --scenes), so that there is one distribution for
training, measuring and the demo. Everything is seeded; on one thread of one machine a run repeats. Development only.
"""

import argparse
import json
import math
import shlex
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "assets" / "starter" / "clip"

IMAGE_SIDE = 64
CONTEXT_LENGTH = 48
# Sides at which training scenes are rendered before they are scaled to the model's, and how many of each.
RENDERED = {64: 10_000, 96: 10_000, 128: 10_000, 256: 10_000}
# Kinds of seeds never meet: training uses 1000 and up, development 100 and up, the figures in the README 0 to 9.
TRAINING_SEED = 1000
DEVELOPMENT_SEED = 100
REPORT_SEEDS = range(10)
SCENES = 200
MEASURED_SIDE = 256

BATCH = 128
# Muon for the layers' matrices, AdamW for the rest. After 100 steps of scenes with one object, zero-shot shape accuracy
# was 0.15 (chance 0.13) with AdamW alone and 0.52 so.
MATRIX_LEARNING_RATE, MATRIX_WEIGHT_DECAY = 3e-3, 0.05
LEARNING_RATE, WEIGHT_DECAY = 1.5e-3, 0.01
WARM_UP = 50
# Steps on scenes with one object before all scenes take part: shapes are learned sooner alone.
SINGLE_STEPS = 200
# Sizes of the patches' and of their positions' initial embeddings.
PATCH_SCALE, POSITION_SCALE = 0.35, 0.5
# Words that no caption has must not disturb: this share of the captions gets unknown words put in.
UNKNOWN_SHARE = 0.15
# Words that frame a caption: captions that differ only in these say the same.
FRAME_WORDS = "a an photo picture of image the in with scene drawing shows . <|unknown|> <|pad|>".split()


# ---- scenes ----------------------------------------------------------------------------------------------------------


def render(command, kind, seed, count, side, out):
    """Renders scenes with the program; returns their truth and their pixels, uint8 [count, side, side, 3]."""
    subprocess.run(
        [*shlex.split(command), "scenes", "--kind", kind, "--seed", str(seed), "--count", str(count)]
        + ["--side", str(side), "--out", str(out), "--raw"],
        check=True,
    )
    truth = [json.loads(line) for line in (out / "scenes.jsonl").read_text().splitlines()]
    pixels = np.memmap(out / "scenes.rgb", dtype=np.uint8, mode="r", shape=(count, side, side, 3))
    return truth, pixels


def scaled(pixels):
    """To the model's side as its preprocessor does (PIL, bicubic, antialiased); uint8 [n, 3, 64, 64]."""
    size = (IMAGE_SIDE, IMAGE_SIDE)
    images = (np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)) for picture in pixels)
    return torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image in images]))


def normalised(pixels):
    """uint8 -> float in -1 to 1: mean and standard deviation 0.5, as in preprocessor_config.json."""
    return pixels.float() / 127.5 - 1.0


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def build_tokenizer(captions):
    """One token per word of the captions; everything else becomes the unknown token.

    The end token has the highest id: CLIP's text tower is pooled there, and older code finds it by `argmax`.
    """
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="<|unknown|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "isolated"),
        ]
    )
    words = set()
    for caption in captions:
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(caption.lower()))
    order = ["<|pad|>", "<|unknown|>", *sorted(words), "<|startoftext|>", "<|endoftext|>"]
    ids = {word: index for index, word in enumerate(order)}
    tokenizer.model = models.WordLevel(ids, unk_token="<|unknown|>")
    tokenizer.add_special_tokens(["<|pad|>", "<|unknown|>", "<|startoftext|>", "<|endoftext|>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(name, ids[name]) for name in ("<|startoftext|>", "<|endoftext|>")],
    )
    return tokenizer


def tokens_of(tokenizer, texts):
    """int64 [n, CONTEXT_LENGTH], padded, the end token kept when a text is too long."""
    pad, end = tokenizer.token_to_id("<|pad|>"), tokenizer.token_to_id("<|endoftext|>")
    rows = torch.full((len(texts), CONTEXT_LENGTH), pad)
    for row, encoding in zip(rows, tokenizer.encode_batch(list(texts))):
        ids = encoding.ids
        if len(ids) > CONTEXT_LENGTH:
            ids = ids[: CONTEXT_LENGTH - 1] + [end]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def with_unknown_words(rows, tokenizer, generator):
    """Puts one or two unknown tokens somewhere behind the start token of some captions."""
    unknown, pad = tokenizer.token_to_id("<|unknown|>"), tokenizer.token_to_id("<|pad|>")
    rows = rows.clone()
    chosen = torch.rand(len(rows), generator=generator) < UNKNOWN_SHARE
    for index in chosen.nonzero().flatten().tolist():
        length = int((rows[index] != pad).sum())
        count = int(torch.randint(1, 3, (), generator=generator))
        if length + count <= CONTEXT_LENGTH:
            place = int(torch.randint(1, length, (), generator=generator))
            row = rows[index].tolist()
            rows[index] = torch.tensor((row[:place] + [unknown] * count + row[place:])[:CONTEXT_LENGTH])
    return rows


# ---- model -----------------------------------------------------------------------------------------------------------


def configuration(tokenizer):
    ids = {
        "pad_token_id": tokenizer.token_to_id("<|pad|>"),
        "bos_token_id": tokenizer.token_to_id("<|startoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|endoftext|>"),
    }
    tower = {"num_attention_heads": 4, "hidden_size": 128, "intermediate_size": 512, "hidden_act": "quick_gelu"}
    return CLIPConfig(
        text_config={
            **tower,
            **ids,
            "num_hidden_layers": 3,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": CONTEXT_LENGTH,
            "projection_dim": 128,
        },
        vision_config={
            **tower,
            "num_hidden_layers": 4,
            "image_size": IMAGE_SIDE,
            "patch_size": 8,
            "projection_dim": 128,
        },
        projection_dim=128,
        **ids,
    )


@torch.no_grad()
def prepare_patches(model, pixels, generator):
    """Starts the patch embedding as a whitening of real patches (as K. Jordan's airbench for CIFAR, 2404.00498) and the
    positions as sines and cosines of row and column (as MoCo v3). From CLIP's own start, where brightness outweighs
    edges and positions are near zero, a first trial with AdamW learned colours in 200 steps and no shapes in 600."""
    patch = model.config.vision_config.patch_size
    embeddings = model.vision_model.embeddings
    kernel = embeddings.patch_embedding.weight
    width = kernel.shape[0]
    images = normalised(pixels[torch.randperm(len(pixels), generator=generator)[:2000]])
    patches = functional.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    # The rarest directions are noise: no variance is raised beyond that of one in ten thousand of the largest.
    whitening = (directions / (variances + 1e-4 * variances.max()).sqrt()).flip(1).T[:width]
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    kernel.copy_((rotation @ whitening).view_as(kernel))
    kernel.mul_(PATCH_SCALE / functional.conv2d(images[:200], kernel, stride=patch).std())

    side = IMAGE_SIDE // patch
    frequencies = math.pi / 2 * 2.0 ** (torch.arange(width // 4) / (width // 4) * 3) / side
    angles = torch.arange(side)[:, None] * frequencies  # [side, width / 4]
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)  # [side, width / 2]
    grid = torch.cat([waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)], dim=-1)
    embeddings.position_embedding.weight[1:] = POSITION_SCALE * grid.reshape(side * side, width)


def embed_images(model, pixels):
    vectors = [
        model.visual_projection(model.vision_model(pixel_values=normalised(batch)).pooler_output)
        for batch in pixels.split(200)
    ]
    return functional.normalize(torch.cat(vectors), dim=-1)


def embed_tokens(model, rows):
    # Padding stands behind the end token and the mask is causal, so that columns of padding alone change nothing.
    longest = int((rows != model.config.text_config.pad_token_id).sum(-1).max())
    vectors = model.text_projection(model.text_model(input_ids=rows[:, :longest]).pooler_output)
    return functional.normalize(vectors, dim=-1)


def meanings(rows, tokenizer):
    """A number for what each caption says, its frame left aside: int64 [n]."""
    frame = {tokenizer.token_to_id(word) for word in FRAME_WORDS}
    known = {}
    contents = (tuple(token for token in row if token not in frame) for row in rows.tolist())
    return torch.tensor([known.setdefault(content, len(known)) for content in contents])


def contrastive_loss(model, images, rows, meaning):
    """CLIP's symmetric loss. Captions in a batch that say the same are all right answers for each other's images (soft
    targets as in UniCL, Yang et al., CVPR 2022), so that no image is pushed away from its own words."""
    logits = model.logit_scale.exp() * images @ embed_tokens(model, rows).T
    equal = (meaning[:, None] == meaning[None, :]).float()
    targets = equal / equal.sum(-1, keepdim=True)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def prepare(arguments):
    """Renders and scales the training scenes. Returns pixels uint8 [n, 3, 64, 64], token rows [n, captions, context],
    the tokenizer, and which scenes hold one object, bool [n]."""
    truth, pixels = [], []
    for offset, (side, count) in enumerate(RENDERED.items()):
        out = arguments.work / f"training-{side}"
        lines, rendered = render(arguments.scenes, "natural", TRAINING_SEED + offset, count, side, out)
        truth += lines
        pixels.append(scaled(rendered))
    captions = [caption for line in truth for caption in line["captions"]]
    tokenizer = build_tokenizer(captions)
    rows = tokens_of(tokenizer, captions).view(len(truth), -1, CONTEXT_LENGTH)
    single = torch.tensor([len(line["objects"]) == 1 for line in truth])
    return torch.cat(pixels), rows, tokenizer, single


def batches(single, generator):
    """Endless batches of scene numbers: first of scenes with one object, then of all, each scene once per round."""
    step, alone = 0, single.nonzero().flatten()
    while True:
        among = alone if step < SINGLE_STEPS else torch.arange(len(single))
        order = among[torch.randperm(len(among), generator=generator)]
        for batch in order.split(BATCH):
            if len(batch) == BATCH and (step != SINGLE_STEPS or among is not alone):
                yield batch
                step += 1


def schedule(step, steps):
    """Factor of the learning rates: warm-up along a line, then half a cosine down to zero."""
    if step <= WARM_UP:
        return step / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def build_optimizers(model):
    """Muon (K. Jordan et al., 2024; its step scaled to AdamW's size as in 2502.16982) and AdamW."""
    matrices = {name: value for name, value in model.named_parameters() if value.ndim == 2 and ".layers." in name}
    others = [value for name, value in model.named_parameters() if name not in matrices]
    muon = torch.optim.Muon(
        matrices.values(),
        lr=MATRIX_LEARNING_RATE,
        weight_decay=MATRIX_WEIGHT_DECAY,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6, weight_decay=WEIGHT_DECAY)
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return muon, adamw


def train(arguments):
    torch.manual_seed(TRAINING_SEED)
    generator = torch.Generator().manual_seed(TRAINING_SEED)
    started = time.time()
    pixels, rows, tokenizer, single = prepare(arguments)
    # Plain attention: on a CPU its backward pass in bf16 takes half the time of the fused one.
    model = CLIPModel._from_config(configuration(tokenizer), attn_implementation="eager")
    prepare_patches(model, pixels, generator)
    count = sum(parameter.numel() for parameter in model.parameters())
    seconds, words = time.time() - started, tokenizer.get_vocab_size()
    print(f"{len(rows)} scenes in {seconds:.0f} s, {words} tokens, {count} parameters", flush=True)

    optimizers = build_optimizers(model)
    started, losses = time.time(), []
    for step, chosen in zip(range(1, arguments.steps + 1), batches(single, generator)):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["initial_lr"] * schedule(step, arguments.steps)
        caption = torch.randint(rows.shape[1], (BATCH,), generator=generator)
        texts = with_unknown_words(rows[chosen, caption], tokenizer, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not arguments.f32):
            loss = contrastive_loss(model, embed_images(model, pixels[chosen]), texts, meanings(texts, tokenizer))
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            # As CLIP: the temperature is learned, but the scale stays below 100.
            model.logit_scale.clamp_(0.0, math.log(100.0))
        losses.append(loss.item())
        if step % 100 == 0:
            mean, scale = sum(losses[-100:]) / 100, model.logit_scale.exp().item()
            speed = (time.time() - started) / step
            print(f"step {step}: loss {mean:.3f}, scale {scale:.1f}, {speed:.2f} s/step", flush=True)
        if arguments.check and step % arguments.check == 0:
            save(model, tokenizer, arguments.model)
            print(figures(model.eval(), tokenizer, arguments, [DEVELOPMENT_SEED]), flush=True)
            model.train()
    save(model, tokenizer, arguments.model)
    print(f"trained in {time.time() - started:.0f} s")


def without_noise(config):
    """The entries of a config that say something about this model."""
    noise = ("id2label", "label2id", "output_", "return_dict", "chunk_size", "_name_or_path", "is_encoder_decoder")
    kept = {key: value for key, value in config.items() if value is not None and not key.startswith(noise)}
    return {key: without_noise(value) if isinstance(value, dict) else value for key, value in kept.items()}


def save(model, tokenizer, folder):
    """Writes the folder in Hugging Face layout; weights as f16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**without_noise(model.config.to_dict()), "architectures": ["CLIPModel"], "dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIDE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    state = model.state_dict()
    tensors = {name: value.half().contiguous() for name, value in state.items() if "position_ids" not in name}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def load(folder):
    """The shipped weights, widened to f32 as the program does."""
    model = CLIPModel(CLIPConfig.from_dict(json.loads((folder / "config.json").read_text())))
    tensors = {name: value.float() for name, value in load_file(str(folder / "model.safetensors")).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or any("position_ids" not in name for name in missing):
        raise SystemExit(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


# ---- measuring -------------------------------------------------------------------------------------------------------

# Kind of scenes, what it measures, what guessing would give.
MEASURES = {
    "gallery": "search: precision at 1 of \"a red circle\"",
    "natural": "the same among mixed scenes",
    "shape": "zero-shot shape, 8 choices",
    "colour": "zero-shot colour, 8 choices",
    "counting": "counting, 1 to 4",
    "left-right": "left or right",
    "binding": "which colour on which shape",
    "negation": "a circle, or without a circle",
}


@torch.no_grad()
def accuracy(model, tokenizer, kind, truth, pixels):
    """Share of right answers and of chance hits; the same rules as src/engine/scenes.rs."""
    images = embed_images(model, scaled(pixels))
    if truth[0]["choices"]:
        choices = torch.stack([embed_tokens(model, tokens_of(tokenizer, line["choices"])) for line in truth])
        answers = torch.tensor([line["answer"] for line in truth])
        best = torch.einsum("ncd,nd->nc", choices, images).argmax(-1)
        return (best == answers).float().mean().item(), 1.0 / choices.shape[1]
    held = [{(item["colour"], item["shape"]) for item in line["objects"]} for line in truth]
    present = sorted(set().union(*held))
    texts = [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}" for colour, shape in present]
    best = (embed_tokens(model, tokens_of(tokenizer, texts)) @ images.T).argmax(-1).tolist()
    hits = [thing in held[index] for thing, index in zip(present, best)]
    chance = sum(len(things) for things in held) / (len(present) * len(held))
    return sum(hits) / len(hits), chance


def figures(model, tokenizer, arguments, seeds):
    """Mean, worst and chance of every measure over the seeds."""
    result = {}
    for kind in MEASURES:
        values = []
        for seed in seeds:
            truth, pixels = render(arguments.scenes, kind, seed, SCENES, MEASURED_SIDE, arguments.work / "measured")
            values.append(accuracy(model, tokenizer, kind, truth, pixels))
        shares = [value for value, _ in values]
        chance = sum(value for _, value in values) / len(values)
        result[kind] = tuple(round(value, 3) for value in (sum(shares) / len(shares), min(shares), chance))
    return result


def measure(arguments):
    """Measures the folder and rewrites the table between the markers of its README."""
    model, tokenizer = load(arguments.model)
    lines = ["| measure | mean | worst seed | chance |", "|---|---|---|---|"]
    for kind, (mean, worst, chance) in figures(model, tokenizer, arguments, REPORT_SEEDS).items():
        lines.append(f"| {MEASURES[kind]} | {mean:.3f} | {worst:.3f} | {chance:.3f} |")
    table = "\n".join(lines)
    print(table)
    readme = arguments.model / "README.md"
    if readme.exists():
        text = readme.read_text()
        start, end = "<!-- figures -->\n", "\n<!-- /figures -->"
        before, after = text.split(start)[0], text.split(end)[1]
        readme.write_text(before + start + table + end + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["train", "measure"])
    parser.add_argument("--scenes", default="cargo run --quiet --", help="the program that renders scenes")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder to write or measure")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "starter", help="folder for rendered scenes")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--check", type=int, default=0, help="print figures on a development seed every N steps")
    parser.add_argument("--f32", action="store_true", help="train without bf16 autocast, at half the speed")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.task == "train":
        train(arguments)
    measure(arguments)


if __name__ == "__main__":
    main()
