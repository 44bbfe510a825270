"""Writes what transformers' image processors make of images, for the parity tests of src/pixels.

    python tools/export_pixels.py fixtures                 # tests/fixtures/pixels: small generated images and their crops
    python tools/export_pixels.py photos ../shared/photos  # tests/fixtures/pixels/photos.json: a digest per photo and config
    python tools/export_pixels.py crops ../shared/photos OUT   # OUT/CONFIG/PHOTO.rgb: the crops themselves, some 200 MB

The reference is the PIL backend of transformers, not the torchvision backend that it prefers where torchvision is
installed: that one resizes with other rounding. Crops are taken before rescaling and normalising, as 8-bit RGB; these two
steps depend on the sample alone and are recorded as a table of 256 values per channel.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from safetensors.numpy import save_file
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "pixels"

PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "CLIPImageProcessorFast": CLIPImageProcessorPil,
    "CLIPFeatureExtractor": CLIPImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "SiglipImageProcessor": SiglipImageProcessorPil,
    "ViTImageProcessor": ViTImageProcessorPil,
    "ViTFeatureExtractor": ViTImageProcessorPil,
}

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

# The forms met on the hub, with small sizes so that the fixtures stay small.
SMALL = {
    # openai/clip-vit-base-patch32 as first published: bare numbers, "feature extractor".
    "clip-old": {
        "crop_size": 24, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
        "resample": 3, "size": 24,
    },
    # As transformers 4.26 and later write it; an odd crop that is not a square.
    "clip": {
        "crop_size": {"height": 21, "width": 26}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": CLIP_MEAN, "image_processor_type": "CLIPImageProcessor",
        "image_std": CLIP_STD, "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 27},
    },
    # facebook/dinov2-base: resized larger than cropped.
    "dinov2": {
        "crop_size": {"height": 23, "width": 23}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 30},
    },
    # google/siglip-base-patch16-224: squashed, no crop.
    "siglip": {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5], "processor_class": "SiglipProcessor",
        "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"height": 22, "width": 25},
    },
    "vit": {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 24,
    },
    # No resize: small images are padded with black.
    "crop-only": {
        "crop_size": 41, "do_center_crop": True, "do_resize": False, "do_rescale": False, "do_normalize": False,
        "image_processor_type": "CLIPImageProcessor",
    },
    "nearest": {"image_processor_type": "ViTImageProcessor", "resample": 0, "size": 19, "do_normalize": False},
    "lanczos": {"image_processor_type": "ViTImageProcessor", "resample": 1, "size": 19, "do_normalize": False},
    "box": {"image_processor_type": "ViTImageProcessor", "resample": 4, "size": 19, "do_normalize": False},
    "hamming": {"image_processor_type": "ViTImageProcessor", "resample": 5, "size": 19, "do_normalize": False},
}


def clip(side):
    return {**SMALL["clip"], "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


# The real sizes, for photos.
LARGE = {
    "clip-224": clip(224),
    "clip-336": clip(336),
    "siglip-256": {**SMALL["siglip"], "size": {"height": 256, "width": 256}},
}


def processor(config):
    kind = config.get("image_processor_type") or config["feature_extractor_type"]
    return PROCESSORS[kind](**config)


def crop(config, image):
    """The 8-bit crop, [h, w, 3]."""
    pixels = processor(config)(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
    return np.ascontiguousarray(np.moveaxis(np.asarray(pixels), 0, -1).astype(np.uint8))


def values(config):
    """The input value of each sample value, [3, 256] f32."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    out = processor(config)(Image.fromarray(ramp), do_resize=False, do_center_crop=False)["pixel_values"][0]
    # save_file writes memory order, and numpy keeps the channels last in memory.
    return np.ascontiguousarray(np.asarray(out, dtype=np.float32).reshape(3, 256))


def generated():
    """Small pictures with what resizing gets wrong: noise, hard edges, odd and extreme shapes."""
    random = np.random.default_rng(20261123)
    x, y = np.meshgrid(np.arange(97), np.arange(61))
    yield "gradient", np.stack([x * 255 // 96, y * 255 // 60, (x + y) % 256], axis=-1)
    yield "noise", random.integers(0, 256, (37, 53, 3))
    yield "checker", np.repeat((np.indices((64, 71)).sum(0) % 2 * 255)[..., None], 3, axis=-1)
    page = Image.new("RGB", (120, 81), "white")
    draw = ImageDraw.Draw(page)
    for line in range(6):
        draw.text((3, 2 + 13 * line), "Sphinx of black quartz", fill=[(0, 0, 0), (200, 0, 0), (0, 0, 160)][line % 3])
    yield "text", np.asarray(page)
    yield "wide", random.integers(0, 256, (3, 301, 3)) // 64 * 85
    yield "tall", random.integers(0, 256, (211, 2, 3)) // 64 * 85
    yield "tiny", random.integers(0, 256, (2, 3, 3))
    yield "dot", np.array([[[200, 100, 50]]])
    yield "same", random.integers(0, 256, (24, 24, 3)) // 32 * 36
    yield "odd", np.asarray(page.crop((0, 0, 47, 33)).rotate(11, expand=False, fillcolor=(90, 160, 30)))


def photos(folder):
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    for path in paths:
        with Image.open(path) as image:
            yield path.relative_to(folder).as_posix(), ImageOps.exif_transpose(image).convert("RGB")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def export_fixtures():
    (FIXTURES / "configs").mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, config in SMALL.items():
        write_json(FIXTURES / "configs" / f"{name}.json", config)
        expected[f"values/{name}"] = values(config)
    for picture, samples in generated():
        image = Image.fromarray(samples.astype(np.uint8))
        image.save(FIXTURES / f"{picture}.png", optimize=True)
        for name, config in SMALL.items():
            expected[f"crop/{name}/{picture}"] = crop(config, image)
    save_file(expected, FIXTURES / "expected.safetensors")


def export_digests(folder):
    digests = {name: {"config": config, "photos": {}} for name, config in LARGE.items()}
    for photo, image in photos(folder):
        for name, config in LARGE.items():
            digests[name]["photos"][photo] = hashlib.sha256(crop(config, image).tobytes()).hexdigest()[:16]
    write_json(FIXTURES / "photos.json", digests)


def export_crops(folder, out):
    for name, config in LARGE.items():
        for photo, image in photos(folder):
            path = Path(out) / name / (photo + ".rgb")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(crop(config, image).tobytes())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fixtures"]:
            export_fixtures()
        case ["photos", folder]:
            export_digests(folder)
        case ["crops", folder, out]:
            export_crops(folder, out)
        case _:
            sys.exit(__doc__)
