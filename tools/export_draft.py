#!/usr/bin/env python3
"""What Pillow's draft mode makes of the JPEG fixtures at 1/2, 1/4 and 1/8: tests/fixtures/images/draft.json.

    python tools/export_draft.py

The test `reduced_pictures_are_those_of_pillows_draft_mode` compares; the digest is of the RGB samples as stored.
"""
import hashlib
import json
import pathlib

from PIL import Image

FOLDER = pathlib.Path(__file__).parent.parent / "tests/fixtures/images"


def digest(path, denominator):
    image = Image.open(path)
    width, height = image.size
    # The least size that still allows this reduction: Pillow compares rounded-down quotients.
    image.draft(image.mode, (max(1, width // denominator), max(1, height // denominator)))
    image.load()
    if image.size != (-(-width // denominator), -(-height // denominator)):
        return None
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()[:16]


# What the other fixtures lack: restart markers, and chroma that is halved both ways.
ramp = Image.linear_gradient("L").resize((61, 45))
mixed = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), Image.effect_noise((61, 45), 60)))
if not (FOLDER / "restart.jpg").exists():
    mixed.save(FOLDER / "restart.jpg", quality=85, subsampling=2, restart_marker_blocks=2)

found = {}
for path in sorted(FOLDER.glob("*.jpg")):
    digests = {str(8 // d): digest(path, d) for d in (2, 4, 8)}
    found[path.name] = {side: value for side, value in digests.items() if value}
(FOLDER / "draft.json").write_text(json.dumps(found, indent=1) + "\n")
