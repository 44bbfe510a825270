#!/usr/bin/env python3
"""Writes assets/clip/merges.bin, OpenAI's byte pair merges, from its tokenizer.json or its bpe_simple_vocab_16e6.txt.gz.

    python tools/export_merges.py tokenizer.json [--out assets/clip/merges.bin]

Each merge is two numbers of 16 bits, the ids of what it joins, little-endian; what it makes has the next free id. Everything
else of the vocabulary follows from that, as in clip/simple_tokenizer.py."""
import argparse
import gzip
import json
import pathlib
import struct


def alphabet():
    """The 256 letters that bytes are written as, in the order of their ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def merges(path):
    if path.suffix == ".gz":
        lines = gzip.open(path).read().decode().split("\n")
        return [tuple(line.split()) for line in lines[1:49152 - 256 - 2 + 1]]
    pairs = json.loads(path.read_text())["model"]["merges"]
    return [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in pairs]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "assets/clip/merges.bin")
    arguments = parser.parse_args()
    letters = alphabet()
    ids = {token: i for i, token in enumerate(letters + [letter + "</w>" for letter in letters])}
    packed = b""
    for first, second in merges(arguments.source):
        packed += struct.pack("<HH", ids[first], ids[second])
        ids[first + second] = len(ids)
    assert len(ids) == 49406
    arguments.out.write_bytes(packed)


if __name__ == "__main__":
    main()
