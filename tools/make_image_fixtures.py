"""Writes tests/fixtures/images: one small picture in every format and form that is read, and what Pillow makes of each.

    python tools/make_image_fixtures.py

expected.safetensors holds, by file name, the upright 8-bit RGB with transparency laid over white, [h, w, 3].
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps
from safetensors.numpy import save_file

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "images"
WIDTH, HEIGHT = 24, 16
ORIENTATION, DATE_TIME, EXIF_IFD, DATE_TIME_ORIGINAL = 274, 306, 0x8769, 36867
# What undoes each EXIF orientation's turn, to store the picture so that it shows upright.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture():
    """Smooth colours with one mark per corner: no turn and no flip looks like another."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    samples = np.stack([x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), 255 - (x + y) * 6], axis=-1)
    samples[1:7, 1:9] = (230, 20, 20)
    samples[9:15, 14:20] = (20, 20, 230)
    samples[9:15, 1:7] = (250, 250, 240)
    return Image.fromarray(samples.astype(np.uint8))


def alpha():
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return Image.fromarray(((x * 7 + y * 5) % 256).astype(np.uint8) // 2 * 2)


def exif(orientation, date=None, date_original=None):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    if date:
        tags[DATE_TIME] = date
    if date_original:
        tags.get_ifd(EXIF_IFD)[DATE_TIME_ORIGINAL] = date_original
    return tags.tobytes()


def turned(orientation):
    image = picture()
    return image if STORED[orientation] is None else image.transpose(STORED[orientation])


def png16(path, colour_type, samples):
    """A PNG with 16-bit samples, [h, w, channels] u16, which Pillow writes for grey only."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def write_all():
    image, mask = picture(), alpha()
    grey, rgba, cmyk = image.convert("L"), image.copy(), image.convert("CMYK")
    rgba.putalpha(mask)
    wide = np.asarray(image).astype(np.uint16) * 257 - np.arange(3, dtype=np.uint16)

    def save(name, picture=image, **options):
        picture.save(FOLDER / name, **options)

    for orientation in STORED:
        save(f"orientation_{orientation}.jpg", turned(orientation), quality=92, exif=exif(orientation))
    save("dated.jpg", quality=90, exif=exif(1, "2021:03:04 05:06:07", "2020:02:29 10:20:30"))
    save("changed.jpg", quality=90, exif=exif(1, "2021:03:04 05:06:07"))
    save("oriented.png", turned(6), exif=exif(6))
    save("oriented.webp", turned(8), lossless=True, exif=exif(8))
    save("oriented.tiff", turned(7), tiffinfo={ORIENTATION: 7})

    save("grey.jpg", grey, quality=90)
    save("cmyk.jpg", cmyk, quality=90)
    save("rgb.jpg", quality=90, keep_rgb=True)
    save("progressive.jpg", quality=85, progressive=True)
    save("sampled_422.jpg", quality=85, subsampling="4:2:2")
    save("profile.jpg", quality=90, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())

    save("rgb.png")
    save("grey.png", grey)
    save("bilevel.png", grey.convert("1"))
    save("palette.png", image.quantize(16))
    save("transparent_palette.png", image.quantize(16), transparency=3)
    save("alpha.png", rgba)
    save("grey_alpha.png", Image.merge("LA", (grey, mask)))
    png16(FOLDER / "grey16.png", 0, wide[..., :1])
    png16(FOLDER / "rgb16.png", 2, wide)
    png16(FOLDER / "alpha16.png", 6, np.concatenate([wide, np.asarray(mask)[..., None].astype(np.uint16) * 257], axis=-1))

    save("palette.gif", image.quantize(32))
    save("animated.gif", save_all=True, append_images=[image.rotate(180)], duration=100)
    save("rgb.bmp")
    save("palette.bmp", image.quantize(32))
    save("bilevel.bmp", grey.convert("1"))
    save("rgb.tiff")
    save("lzw.tiff", compression="tiff_lzw")
    save("deflate.tiff", compression="tiff_adobe_deflate")
    save("grey16.tiff", Image.fromarray(wide[..., 0]))
    save("cmyk.tiff", cmyk)
    save("alpha.tiff", rgba)
    save("bilevel.tiff", grey.convert("1"))
    save("lossless.webp", lossless=True)
    save("lossy.webp", quality=80)
    save("alpha.webp", rgba, lossless=True)
    save("animated.webp", save_all=True, append_images=[image.rotate(180)], lossless=True)

    pillow_heif.register_heif_opener()
    # 4:4:4, so that no decoder's way of smoothing chroma shows; the second as phones write it.
    save("full_chroma.heic", quality=90, chroma=444)
    save("phone.heic", turned(6), quality=90, exif=exif(6, date_original="2023:07:08 09:10:11"))
    save("alpha.heic", rgba, quality=90, chroma=444)
    # Small, and the first as cameras write it; exact sizes of chroma's edges show in the odd one.
    save("full_chroma.avif", quality=90, subsampling="4:4:4")
    save("sampled_420.avif", image.crop((0, 0, WIDTH - 1, HEIGHT - 1)), quality=80)
    save("sampled_422.avif", quality=80, subsampling="4:2:2")
    save("limited.avif", quality=80, range="limited")
    save("grey.avif", quality=80, subsampling="4:0:0")
    save("alpha.avif", rgba, quality=90, subsampling="4:4:4")
    save("oriented.avif", turned(6), quality=90, subsampling="4:4:4", exif=exif(6, date_original="2023:07:08 09:10:11"))
    save("mirrored.avif", turned(5), quality=90, subsampling="4:4:4", exif=exif(5))
    save("refused.jp2")


def expected(path):
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode == "I;16":
            # Pillow clips such samples at 255; here they keep their high byte (src/pixels/raster.rs says why).
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
        if image.mode == "CMYK":
            return np.asarray(image.convert("RGB"))
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_all()
    readable = (p for p in sorted(FOLDER.iterdir()) if p.suffix != ".safetensors" and not p.name.startswith("refused"))
    save_file({p.name: np.ascontiguousarray(expected(p)) for p in readable}, FOLDER / "expected.safetensors")
