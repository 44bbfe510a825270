#!/usr/bin/env python3
"""Writes tests/fixtures/dcsm: random networks of dense cosine similarity maps as their authors' training code saves them, over the
CLIPs of tests/fixtures/parity, and the scores that torch and transformers make of captions with them.

    pip install -r tools/requirements-parity.txt
    python tools/export_dcsm.py [--out tests/fixtures/dcsm] [--seed 0]

NAME/dcsm.pt          the file: model_state_dict, and the pickled module external_logic_token_embeddings
NAME/expected.safetensors   pixels [1, 3, size, size], scores [captions]
captions.json

The network, the tokens that it is given and what is done with special words: arXiv 2503.08723, section 5, and the authors'
eval_simple.py, written again. Deterministic for one seed and one set of versions."""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import CLIPModel

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PARITY = REPOSITORY / "tests/fixtures/parity"
WORDS = ["above", "below", "left", "right", "small", "big", "not", "no", "without", "but", "absent"]
CAPTIONS = [
    "a cat left of a dog",
    "a dog left of a cat",
    "a big cat above a small dog but no bird",
    "no",
    "a photo of a cat and a dog and a bird and a horse on a red sofa in a room without people left right above",
    "Left, of a cat.",
    "",
]
# Checkpoint, tokens of a text, numbers between the last layers.
CASES = {"a": ("clip-a", 16, 32), "b": ("clip-b", 24, 64)}


class Network(nn.Module):
    """Two convolutions over the map, two layers over what they leave."""

    def __init__(self, image, text, hidden):
        super().__init__()
        channels = hidden // 32
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc1 = nn.Linear(channels * text * image, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, maps):
        x = self.conv2(self.conv1(maps.unsqueeze(1)).relu()).relu()
        return self.fc2(self.fc1(x.flatten(1)).relu()).squeeze(1)


def image_tokens(model, pixels):
    """Every token of the last layer, as the class token is brought to the vector: [image tokens, dim]."""
    hidden = model.vision_model(pixel_values=pixels).last_hidden_state
    tokens = model.visual_projection(model.vision_model.post_layernorm(hidden))[0]
    return nn.functional.normalize(tokens, dim=-1)


def text_tokens(model, tokenizer, caption, length):
    """Every token, padded with the end token to one length: [text tokens, dim]."""
    ids = tokenizer.encode(caption).ids
    end = ids[-1]
    if len(ids) > length:
        ids = ids[: length - 1] + [end]
    mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids))])
    ids = torch.tensor([ids + [end] * (length - len(ids))])
    hidden = model.text_model(input_ids=ids, attention_mask=mask).last_hidden_state[0]
    return nn.functional.normalize(model.text_projection(hidden), dim=-1)


def with_words(cosines, caption, table):
    """A learned column for each special word, at its number among the words."""
    words = caption.split(" ")
    for number, word in enumerate(WORDS):
        if word in words and words.index(word) < cosines.shape[1]:
            at = words.index(word)
            column = table.weight[number].unsqueeze(1)
            cosines = torch.cat([cosines[:, :at], column, cosines[:, at:-1]], dim=1)
    return cosines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "tests/fixtures/dcsm")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "captions.json").write_text(json.dumps(CAPTIONS) + "\n")
    for name, (checkpoint, length, hidden) in CASES.items():
        torch.manual_seed(arguments.seed)
        model = CLIPModel.from_pretrained(PARITY / checkpoint, attn_implementation="eager").eval()
        tokenizer = Tokenizer.from_file(str(PARITY / checkpoint / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        size = model.config.vision_config.image_size
        pixels = torch.randn(1, 3, size, size)
        with torch.no_grad():
            image = image_tokens(model, pixels)
            table = nn.Embedding(len(WORDS), len(image))
            table.weight.data = (nn.functional.normalize(table.weight, dim=1) + 1) / 3
            network = Network(len(image), length, hidden).eval()
            # As drawn, all captions have nearly the same score; wider, a wrong step shows.
            for value in network.parameters():
                value.mul_(3)
            maps = [
                with_words(image @ text_tokens(model, tokenizer, caption, length).T, caption, table) for caption in CAPTIONS
            ]
            maps = torch.stack(maps)
            scores = network((maps - maps.mean()) / maps.std())
        folder = arguments.out / name
        folder.mkdir(exist_ok=True)
        saved = {"epoch": 3, "model_state_dict": network.state_dict(), "external_logic_token_embeddings": table,
                 "optimizer_state_dict": torch.optim.Adam(network.parameters()).state_dict()}
        torch.save(saved, folder / "dcsm.pt")
        save_file({"pixels": pixels, "scores": scores}, folder / "expected.safetensors")
        print(name, [round(score, 3) for score in scores.tolist()])


main()
