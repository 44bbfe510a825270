#!/usr/bin/env python3
"""Speed of two commits, side by side: bench_compare.py [BASE [HEAD]] --model DIR [--photos DIR] [--rounds N] [--limit 1.05]

Builds both in worktrees beside the repository's target folder, then runs their `clip-aware bench` commands in turn, so that
whatever else the machine does meets both alike, and prints the medians with HEAD's time over BASE's. Exit code 1 when one of them
is slower than --limit allows. BASE is HEAD~1 and HEAD the checked-out commit by default. --model is a checkpoint folder in Hugging
Face layout (random weights do: speed does not depend on them); --photos adds decoding; --detector adds detection. Standard library only."""
import argparse, json, os, pathlib, statistics, subprocess, sys

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("base", nargs="?", default="HEAD~1")
ap.add_argument("head", nargs="?", default="HEAD")
ap.add_argument("--model", required=True)
ap.add_argument("--detector")
ap.add_argument("--photos")
ap.add_argument("--vectors", type=int, default=200_000)
ap.add_argument("--rounds", type=int, default=5)
ap.add_argument("--limit", type=float, default=1.05)
a = ap.parse_args()
root = pathlib.Path(subprocess.run(["git", "rev-parse", "--show-toplevel"], check=True, capture_output=True, text=True).stdout.strip())


def build(revision):
    """The release binary of a commit; built once, kept under target/compare."""
    commit = subprocess.run(["git", "rev-parse", "--short=12", revision], check=True, capture_output=True, text=True, cwd=root).stdout.strip()
    tree, binary = root / "target/compare/tree", root / f"target/compare/clip-aware-{commit}"
    if not binary.exists():
        if not tree.exists():
            subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], check=True, cwd=root)
        subprocess.run(["git", "checkout", "--quiet", "--detach", commit], check=True, cwd=tree)
        environment = os.environ | {"CARGO_TARGET_DIR": str(root / "target/compare/target")}
        subprocess.run(["cargo", "build", "--release", "--locked"], check=True, cwd=tree, env=environment)
        (root / "target/compare/target/release/clip-aware").replace(binary)
    return commit, binary


def cases():
    for tower in ("image", "text"):
        for batch in (1, 16):
            for precision in ("f32", "bf16", "int8"):
                yield f"{tower} tower, batch {batch}, {precision}", ["encode", "--model", a.model, "--tower", tower, "--batch", str(batch),
                                                                     "--precision", precision], "ms_per_item"
    yield "search", ["search", "--vectors", str(a.vectors), "--dim", "512"], "query_ms_p50"
    if a.detector:
        yield "detector", ["detect", "--detector", a.detector], "ms_per_image"
    if a.photos:
        yield "decoding", ["decode", a.photos, "--root", a.photos], "ms_per_image"


def run(binary, arguments, field):
    out = subprocess.run([binary, "bench", *arguments, "--json"], capture_output=True, text=True)
    if out.returncode:
        return None  # A commit may not know the command or the precision yet.
    return json.loads(out.stdout.strip().splitlines()[-1])[field]


binaries = [build(a.base), build(a.head)]
slower = False
print(f"{'ms, medians of ' + str(a.rounds):36s} {binaries[0][0]:>12s} {binaries[1][0]:>12s}  ratio")
for name, arguments, field in cases():
    times = [[], []]
    for _ in range(a.rounds):
        for mine, (_, binary) in zip(times, binaries):
            mine.append(run(binary, arguments, field))
    medians = [statistics.median(mine) if None not in mine else None for mine in times]
    if None in medians:
        print(f"{name:36s} {'-' if medians[0] is None else round(medians[0], 2)!s:>12} {'-' if medians[1] is None else round(medians[1], 2)!s:>12}")
        continue
    ratio = medians[1] / medians[0]
    mark = "  slower" if ratio > a.limit else ""
    slower |= bool(mark)
    print(f"{name:36s} {medians[0]:12.2f} {medians[1]:12.2f}  {ratio:5.2f}{mark}")
sys.exit(slower)
