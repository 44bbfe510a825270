#!/usr/bin/env python3
"""How well relations from detected boxes agree with relations from annotated ones, and how far the boxes are off.

    python tools/relate_study.py agree --program PATH --weights DIR --photos DIR [--answers FILE]
    python tools/relate_study.py noise --program PATH --weights DIR --photos DIR [--answers FILE]
    python tools/relate_study.py depth --photos DIR

`--photos` holds images/ and instances.json (COCO's layout). For each photo and each two classes that are annotated in it
the program is asked (`relate --json`); each box of an answer is matched with the annotated box of its class that overlaps
it most, from an IoU of 0.3 on. `agree`: does what is said to hold also hold between the annotated boxes? Per relation, and
by confidence. The definitions are written here a second time, so that a slip in either shows. `noise` fits the constants of
src/geometry/jitter.rs. `depth` asks how often ground contact and size agree on which of two annotated things is nearer. `--answers` keeps the program's answers, `--data` what it saw. Needs numpy and scipy.
"""

import argparse
import collections
import itertools
import json
import os
import pathlib
import re
import subprocess
import tempfile

import numpy as np

SAME = 0.3
SIDE = 416
STATURE = pathlib.Path(__file__).parent.parent / "src/knowledge/stature.rs"
ROW = re.compile(r'row\("([^"]+)", (None|Some\(\(([\d.]+), ([\d.]+)\)\)), (\w+), (\w+), (\w+)\)')


# ---- the definitions, once more ------------------------------------------------------------------------------------


def kinds():
    rows = ROW.findall(STATURE.read_text())
    assert len(rows) == 80
    return {name: (ground == "GROUND", holds == "HOLDS", carries) for name, _, _, _, ground, holds, carries in rows}


def common(a0, a1, b0, b1):
    return max(0.0, min(a1, b1) - max(a0, b0))


def apart(a0, a1, b0, b1):
    return max(0.0, max(a0, b0) - min(a1, b1))


def truth(s, o, s_kind, o_kind, diagonal):
    """The relations that hold between two exact boxes."""
    (sx0, sy0, sx1, sy1), (ox0, oy0, ox1, oy1) = s, o
    sw, sh, ow, oh = sx1 - sx0, sy1 - sy0, ox1 - ox0, oy1 - oy0
    s_area, o_area = sw * sh, ow * oh
    x_common, y_common = common(sx0, sx1, ox0, ox1), common(sy0, sy1, oy0, oy1)
    x_gap, y_gap = apart(sx0, sx1, ox0, ox1), apart(sy0, sy1, oy0, oy1)
    dx, dy = (ox0 + ox1 - sx0 - sx1) / 2, (oy0 + oy1 - sy0 - sy1) / 2
    out = set()
    cone = np.tan(np.radians(67.5))
    if x_common < min(sw, ow) / 2 and y_gap <= cone * abs(dx) and dx:
        out.add("left of" if dx > 0 else "right of")
    if y_common < min(sh, oh) / 2 and x_gap <= cone * abs(dy) and dy:
        out.add("above" if dy > 0 else "below")
    both = x_common * y_common
    if both >= 0.1 * min(s_area, o_area):
        out.add("overlapping")
    if x_common < min(sw, ow) / 2 and y_common >= min(sh, oh) / 2 and x_gap <= min(s_area, o_area) ** 0.5:
        out.add("next to")
    gap = float(np.hypot(x_gap, y_gap))
    if gap >= 3 * max(s_area, o_area) ** 0.5 and gap >= diagonal / 4:
        out.add("far from")
    if s_area >= 1.2 * o_area:
        out.add("larger")
    if o_area >= 1.2 * s_area:
        out.add("smaller")
    for word, a, b, a_kind, b_kind in (("inside", s, o, s_kind, o_kind), ("contains", o, s, o_kind, s_kind)):
        area, other = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
        if b_kind[1] and area < other and both >= 0.8 * area and a[3] <= b[3]:
            out.add(word)
    for word, a, b, a_kind, b_kind in (("on", s, o, s_kind, o_kind), ("supports", o, s, o_kind, s_kind)):
        slack, high = 0.05 * (a[3] - a[1]), b[3] - b[1]
        level = b[1] - slack <= a[3] <= b[1] + 0.75 * high + slack
        level &= x_common >= min(sw, ow) / 2
        higher = a[1] + a[3] < b[1] + b[3]
        small = (a[2] - a[0]) * (a[3] - a[1]) < (b[2] - b[0]) * (b[3] - b[1])
        allowed = {
            "No": False, "Riders": higher, "Small": not a_kind[0] and (higher or small),
            "Seats": higher and a[3] >= b[1] + 0.3 * high if a_kind[0] else higher or small,
        }[b_kind[2]]
        if level and allowed:
            out.add(word)
    return out


# ---- answers -------------------------------------------------------------------------------------------------------


def ask(arguments):
    """(photo, answer) for each photo and two classes in it."""
    if arguments.answers and os.path.exists(arguments.answers):
        yield from (json.loads(line) for line in open(arguments.answers))
        return
    photos, boxes = annotated(arguments.photos)
    keep = open(arguments.answers, "w") if arguments.answers else None
    with tempfile.TemporaryDirectory() as fresh:
        data = arguments.data or fresh
        for photo in photos:
            number = collections.Counter(name for name, _ in boxes[photo["id"]])
            wanted = [(a, b) for a, b in itertools.combinations_with_replacement(sorted(number), 2)
                      if a != b or number[a] > 1]
            for subject, other in wanted:
                command = [arguments.program, "--root", arguments.photos, "--data-dir", data, "--detector", arguments.weights,
                           "--json", "relate", os.path.join(arguments.photos, "images", photo["file_name"]),
                           "--subject", subject, "--object", other]
                ran = subprocess.run(command, capture_output=True, text=True)
                if ran.returncode == 2:
                    raise SystemExit(ran.stderr)
                row = [photo["id"], json.loads(ran.stdout)]
                if keep:
                    keep.write(json.dumps(row) + "\n")
                yield row


def annotated(folder):
    data = json.load(open(os.path.join(folder, "instances.json")))
    names = {c["id"]: c["name"] for c in data["categories"]}
    boxes = collections.defaultdict(list)
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        if not a.get("iscrowd") and w > 0 and h > 0:
            boxes[a["image_id"]].append((names[a["category_id"]], (x, y, x + w, y + h)))
    return sorted(data["images"], key=lambda photo: photo["id"]), boxes


def iou(a, b):
    both = common(a[0], a[2], b[0], b[2]) * common(a[1], a[3], b[1], b[3])
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


class Matches:
    """Which annotated box a detected one is of; the best-scored ones choose first, each box is taken once."""

    def __init__(self, rows, boxes):
        found = collections.defaultdict(dict)
        for photo, answer in rows:
            for one in answer["relations"]:
                for side in ("subject", "object"):
                    found[photo][answer[side], tuple(one[side + "_box"])] = one[side + "_score"]
        self.match, self.seen = {}, 0
        for photo, all_found in found.items():
            taken = set()
            for (label, box), score in sorted(all_found.items(), key=lambda item: -item[1]):
                self.seen += 1
                free = [(iou(box, other), at) for at, (name, other) in enumerate(boxes[photo])
                        if name == label and at not in taken]
                best = max(free, default=(0, -1))
                if best[0] >= SAME:
                    taken.add(best[1])
                    self.match[photo, label, box] = (boxes[photo][best[1]][1], score)


def agree(arguments):
    photos, boxes = annotated(arguments.photos)
    rows, kind = list(ask(arguments)), kinds()
    matches = Matches(rows, boxes)
    size = {photo["id"]: (photo["width"], photo["height"]) for photo in photos}
    tally = collections.defaultdict(lambda: collections.Counter())
    bins = collections.defaultdict(list)
    asked = answered = pairs = 0
    for photo, answer in rows:
        asked += 1
        answered += bool(answer["relations"])
        told = collections.defaultdict(dict)
        where = {}
        for one in answer["relations"]:
            key = one["subject_number"], one["object_number"]
            told[key][one["relation"]] = one["confidence"]
            where[key] = tuple(one["subject_box"]), tuple(one["object_box"])
        for key in told:
            s = matches.match.get((photo, answer["subject"], where[key][0]))
            o = matches.match.get((photo, answer["object"], where[key][1]))
            if not s or not o:
                continue
            pairs += 1
            held = truth(s[0], o[0], kind[answer["subject"]], kind[answer["object"]], float(np.hypot(*size[photo])))
            for word, confidence in told[key].items():
                if word in ("nearer", "farther", "in front of", "behind"):
                    tally[word]["depth"] += 1
                    continue
                tally[word]["told"] += 1
                tally[word]["right"] += word in held
                bins[min(int(confidence * 20), 19)].append((confidence, word in held))
            for word in held:
                tally[word]["true"] += 1
                tally[word]["found"] += word in told[key]
    print(f"{asked} questions over {len(photos)} photos, {answered} answered; {pairs} pairs of boxes that are annotated ones")
    print(f"{'relation':12s} {'told':>5s} {'right':>6s} {'precision':>9s} {'true':>6s} {'found':>6s} {'recall':>7s}")
    total = collections.Counter()
    for word in sorted(tally, key=lambda word: -tally[word]["told"]):
        t = tally[word]
        if not t["told"] and not t["true"]:
            print(f"{word:12s} {t['depth']:5d}  (no truth)")
            continue
        total += t
        print(f"{word:12s} {t['told']:5d} {t['right']:6d} {t['right'] / max(t['told'], 1):9.3f} {t['true']:6d} "
              f"{t['found']:6d} {t['found'] / max(t['true'], 1):7.3f}")
    print(f"{'all':12s} {total['told']:5d} {total['right']:6d} {total['right'] / max(total['told'], 1):9.3f} "
          f"{total['true']:6d} {total['found']:6d} {total['found'] / max(total['true'], 1):7.3f}")
    print("calibration: confidence, mean, share that holds, number")
    error = 0.0
    for at in sorted(bins):
        c = np.array(bins[at], float)
        error += abs(c[:, 0].mean() - c[:, 1].mean()) * len(c)
        print(f"  {at / 20:.2f}-{(at + 1) / 20:.2f}  {c[:, 0].mean():.3f}  {c[:, 1].mean():.3f}  {len(c)}")
    print(f"expected calibration error {error / sum(map(len, bins.values())):.3f}")


def noise(arguments):
    from scipy import optimize, stats

    photos, boxes = annotated(arguments.photos)
    longer = {photo["id"]: max(photo["width"], photo["height"]) for photo in photos}
    matches = Matches(list(ask(arguments)), boxes)
    errors, odds, sides = [], [], []
    for (photo, _, found), (box, score) in matches.match.items():
        w, h = found[2] - found[0], found[3] - found[1]
        score = min(max(score, 0.02), 0.98)
        for edge, length in zip(range(4), (w, h, w, h)):
            errors.append((box[edge] - found[edge]) / length)
            odds.append(np.log(score / (1 - score)))
            sides.append(np.log(max((w * h) ** 0.5 / longer[photo] * SIDE, 1) / 50))
    errors, odds, sides = map(np.array, (errors, odds, sides))
    print(f"{len(matches.match)} of {matches.seen} boxes match an annotated one; median |error| {np.median(abs(errors)):.4f} "
          f"of the side, 90 % below {np.quantile(abs(errors), 0.9):.3f}")
    for freedom in (1, 2, 3):
        def loss(p):
            scale = np.exp(p[0] + p[1] * odds + p[2] * sides)
            return -(stats.t.logpdf(errors / scale, freedom) - np.log(scale)).sum()

        fit = optimize.minimize(loss, [-3.0, -0.3, -0.3], method="Nelder-Mead")
        scale = np.exp(fit.x[0] + fit.x[1] * odds + fit.x[2] * sides)
        spread = np.histogram(stats.t.cdf(errors / scale, freedom), 10, (0, 1))[0] / len(errors)
        print(f"degrees of freedom {freedom}: loss {fit.fun:.1f}, SCALE {np.exp(fit.x[0]):.4f}, ODDS_POWER {fit.x[1]:.3f}, "
              f"SIDE_POWER {fit.x[2]:.3f}; tenths of the distribution {np.round(spread, 3)}")


def depth(arguments):
    """Of two things on the ground: does the lower one look nearer by its size, too?"""
    photos, boxes = annotated(arguments.photos)
    height = {photo["id"]: photo["height"] for photo in photos}
    sizes = {name: (float(metres), float(spread), ground == "GROUND")
             for name, _, metres, spread, ground, _, _ in ROW.findall(STATURE.read_text()) if metres}
    for least in (0.02, 0.05, 0.1):
        agree = collections.Counter()
        for photo, all_boxes in boxes.items():
            h = height[photo]
            whole = [(name, box) for name, box in all_boxes
                     if sizes.get(name, (0, 0, False))[2] and box[1] > 0.004 * h and box[3] < 0.996 * h]
            for (name, box), (other, second) in itertools.combinations(whole, 2):
                a, b = sizes[name], sizes[other]
                further = np.log(a[0] / (box[3] - box[1]) * (second[3] - second[1]) / b[0])
                lower = (box[3] - second[3]) / h
                if abs(lower) >= least and abs(further) >= np.hypot(a[1], b[1]):
                    agree["all"] += 1
                    agree["agree"] += (lower > 0) == (further < 0)
        print(f"bottoms differ by {least:.2f} of the height: {agree['agree']} of {agree['all']} pairs agree, "
              f"{agree['agree'] / agree['all']:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["agree", "noise", "depth"])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--program")
    parser.add_argument("--weights")
    parser.add_argument("--data", help="the program's data folder, so that a second run looks at no picture again")
    parser.add_argument("--answers", help="keep the program's answers here, or read them from here")
    arguments = parser.parse_args()
    if arguments.what != "depth" and not arguments.answers and not (arguments.program and arguments.weights):
        parser.error("--program and --weights are needed")
    {"agree": agree, "noise": noise, "depth": depth}[arguments.what](arguments)


if __name__ == "__main__":
    main()
