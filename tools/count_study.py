"""How well objects are counted: the constants of src/engine/counting.rs, chosen and checked.

    python tools/count_study.py fit --weights DIR --images DIR --instances FILE     choose the constants, ten-fold check
    python tools/count_study.py measure --program PATH --weights DIR --images DIR --instances FILE

`fit` runs the detector in torch (tools/yolox_torch.py), looks at each photo as src/engine/looks.rs does, and searches the
constants on a grid: least error over pairs (photo, class that is there), with no more invented classes, and no more
objects counted in them, than the best single threshold. Ten-fold: the search sees nine tenths of the photos and is judged
on the rest. `measure` judges the built program, per class and overall. Needs tools/requirements-detect.txt.
"""

import argparse
import json
import os
import pickle
import subprocess

import numpy as np

SIDE, SECOND, SHARE, CUT = 416, 640, 0.6, 3
SAME_IOU, SAME_INSIDE, LEAST, MOST = 0.5, 0.8, 0.01, 0.97
FOLDS = 10


def logit(score):
    score = np.clip(score, LEAST, MOST)
    return np.log(score / (1 - score))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def groups(boxes):
    """Rows x0, y0, x1, y1, score, class, view -> (leader, members with IoU over SAME_IOU), best first."""
    rest = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    out = []
    while len(rest):
        a = rest[0]
        lo, hi = np.maximum(a[:2], rest[:, :2]), np.minimum(a[2:4], rest[:, 2:4])
        both = np.prod(np.clip(hi - lo, 0, None), 1)
        area = np.prod(rest[:, 2:4] - rest[:, :2], 1)
        iou, inside = both / (area[0] + area - both), both / np.minimum(area[0], area)
        same = (rest[:, 5] == a[5]) & ((iou > SAME_IOU) | (inside > SAME_INSIDE))
        same[0] = True
        out.append((a, rest[same & (iou > SAME_IOU)]))
        rest = rest[~same]
    return out


def candidates(views, tiles, discount):
    """One list of log-odds per class, as `looks::look`."""
    boxes = np.concatenate([np.column_stack([v, np.full(len(v), k)]) for k, v in enumerate(views)])
    whole = []
    for leader, members in groups(boxes):
        z = np.mean([logit(max(members[members[:, 6] == k, 4], default=0.0)) for k in range(len(views))])
        whole.append([*leader[:4], sigmoid(z), leader[5], 0])
    pieces = np.column_stack([tiles, np.ones(len(tiles))]) if len(tiles) else np.zeros((0, 7))
    pieces[:, 4] = sigmoid(logit(pieces[:, 4]) - discount)
    merged = groups(np.concatenate([np.array(whole).reshape(-1, 7), pieces]))
    by_class = {}
    for leader, _ in merged:
        by_class.setdefault(int(leader[5]), []).append(logit(leader[4]))
    return by_class


def look(net, image):
    h, w = image.shape[:2]
    clip = lambda d, w, h: np.column_stack([d[:, :4].clip(0, [w, h, w, h]), d[:, 4:]])
    views = [clip(net.detect(image, side, LEAST, 0.65), w, h) for side in (SIDE, SECOND)]
    tw, th, tiles = int(np.ceil(w * SHARE)), int(np.ceil(h * SHARE)), []
    for y in (0, h - th):
        for x in (0, w - tw):
            d = clip(net.detect(np.ascontiguousarray(image[y : y + th, x : x + tw]), SIDE, LEAST, 0.65), tw, th)
            cut = ((d[:, 0] < CUT) & (x > 0)) | ((d[:, 1] < CUT) & (y > 0))
            cut |= ((d[:, 2] > tw - CUT) & (x + tw < w)) | ((d[:, 3] > th - CUT) & (y + th < h))
            d = d[~cut]
            d[:, [0, 2]] += x
            d[:, [1, 3]] += y
            tiles.append(d)
    return views, np.concatenate(tiles)


class Truth:
    def __init__(self, path):
        data = json.load(open(path))
        self.categories = sorted(data["categories"], key=lambda c: c["id"])
        self.names = [c["name"] for c in self.categories]
        place = {c["id"]: n for n, c in enumerate(self.categories)}
        self.photos = sorted(data["images"], key=lambda photo: photo["id"])
        row = {photo["id"]: n for n, photo in enumerate(self.photos)}
        self.counts = np.zeros((len(self.photos), len(self.names)), int)
        for a in data["annotations"]:
            self.counts[row[a["image_id"]], place[a["category_id"]]] += not a.get("iscrowd", 0)


def figures(found, truth):
    """Summed error and exact counts over present pairs, invented pairs, objects counted in them."""
    there = truth > 0
    return np.array([np.abs(found - truth)[there].sum(), (found == truth)[there].sum(), ((found > 0) & ~there).sum(),
                     found[~there].sum()])


def told(name, f, pairs, photos):
    print(f"{name:34s} MAE {f[0] / pairs:.3f}  exact {f[1] / pairs:.3f}  invented classes a photo {f[2] / photos:.3f}  "
          f"objects in them a photo {f[3] / photos:.3f}")


def fit(arguments):
    import cv2
    import torch

    import yolox_torch

    torch.set_grad_enabled(False)
    truth = Truth(arguments.instances)
    net = yolox_torch.Yolox(os.path.join(arguments.weights, "model.safetensors"))
    cache = arguments.cache
    if cache and os.path.exists(cache):
        seen = pickle.load(open(cache, "rb"))
    else:
        seen = [look(net, cv2.imread(os.path.join(arguments.images, p["file_name"]))) for p in truth.photos]
        if cache:
            pickle.dump(seen, open(cache, "wb"))
    photos, pairs = len(truth.photos), (truth.counts > 0).sum()
    fold = np.arange(photos) % FOLDS
    best = None
    for threshold in np.arange(0.2, 0.61, 0.05):
        found = np.zeros_like(truth.counts)
        for n, (views, _) in enumerate(seen):
            for c in views[0][views[0][:, 4] >= threshold][:, 5].astype(int):
                found[n, c] += 1
        f = figures(found, truth.counts)
        if best is None or f[0] < best[1][0]:
            best = (threshold, f)
    told(f"one threshold, {best[0]:.2f}", best[1], pairs, photos)
    limits = best[1][2:]
    trials, scores = [], []
    for discount in (0.75, 1.0, 1.25):
        rows = [(n, c, z) for n, s in enumerate(seen) for c, z in candidates(*s, discount).items()]
        image, cls = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
        most = max(len(r[2]) for r in rows)
        z = np.array([np.pad(np.array(r[2], float), (0, most - len(r[2])), constant_values=-40) for r in rows])
        size = np.array([len(r[2]) for r in rows])
        t = truth.counts[image, cls]
        unseen = truth.counts.copy()
        unseen[image, cls] = 0
        lost = np.array([unseen[fold == k].sum() for k in range(FOLDS)])
        for shift in (0.25, 0.5, 0.75, 1.0):
            present = 1 - np.prod(1 - sigmoid(z + shift), 1)
            for number in (1.0, 1.1, 1.25, 1.4):
                for power in (0.85, 0.9, 0.95, 1.0):
                    expected = sigmoid(z + number).sum(1) ** power
                    for rounding in (0.3, 0.4, 0.5):
                        several_n = np.minimum(np.maximum(1, np.floor(expected + rounding)), size)
                        for bar in np.arange(0.54, 0.82, 0.02):
                            for several in (0.95, 0.96, 0.97, 0.98, 0.985, 0.99):
                                n = np.where(present < bar, 0, np.where(present < several, 1, several_n))
                                there = t > 0
                                of = lambda values: np.bincount(fold[image], values, FOLDS)
                                scores.append(np.stack([of(np.abs(n - t) * there) + lost, of((n == t) & there),
                                                        of((n > 0) & ~there), of(n * ~there)], 1))
                                trials.append((discount, shift, number, power, rounding, round(bar, 2), round(several, 4)))
    scores = np.array(scores)
    total = scores.sum(1)

    def choose(f, share):
        fits = (f[:, 2] <= limits[0] * share) & (f[:, 3] <= limits[1] * share * arguments.slack)
        goal = np.where(fits, f[:, 0] - arguments.exact * f[:, 1], np.inf)
        return int(goal.argmin())

    chosen = choose(total, 1.0)
    print("discount, presence shift, number shift, power, rounding, present, several:", *trials[chosen])
    told("all photos", total[chosen], pairs, photos)
    held_out = sum(scores[choose(total - scores[:, k], 1 - (fold == k).mean()), k] for k in range(FOLDS))
    told("ten-fold, held out", held_out, pairs, photos)


def measure(arguments):
    truth = Truth(arguments.instances)
    command = [arguments.program, "--root", arguments.images, "--detector", arguments.weights, "--json", "detect",
               arguments.images]
    if arguments.threshold is not None:
        command += ["--threshold", str(arguments.threshold)]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    if output.returncode == 2:
        raise SystemExit(output.stderr)
    answers = {os.path.basename(a["path"]): a for a in map(json.loads, output.stdout.splitlines())}
    found = np.zeros_like(truth.counts)
    for n, photo in enumerate(truth.photos):
        for label, count in answers[photo["file_name"]]["counts"].items():
            found[n, truth.names.index(label)] = count
    told("program", figures(found, truth.counts), (truth.counts > 0).sum(), len(truth.photos))
    print(f"{'class':16s} {'photos':>6s} {'objects':>7s} {'counted':>7s} {'MAE':>6s} {'exact':>6s} {'invented':>8s}")
    for c in np.argsort(-truth.counts.sum(0), kind="stable"):
        t, f = truth.counts[:, c], found[:, c]
        there = t > 0
        if there.any() or (f > 0).any():
            mae, exact = (np.abs(f - t)[there].mean(), (f == t)[there].mean()) if there.any() else (np.nan, np.nan)
            print(f"{truth.names[c]:16s} {there.sum():6d} {t.sum():7d} {f[there].sum():7d} {mae:6.2f} {exact:6.2f} "
                  f"{((f > 0) & ~there).sum():8d}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "measure"))
    for name in ("--weights", "--images", "--instances"):
        parser.add_argument(name, required=True)
    parser.add_argument("--program")
    parser.add_argument("--threshold", type=float, help="measure: a single threshold instead")
    parser.add_argument("--cache", help="fit: keep the detector's boxes here")
    parser.add_argument("--exact", type=float, default=2.0, help="fit: what an exact count is worth in units of error")
    parser.add_argument("--slack", type=float, default=1.0, help="fit: objects allowed in invented classes, times the limit")
    arguments = parser.parse_args()
    (fit if arguments.what == "fit" else measure)(arguments)


if __name__ == "__main__":
    main()
