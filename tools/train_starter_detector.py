"""Trains, calibrates, measures and writes the starter detector in assets/starter/detector.

    python tools/train_starter_detector.py train      # renders the training scenes, trains, writes the folder
    python tools/train_starter_detector.py calibrate  # chooses the score threshold on validation scenes
    python tools/train_starter_detector.py measure    # measures on unseen scenes and rewrites the tables of its README

A tiny YOLOX from scratch: its labels are the shapes. Scenes come from the program's own renderer (`clip-aware scenes
--kind objects`, see --program), boxes from the outlines that it draws. `calibrate` and `measure` run the program itself
on the written folder, so that what is chosen and measured is what ships. Kinds of seeds never meet: training uses 2000
and up, validation 200 to 209, the figures 0 to 9. Everything is seeded; on one thread of one machine a run repeats.
Development only.
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
from PIL import Image
from safetensors.torch import save_file

import starter_yolox as yolox

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "assets" / "starter" / "detector"
LABELS = ["circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond"]

SIDE = 192
BASE, DEPTH = 8, 1
# Sides at which training scenes are rendered before they are scaled to the model's, and how many of each.
RENDERED = {64: 2_000, 96: 3_000, 128: 4_000, 192: 5_000, 256: 7_000, 384: 3_000}
MOST_OBJECTS = 9
TRAINING_SEED = 2000
VALIDATION_SEEDS = range(200, 210)
REPORT_SEEDS = range(10)
SCENES = 200
MEASURED_SIDE = 256

BATCH = 16
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 5e-3
WARM_UP = 100
# The shipped weights are a running mean over about the last 1 / (1 - this) steps.
MEAN_DECAY = 0.998
# Share of the pictures that are four scenes in one, and of those that are shrunk into a part of the canvas.
MOSAICS, SHRUNK = 0.12, 0.3
PADDING = 114
OVERLAP = 0.65


# ---- scenes ----------------------------------------------------------------------------------------------------------


def render(arguments, kind, seed, count, side, out, raw):
    """Renders scenes with the program; returns their truth."""
    subprocess.run(
        [*shlex.split(arguments.program), "scenes", "--kind", kind, "--seed", str(seed), "--count", str(count)]
        + ["--side", str(side), "--out", str(out)] + (["--raw"] if raw else []),
        check=True,
    )
    return [json.loads(line) for line in (out / "scenes.jsonl").read_text().splitlines()]


def things(line, side):
    """[MOST_OBJECTS, 5]: class (-1 where there is none) and box, scaled to a picture of this side."""
    rows = np.full((MOST_OBJECTS, 5), -1, np.float32)
    for row, item in zip(rows, line["objects"]):
        row[0] = LABELS.index(item["shape"])
        row[1:] = np.array(item["box"]) * side / line["side"]
    return rows


def scaled(picture, side):
    """As the program's letterbox does with a square picture: Pillow's bilinear, averaged where it shrinks; BGR."""
    image = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
    return image[..., ::-1].transpose(2, 0, 1)


def prepare(arguments):
    """Renders and scales the training scenes, once: pixels uint8 [n, 3, SIDE, SIDE], things [n, MOST_OBJECTS, 5]."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    total = sum(RENDERED.values())
    store, truth_store = arguments.work / "training.u8", arguments.work / "training.npy"
    if not truth_store.exists():
        pixels = np.memmap(store, dtype=np.uint8, mode="w+", shape=(total, 3, SIDE, SIDE))
        truth, at = [], 0
        for offset, (side, count) in enumerate(RENDERED.items()):
            out = arguments.work / f"training-{side}"
            truth += render(arguments, "objects", TRAINING_SEED + offset, count, side, out, True)
            shape = (count, side, side, 3)
            for picture in np.memmap(out / "scenes.rgb", dtype=np.uint8, mode="r", shape=shape):
                pixels[at] = scaled(picture, SIDE)
                at += 1
            (out / "scenes.rgb").unlink()
        pixels.flush()
        np.save(truth_store, np.stack([things(line, SIDE) for line in truth]))
    pixels = np.memmap(store, dtype=np.uint8, mode="r", shape=(total, 3, SIDE, SIDE))
    return pixels, np.load(truth_store)


# ---- variation -------------------------------------------------------------------------------------------------------


def shrunk(picture, boxes, random):
    """The scene in a part of the canvas, as pictures that are not square are seen, and smaller than a scene has it."""
    side = int(SIDE * random.uniform(0.45, 0.95))
    image = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    image = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    canvas = np.full_like(picture, PADDING)
    # Half of them in the corner, where the letterbox puts them, along an edge.
    left, top = (0, 0) if random.random() < 0.5 else random.integers(0, SIDE - side + 1, 2)
    canvas[:, top : top + side, left : left + side] = image
    return canvas, boxes * side / SIDE + np.array([left, top, left, top])


def mosaic(pictures, boxes):
    """Four scenes of half the side in one picture."""
    canvas, moved, half = np.empty_like(pictures[0]), [], SIDE // 2
    for quarter, (picture, own) in enumerate(zip(pictures, boxes)):
        top, left = half * (quarter // 2), half * (quarter % 2)
        small = picture.reshape(3, half, 2, half, 2).mean((2, 4))
        canvas[:, top : top + half, left : left + half] = small
        moved.append(own / 2 + np.array([left, top, left, top]))
    return canvas, np.concatenate(moved)


def sample(pixels, truth, index, random):
    """One varied picture, float [3, SIDE, SIDE], with its classes and boxes."""
    if random.random() < MOSAICS:
        chosen = [index, *random.integers(0, len(pixels), 3)]
        rows = [truth[i][truth[i][:, 0] >= 0] for i in chosen]
        picture, boxes = mosaic([pixels[i] for i in chosen], [own[:, 1:] for own in rows])
        rows = np.concatenate(rows)
    else:
        rows = truth[index][truth[index][:, 0] >= 0]
        picture, boxes = pixels[index], rows[:, 1:]
        if random.random() < SHRUNK:
            picture, boxes = shrunk(picture, boxes, random)
    picture = picture.astype(np.float32)
    # Brightness, contrast and tint a little aside, and some grain.
    gain = random.uniform(0.9, 1.1) * random.uniform(0.97, 1.03, (3, 1, 1))
    picture = (picture - 128) * gain + 128 + random.uniform(-12, 12)
    if random.random() < 0.3:
        picture = picture + random.normal(0, random.uniform(1, 5), picture.shape)
    if random.random() < 0.5:
        # Every shape is its own mirror image.
        picture, boxes = picture[..., ::-1], np.stack([SIDE - boxes[:, 2], boxes[:, 1], SIDE - boxes[:, 0], boxes[:, 3]], 1)
    return np.clip(picture, 0, 255).astype(np.float32), np.concatenate([rows[:, :1], boxes], 1)


def batches(pixels, truth):
    """Endless batches: pictures [BATCH, 3, SIDE, SIDE], things [m, 6] with the picture's number first."""
    random = np.random.default_rng(TRAINING_SEED)
    while True:
        order = random.permutation(len(pixels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            pictures, rows = [], []
            for number, index in enumerate(order[start : start + BATCH]):
                picture, own = sample(pixels, truth, index, random)
                pictures.append(np.ascontiguousarray(picture))
                rows.append(np.concatenate([np.full((len(own), 1), number), own], 1))
            yield torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.concatenate(rows)).float()


# ---- training --------------------------------------------------------------------------------------------------------


def schedule(step, steps):
    """Factor of the learning rate: warm-up along a line, then half a cosine down to zero."""
    if step <= WARM_UP:
        return step / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def follow(mean, model, step):
    """Moves the running mean of weights and statistics towards the model's."""
    decay = min(MEAN_DECAY, (1 + step) / (10 + step))
    with torch.no_grad():
        for own, other in zip(mean.state_dict().values(), model.state_dict().values()):
            if own.is_floating_point():
                own.lerp_(other, 1 - decay)
            else:
                own.copy_(other)


def train(arguments):
    torch.manual_seed(TRAINING_SEED)
    started = time.time()
    pixels, truth = prepare(arguments)
    model = yolox.Yolox(BASE, DEPTH, len(LABELS), SIDE).to(memory_format=torch.channels_last)
    mean = yolox.Yolox(BASE, DEPTH, len(LABELS), SIDE)
    mean.load_state_dict(model.state_dict())
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(pixels)} scenes in {time.time() - started:.0f} s, {count} parameters", flush=True)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    started, recent = time.time(), []
    for step, (pictures, things_of) in zip(range(1, arguments.steps + 1), batches(pixels, truth)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * schedule(step, arguments.steps)
        rows = model(pictures.to(memory_format=torch.channels_last))
        loss, parts = yolox.loss(model, rows, things_of)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        follow(mean, model, step)
        recent.append((loss.item(), *parts))
        if step % 50 == 0:
            figures = " ".join(f"{value:.3f}" for value in np.mean(recent, 0))
            cpu = time.process_time() / step
            print(f"step {step}: loss, box, obj, cls, cells a thing: {figures}; {cpu:.2f} s CPU a step", flush=True)
            recent = []
        if step % arguments.check == 0 or step == arguments.steps:
            print(f"step {step}: {validate(mean, arguments)}", flush=True)
            save(mean, arguments.model)
    print(f"trained in {time.time() - started:.0f} s, {time.process_time():.0f} s of CPU")


def save(model, folder):
    """Writes the folder: batch norms folded in, weights as f16."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    config = {
        "model_type": "yolox",
        "image_size": SIDE,
        "score_threshold": known.get("score_threshold", 0.5),
        "id2label": {str(number): label for number, label in enumerate(LABELS)},
    }
    path.write_text(json.dumps(config, indent=2) + "\n")
    tensors = {name: value.half().contiguous() for name, value in yolox.folded(model).items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


@torch.no_grad()
def validate(model, arguments):
    """Share of scenes of one validation seed with every class counted right, at a few thresholds."""
    out = arguments.work / "validation"
    truth = render(arguments, "objects", VALIDATION_SEEDS[0], SCENES, MEASURED_SIDE, out, True)
    shape = (SCENES, MEASURED_SIDE, MEASURED_SIDE, 3)
    pictures = np.memmap(out / "scenes.rgb", dtype=np.uint8, mode="r", shape=shape)
    pixels = torch.from_numpy(np.stack([scaled(picture, SIDE) for picture in pictures])).float()
    model.eval()
    rows = torch.cat([model(part) for part in pixels.split(50)])
    found = [best_boxes(*pair) for pair in zip(model.boxes(rows), rows)]
    model.train()
    levels = (0.2, 0.3, 0.4, 0.5, 0.6)
    exact = {level: np.mean([exactly(line, one, level) for line, one in zip(truth, found)]) for level in levels}
    return "exact " + ", ".join(f"{value:.3f} at {level}" for level, value in exact.items())


def best_boxes(boxes, rows):
    """Label and score of each box that is left after suppression within its class."""
    score, label = (rows[:, 4:5].sigmoid() * rows[:, 5:].sigmoid()).max(1)
    kept = []
    for index in score.argsort(descending=True)[:300].tolist():
        same = [other for other in kept if label[other] == label[index]]
        if score[index] > 0.05 and all(yolox.overlap(boxes[index], boxes[other]) <= OVERLAP for other in same):
            kept.append(index)
    return [(LABELS[label[index]], score[index].item()) for index in kept]


def exactly(line, found, threshold):
    """Whether every class has as many boxes of at least this score as the scene has objects."""
    listed = sorted(label for label, score in found if score >= threshold)
    return listed == sorted(item["shape"] for item in line["objects"])


# ---- with the program ------------------------------------------------------------------------------------------------


def detected(arguments, seed, side, extra):
    """Truth and what the program finds with the written folder, a line of JSON for each scene."""
    out = arguments.work / "scenes"
    for old in out.glob("*.png"):
        old.unlink()
    truth = render(arguments, "objects", seed, SCENES, side, out, False)
    command = [*shlex.split(arguments.program), "--json", "--data-dir", str(out / "data"), "--root", str(out)]
    command += ["--detector", str(arguments.model), "detect", *extra]
    answered = subprocess.run([*command, *(str(out / line["image"]) for line in truth)], capture_output=True, text=True)
    if answered.returncode not in (0, 1):
        raise SystemExit(answered.stderr)
    found = [json.loads(line) for line in answered.stdout.splitlines()]
    assert [Path(one["path"]).name for one in found] == [line["image"] for line in truth]
    return truth, found


def calibrate(arguments):
    """Writes the threshold with the most scenes counted exactly: the middle of those that are as good."""
    levels = np.arange(0.05, 0.96, 0.01)
    exact = np.zeros((len(VALIDATION_SEEDS), len(levels)))
    for row, seed in enumerate(VALIDATION_SEEDS):
        truth, found = detected(arguments, seed, MEASURED_SIDE, ["--threshold", "0.02"])
        pairs = [[(one["label"], one["score"]) for one in answer["detections"]] for answer in found]
        for column, level in enumerate(levels):
            exact[row, column] = np.mean([exactly(line, one, level) for line, one in zip(truth, pairs)])
    mean = exact.mean(0)
    good = levels[mean >= mean.max() - 0.0005]
    threshold = round(float(np.median(good)), 2)
    for level, value, worst in list(zip(levels, mean, exact.min(0)))[::5]:
        print(f"{level:.2f}: {value:.4f}, worst seed {worst:.3f}")
    print(f"best {mean.max():.4f} from {good.min():.2f} to {good.max():.2f}; chosen {threshold}")
    path = arguments.model / "config.json"
    config = {**json.loads(path.read_text()), "score_threshold": threshold}
    path.write_text(json.dumps(config, indent=2) + "\n")


# As in src/pixels/scene: a relation holds when centres are this far apart along its axis and little aside.
RELATION_MARGIN, RELATION_SLOPE = 0.25, 0.6


def relation(subject, other, side):
    """How one box stands to another, where it is clear; None otherwise."""
    across, down = (((b[i] + b[i + 2]) - (a[i] + a[i + 2])) / 2 / side for i in (0, 1) for a, b in [(subject, other)])
    if abs(across) >= RELATION_MARGIN and abs(down) <= RELATION_SLOPE * abs(across):
        return "left of" if across > 0 else "right of"
    if abs(down) >= RELATION_MARGIN and abs(across) <= RELATION_SLOPE * abs(down):
        return "above" if down > 0 else "below"
    return None


def sides(subject, other):
    """The axis along which two found boxes are farther apart decides."""
    across, down = (((other[i] + other[i + 2]) - (subject[i] + subject[i + 2])) / 2 for i in (0, 1))
    if abs(across) >= abs(down):
        return "left of" if across > 0 else "right of"
    return "above" if down > 0 else "below"


def relations(line, answer):
    """Right and all: pairs of shapes that the scene has once each and of which one clearly stands beside the other."""
    alone = lambda items, name: {x[name]: x["box"] for x in items if sum(y[name] == x[name] for y in items) == 1}
    true, found = alone(line["objects"], "shape"), alone(answer["detections"], "label")
    pairs = [(a, b, relation(true[a], true[b], line["side"])) for a in true for b in true if a != b]
    pairs = [(a, b, expected) for a, b, expected in pairs if expected]
    return sum(a in found and b in found and sides(found[a], found[b]) == c for a, b, c in pairs), len(pairs)


def tightness(line, answer):
    """Overlap of each true box with the best found box of its shape."""
    boxes = lambda items, name, label: torch.tensor([x["box"] for x in items if x[name] == label])
    best = []
    for item in line["objects"]:
        found = boxes(answer["detections"], "label", item["shape"])
        best.append(yolox.overlap(torch.tensor(item["box"]), found).max().item() if len(found) else 0.0)
    return best


def figures(arguments, seeds, side):
    """Over the seeds: exact per seed and per number of objects, relations, overlaps."""
    exact, by_number, right, asked, overlaps = [], {}, 0, 0, []
    for seed in seeds:
        truth, found = detected(arguments, seed, side, [])
        hits = []
        for line, answer in zip(truth, found):
            hits.append(exactly(line, [(one["label"], 1.0) for one in answer["detections"]], 0.0))
            by_number.setdefault(len(line["objects"]), []).append(hits[-1])
            one, all_of = relations(line, answer)
            right, asked = right + one, asked + all_of
            overlaps += tightness(line, answer)
        exact.append(np.mean(hits))
    return exact, {n: np.mean(by_number[n]) for n in sorted(by_number)}, right / asked, np.mean(overlaps)


def measure(arguments):
    """Measures the folder with the program and rewrites the tables between the markers of its README."""
    exact, by_number, related, tight = figures(arguments, REPORT_SEEDS, MEASURED_SIDE)
    lines = ["| measure | mean | worst seed |", "|---|---|---|"]
    lines.append(f"| every class counted right, 1 to 9 objects | {np.mean(exact):.3f} | {min(exact):.3f} |")
    for side in (64, 128, 512):
        others = figures(arguments, list(REPORT_SEEDS)[:2], side)[0]
        lines.append(f"| the same, drawn at {side} pixels (two seeds) | {np.mean(others):.3f} | {min(others):.3f} |")
    lines.append(f"| left of, right of, above, below: pairs of shapes that occur once | {related:.3f} | |")
    lines.append(f"| overlap (IoU) of the boxes with the true ones | {tight:.3f} | |")
    lines += ["", "| objects | " + " | ".join(str(n) for n in by_number) + " |", "|---" * (1 + len(by_number)) + "|"]
    lines.append("| counted right | " + " | ".join(f"{value:.3f}" for value in by_number.values()) + " |")
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
    parser.add_argument("task", choices=["train", "calibrate", "measure"])
    parser.add_argument("--program", default="cargo run --quiet --", help="clip-aware, which renders and detects")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder to write or measure")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "starter-detector", help="folder for rendered scenes")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--check", type=int, default=500, help="validate and save every N steps")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    {"train": train, "calibrate": calibrate, "measure": measure}[arguments.task](arguments)


if __name__ == "__main__":
    main()
