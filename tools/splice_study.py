"""Sparse concept mixes of real CLIP vectors by scikit-learn: what `engine::concepts` is compared with, and how its penalty was chosen.

    python tools/splice_study.py --vectors ../shared/clip-vectors

SpLiCE (Bhalla et al. 2024, arXiv 2402.10376): an image vector, less the mean of images, as a sparse non-negative mix of concept
vectors, less the mean of concepts, each of unit length. The vocabulary is the 1,203 LVIS names. Prints for some penalties how
many concepts remain, how near the mix comes to the vector, and how often a category of the photo is among the first five; then
the solutions that tests/it/ranking.rs holds. Needs numpy, safetensors, scikit-learn.
"""

import argparse
import csv
import json
import pathlib

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import Lasso


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def solve(dictionary, vector, penalty):
    # scikit-learn minimises |y - Xw|^2 / (2 n) + alpha |w|, n the length of y; ours |y - Xw|^2 / 2 + penalty |w|.
    model = Lasso(alpha=penalty / len(vector), fit_intercept=False, positive=True, max_iter=100_000, tol=1e-10)
    return model.fit(dictionary.T, vector).coef_


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    tensors = load_file(arguments.vectors / "vectors.safetensors")
    texts = json.loads((arguments.vectors / "texts.json").read_text())
    images, concepts = (unit(tensors[name].astype(np.float64)) for name in ("image_embeddings", "lvis_text"))
    rows, seen = [], set()
    for row in csv.DictReader(open(arguments.vectors / "coco128_rows.csv")):
        if row["coco_id"] not in seen and row["gt_categories"]:
            seen.add(row["coco_id"])
            rows.append((int(row["row"]), row["gt_categories"].split("|")))
    names = texts["lvis_names"]
    images = images[[row for row, _ in rows]]
    mean_image = images.mean(0)
    dictionary = unit(concepts - concepts.mean(0))
    centred = unit(images - mean_image)
    for penalty in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        counts, cosines, hits = [], [], 0
        for vector, (_, categories) in zip(centred, rows):
            weights = solve(dictionary, vector, penalty)
            mix = weights @ dictionary
            counts.append((weights > 0).sum())
            cosines.append(mix @ vector / max(np.linalg.norm(mix), 1e-9))
            first = [names[i].replace("_", " ") for i in np.argsort(-weights)[:5]]
            hits += any(category in name or name in category for name in first for category in categories)
        print(f"penalty {penalty}: {np.mean(counts):.1f} concepts, cosine {np.mean(cosines):.3f}, "
              f"a category among the first five of {hits} of {len(rows)} photos")
    for index in (0, 40, 100):
        weights = solve(dictionary, centred[index], 0.1)
        order = [i for i in np.argsort(-weights) if weights[i] > 0]
        print(index, rows[index][1], [(int(i), round(float(weights[i]), 6)) for i in order], [names[i] for i in order[:6]])


if __name__ == "__main__":
    main()
