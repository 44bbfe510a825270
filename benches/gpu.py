#!/usr/bin/env python3
"""The encoders on a GPU beside PyTorch's: one command, one table.

    python3 benches/gpu.py --binary target/cuda/release/clip-aware --device cuda --out DIR
    python3 benches/gpu.py --binary target/debug/clip-aware --device cpu --sizes tiny --batches 1,4      # the script itself

Makes CLIP checkpoints of random weights, and for each and both towers compares

- clip-aware: `bench encode`, which takes preprocessed pictures and texts from ordinary memory and gives vectors there;
- PyTorch (transformers, scaled-dot-product attention, the same precision), twice: from page-locked memory, or texts, to vectors
  in memory, which is the same work, and with everything on the GPU already, which leaves out tokens and transfers.

It ends with 1 where a cosine between the two, over rendered pictures and texts, is below 0.999, or a ratio to PyTorch without
transfers below --least at batch 64 or more. Needs torch, transformers, tokenizers, numpy and Pillow; no network. With `--kernels`
also what the own kernels are worth (candle's operations instead), and f16; with `--compile` also torch.compile.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
TOKENIZER = REPOSITORY / "tests/fixtures/parity/clip-a/tokenizer.json"
# Vision: width, wide layer, layers, heads, picture, patch; text: width, wide layer, layers, heads; vectors.
SIZES = {
    "ViT-B/32": ((768, 3072, 12, 12, 224, 32), (512, 2048, 12, 8), 512),
    "ViT-L/14": ((1024, 4096, 24, 16, 224, 14), (768, 3072, 12, 12), 768),
    "tiny": ((64, 128, 2, 4, 32, 8), (48, 96, 2, 4), 32),
}
NAMES = {"b32": "ViT-B/32", "l14": "ViT-L/14", "tiny": "tiny"}
# As src/cli/bench.rs.
LONG_TEXT = " and ".join(["a photo of a dog and a cat and a bird and a horse and a cow and a sheep"] * 6)
TEXTS = ["a photo of a cat", "two dogs on a red sofa", "a crowded street at night, seen from above", "one", LONG_TEXT]
COSINE = 0.999
ROUNDS = 30
SECONDS = 1.0


def make_checkpoint(name, folder, torch):
    """A CLIP with random weights, and the tokenizer of a test fixture: its ids are a few hundred of the vocabulary's."""
    from tokenizers import Tokenizer
    from transformers import CLIPConfig, CLIPModel

    (h, i, n, a, side, patch), (th, ti, tn, ta), dim = SIZES[name]
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    begin, end = (tokenizer.token_to_id(token) for token in ("<|startoftext|>", "<|endoftext|>"))
    text = dict(hidden_size=th, intermediate_size=ti, num_hidden_layers=tn, num_attention_heads=ta, projection_dim=dim,
                bos_token_id=begin, eos_token_id=end)
    vision = dict(hidden_size=h, intermediate_size=i, num_hidden_layers=n, num_attention_heads=a, image_size=side,
                  patch_size=patch, projection_dim=dim)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim)).eval()
    # As drawn, all pictures have nearly the same vector; wider, a wrong layer shows.
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() > 1 and "embedding" not in key:
                value.mul_(2.0)
    # Both sides read the same numbers, whatever they compute in.
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "do_resize": True, "size": {"shortest_edge": side}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": side, "width": side}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "do_convert_rgb": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "CLIPImageProcessor"}))
    (folder / "tokenizer.json").write_text(TOKENIZER.read_text())


class Reference:
    """PyTorch's towers."""

    def __init__(self, folder, device, precision, torch):
        from tokenizers import Tokenizer
        from transformers import CLIPModel

        self.torch, self.device = torch, device
        self.format = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[precision]
        model = CLIPModel.from_pretrained(folder, dtype=self.format, attn_implementation="sdpa")
        self.model = model.to(device).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.side = self.model.config.vision_config.image_size

    def image(self, pixels):
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    def text(self, ids):
        return self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output)

    def ids(self, texts):
        """Padded behind the end, which nothing before it sees."""
        self.tokenizer.enable_truncation(77)
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        longest = max(map(len, rows))
        return self.torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def pixels(self, pictures):
        """CLIP's input pipeline on pictures that are square already and have the model's size."""
        import numpy as np

        mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
        rows = [((np.asarray(picture) / 255 - mean) / deviation).transpose(2, 0, 1) for picture in pictures]
        return self.torch.tensor(np.stack(rows), dtype=self.torch.float32)

    def unit(self, vectors):
        return self.torch.nn.functional.normalize(vectors.float(), dim=-1).cpu()

    def seconds(self, run):
        """Median time of a call, the GPU's work included."""
        wait = self.torch.cuda.synchronize if self.device == "cuda" else lambda: None
        for _ in range(3):
            run()
        wait()
        times, started = [], time.perf_counter()
        while len(times) < 5 or (len(times) < ROUNDS and time.perf_counter() - started < SECONDS):
            begun = time.perf_counter()
            run()
            wait()
            times.append(time.perf_counter() - begun)
        return statistics.median(times)

    def times(self, tower, batch, compiled):
        """Seconds a batch: from memory to memory, and without transfers."""
        encode = getattr(self, tower)
        if compiled:
            encode = self.torch.compile(encode)
        if tower == "image":
            here = self.torch.full((batch, 3, self.side, self.side), 0.1)
        else:
            here = self.ids([LONG_TEXT] * batch)
        if self.device == "cuda":
            here = here.pin_memory()
        send = lambda: here.to(self.device, non_blocking=True)
        cut = lambda: self.ids([LONG_TEXT] * batch).to(self.device, non_blocking=True)
        sent = (lambda: send().to(self.format)) if tower == "image" else cut
        there = sent()
        with self.torch.inference_mode():
            return self.seconds(lambda: self.unit(encode(sent()))), self.seconds(lambda: encode(there))


def ours(arguments, *command, kernels=None):
    """Runs the program; its lines of JSON."""
    environment = os.environ | {"CLIP_AWARE_OFFLINE": "true"}
    if kernels:
        environment["CLIP_AWARE_GPU_KERNELS"] = kernels
    # CUDA's libraries, where PyTorch has them as wheels.
    found = [str(path) for root in sys.path for path in pathlib.Path(root or ".").glob("nvidia/*/lib") if path.is_dir()]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*found, environment.get("LD_LIBRARY_PATH", "")]).strip(os.pathsep)
    line = [str(arguments.binary.resolve()), *map(str, command), "--device", arguments.device, "--json"]
    run = subprocess.run(line, capture_output=True, text=True, env=environment)
    if run.returncode:
        sys.exit(f"{' '.join(line)}\n{run.stderr[-3000:]}")
    return [json.loads(row) for row in run.stdout.splitlines()]


def rendered(folder, side):
    """Pictures of the model's own size, so that resizing has no part in the comparison."""
    import numpy as np
    from PIL import Image

    random, paths = np.random.default_rng(0), []
    for number in range(6):
        y, x = np.mgrid[0:side, 0:side]
        picture = np.stack([(x * (number + 2)) % 256, (y * 3 + number * 40) % 256, ((x + y) * 2) % 256], axis=-1)
        inside = (x - side / 2) ** 2 + (y - side / 3) ** 2 < (side / (number + 3)) ** 2
        picture[inside] = random.integers(0, 256, 3)
        paths.append(folder / f"picture-{number}.png")
        Image.fromarray(picture.astype(np.uint8)).save(paths[-1])
    return paths


def cosines(arguments, folder, precision, torch):
    """Lowest cosine between both sides' vectors, for pictures and texts; PyTorch computes in f32."""
    from PIL import Image

    reference = Reference(folder, arguments.device, "f32", torch)
    with tempfile.TemporaryDirectory() as place:
        paths = rendered(pathlib.Path(place), reference.side)
        command = ["embed", "--model", folder, "--precision", precision, "--root", place, "--data-dir", place + "/data"]
        command += [part for path in paths for part in ("--image", path)]
        command += [part for text in TEXTS for part in ("--text", text)]
        rows = ours(arguments, *command)
        pixels = reference.pixels([Image.open(path).convert("RGB") for path in paths]).to(arguments.device)
    with torch.inference_mode():
        expected = {
            "image": reference.unit(reference.image(pixels)),
            "text": reference.unit(reference.text(reference.ids(TEXTS).to(arguments.device))),
        }
    lowest = {}
    for kind, vectors in expected.items():
        found = torch.tensor([row["vector"] for row in rows if row["kind"] == kind])
        lowest[kind] = (found * vectors).sum(-1).min().item()
    # Vectors that are all alike would agree whatever was computed.
    spread = (expected["image"] @ expected["image"].T).min().item()
    return lowest, spread


def measure(arguments, name, folder, torch):
    """One row for each tower, batch and way of computing."""
    rows = []
    lowest, spread = {}, None
    ways = [(arguments.precision, None)]
    if arguments.kernels:
        ways += [(arguments.precision, "candle"), ("f16", None)]
    for precision in dict.fromkeys(precision for precision, _ in ways):
        lowest[precision], spread = cosines(arguments, folder, precision, torch)
    for precision, kernels in ways:
        reference = Reference(folder, arguments.device, precision, torch)
        for tower in ("image", "text"):
            for batch in arguments.batches:
                command = ["bench", "encode", "--model", folder, "--tower", tower, "--batch", batch, "--precision", precision]
                answer = ours(arguments, *command, kernels=kernels)[0]
                if answer["precision"] != precision or answer["device"] != arguments.device:
                    sys.exit(f"asked for {precision} on {arguments.device}, measured {answer}")
                whole, resident = reference.times(tower, batch, False)
                row = {
                    "model": name, "tower": tower, "batch": batch, "precision": precision, "kernels": kernels or "own",
                    "ms_per_item": answer["ms_per_item"], "pytorch_ms": whole * 1e3 / batch,
                    "pytorch_resident_ms": resident * 1e3 / batch, "cosine": lowest[precision][tower], "spread": spread,
                }
                if arguments.compile and not kernels and precision == arguments.precision:
                    row["compiled_resident_ms"] = reference.times(tower, batch, True)[1] * 1e3 / batch
                rows.append(row)
                print(json.dumps(row), flush=True)
        del reference
    return rows


def table(rows, head):
    """The rows as Markdown."""
    lines = [head, "", "| model, tower | batch | precision, kernels | clip-aware | PyTorch, whole | ratio | PyTorch, no transfers "
             "| ratio | compiled | cosine |", "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        own, compiled = row["ms_per_item"], row.get("compiled_resident_ms")
        lines.append(
            f"| {row['model']}, {row['tower']} | {row['batch']} | {row['precision']}, {row['kernels']} | {own:.4f} "
            f"| {row['pytorch_ms']:.4f} | {row['pytorch_ms'] / own:.2f} | {row['pytorch_resident_ms']:.4f} "
            f"| {row['pytorch_resident_ms'] / own:.2f} | {f'{compiled / own:.2f}' if compiled else '-'} | {row['cosine']:.5f} |"
        )
    return "\n".join(lines)


def failures(rows, least):
    """What is not as it should be. Ratios count for large batches and own kernels."""
    for row in rows:
        what = f"{row['model']}, {row['tower']}, batch {row['batch']}, {row['precision']}, {row['kernels']}"
        ratio = row["pytorch_resident_ms"] / row["ms_per_item"]
        if not row["cosine"] >= COSINE:
            yield f"{what}: cosine {row['cosine']:.5f}"
        if row["kernels"] == "own" and row["batch"] >= 64 and ratio < least:
            yield f"{what}: {ratio:.2f} x PyTorch without transfers"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["bf16", "f16", "f32"], help="default: bf16 on cuda, f32 on cpu")
    parser.add_argument("--sizes", default="b32,l14", help="of b32, l14, tiny")
    parser.add_argument("--batches", default="1,16,64,256")
    parser.add_argument("--kernels", action="store_true", help="also candle's operations, and f16")
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--least", type=float, default=0.9)
    parser.add_argument("--out", type=pathlib.Path, help="a folder for gpu.md and gpu.json")
    arguments = parser.parse_args()
    arguments.batches = [int(batch) for batch in arguments.batches.split(",")]
    arguments.precision = arguments.precision or ("bf16" if arguments.device == "cuda" else "f32")
    # Texts are cut into tokens on all threads, as ours are.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    head = f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}; ms per item, medians"
    rows = []
    for size in arguments.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder) / "model"
            make_checkpoint(NAMES[size], folder, torch)
            rows += measure(arguments, NAMES[size], folder, torch)
    text = table(rows, head)
    wrong = list(failures(rows, arguments.least))
    print("\n" + text + "".join(f"\nFAIL {failure}" for failure in wrong))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "gpu.md").write_text(text + "\n")
        (arguments.out / "gpu.json").write_text(json.dumps(rows, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
