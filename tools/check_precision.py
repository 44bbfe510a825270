#!/usr/bin/env python3
"""How far bf16 and int8 are from f32: check_precision.py --binary BIN --model DIR --photos DIR [--vectors vectors.safetensors]

Embeds photos and texts in each precision and prints the lowest and the mean cosine to f32. With --vectors, real vectors of the
shape of ../shared/clip-vectors, also how often a ranking keeps its ten best when every image and text vector is turned by as much as
was measured, in a random direction. Needs NumPy, and safetensors for --vectors."""
import argparse, json, pathlib, subprocess, tempfile
import numpy as np

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--binary", required=True)
ap.add_argument("--model", required=True)
ap.add_argument("--photos", required=True)
ap.add_argument("--vectors")
ap.add_argument("--count", type=int, default=60)
a = ap.parse_args()
photos = sorted(p for p in pathlib.Path(a.photos).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[: a.count]
texts = [f"a photo of {n} {thing}" for n in ("a", "two", "some old") for thing in ("dogs", "red cars in a street", "people at a table", "ships", "snow on trees")]


def embed(precision):
    arguments = [part for p in photos for part in ("--image", str(p))] + [part for t in texts for part in ("--text", t)]
    with tempfile.TemporaryDirectory() as data:
        out = subprocess.run([a.binary, "embed", *arguments, "--model", a.model, "--precision", precision, "--json", "--root", a.photos,
                              "--data-dir", data], check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return {kind: np.array([r["vector"] for r in rows if r["kind"] == kind]) for kind in ("image", "text")}


def turned(vectors, cosine, rng):
    """Unit vectors at this cosine from the given ones."""
    v = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    noise = rng.standard_normal(v.shape)
    noise -= (noise * v).sum(1, keepdims=True) * v
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return cosine * v + np.sqrt(1 - cosine**2) * noise


reference = embed("f32")
for precision in ("bf16", "int8"):
    found, mean = embed(precision), {}
    for kind in ("image", "text"):
        cosines = (found[kind] * reference[kind]).sum(1)
        mean[kind] = cosines.mean()
        print(f"{precision} {kind}: lowest cosine {cosines.min():.6f}, mean {cosines.mean():.6f}")
    if a.vectors:
        from safetensors.numpy import load_file

        tensors = load_file(a.vectors)
        images, queries = tensors["image_embeddings"].astype(np.float64), tensors["coco_text"].astype(np.float64)
        images = images[::3]  # About three copies of each photo.
        rng = np.random.default_rng(0)
        exact = turned(queries, 1, rng) @ turned(images, 1, rng).T
        other = turned(queries, mean["text"], rng) @ turned(images, mean["image"], rng).T
        best = lambda scores: [set(row) for row in np.argsort(-scores, 1)[:, :10]]
        pairs = list(zip(best(exact), best(other)))
        print(f"{precision} rankings: the same ten in {np.mean([x == y for x, y in pairs]):.2f}, ten shared on average {np.mean([len(x & y) for x, y in pairs]):.2f}")
