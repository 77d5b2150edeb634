"""Small pictures of every kind that Pillow reads in the formats we accept, and what Pillow makes of them.

usage: make_pillow_pictures.py OUT.safetensors      (Pillow 12, numpy)

file.NAME: the bytes of the file; rgb.NAME: uint8 [h, w, 3] of ImageOps.exif_transpose(image).convert("RGB"), which is how the
reference loads pictures.
"""
import io
import json
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

r = np.random.default_rng(5)
files = {}


def picture(h, w, channels=3):
    y, x = np.mgrid[0:h, 0:w]
    planes = [127 + 120 * np.sin(y / (3 + c)) * np.cos(x / (5 - c)) + r.normal(0, 9, (h, w)) for c in range(channels)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def save(name, image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    files[name] = out.getvalue()


def exif(orientation, order="<"):
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return b"Exif\0\0" + head + struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(w, h, depth, colour, rows, extra=b"", after=b"", interlace=0):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)) + extra
            + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b""))


def plain_rows(a):
    return b"".join(b"\0" + row.tobytes() for row in a)


def adam7(a):
    out = b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        part = a[y0::dy, x0::dx]
        if part.size:
            out += plain_rows(part)
    return out


def jpegs():
    rgb = Image.fromarray(picture(37, 45))
    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        save(f"jpeg-{name}", rgb, "JPEG", quality=85, subsampling=sampling)
    save("jpeg-progressive", rgb, "JPEG", quality=70, progressive=True)
    save("jpeg-grey", Image.fromarray(picture(20, 31, 1)[..., 0]), "JPEG")
    save("jpeg-cmyk", Image.fromarray(picture(24, 33, 4), "CMYK"), "JPEG", quality=90)
    small = Image.fromarray(picture(16, 24))
    for orientation in range(1, 9):
        save(f"jpeg-exif-{orientation}", small, "JPEG", exif=exif(orientation, "<>"[orientation % 2]))
    save("jpeg-exif-9", small, "JPEG", exif=exif(9))
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    save("jpeg-xmp-8", small, "JPEG", xmp=xmp)


def pngs():
    rgb = picture(19, 23)
    save("png-1", Image.fromarray(picture(19, 23, 1)[..., 0]).convert("1"), "PNG")
    save("png-la", Image.fromarray(picture(19, 23, 2), "LA"), "PNG")
    save("png-rgba", Image.fromarray(picture(19, 23, 4), "RGBA"), "PNG")
    for colours in (2, 4, 16, 200):
        save(f"png-palette-{colours}", Image.fromarray(rgb).quantize(colours), "PNG")
    palette = Image.fromarray(rgb).quantize(16)
    save("png-palette-transparent", palette, "PNG", transparency=3)
    save("png-rgb-transparent", Image.fromarray(rgb), "PNG", transparency=(1, 2, 3))
    wide = r.integers(0, 65536, (9, 11)).astype(">u2")
    wide[0, :4] = [0, 200, 255, 256]
    files["png-grey-16"] = png(11, 9, 16, 0, plain_rows(wide))
    files["png-rgb-16"] = png(11, 9, 16, 2, plain_rows(r.integers(0, 65536, (9, 33)).astype(">u2")))
    files["png-rgba-16"] = png(11, 9, 16, 6, plain_rows(r.integers(0, 65536, (9, 44)).astype(">u2")))
    files["png-grey-2"] = png(12, 9, 2, 0, plain_rows(r.integers(0, 256, (9, 3)).astype(np.uint8)))
    files["png-grey-4"] = png(12, 9, 4, 0, plain_rows(r.integers(0, 256, (9, 6)).astype(np.uint8)))
    files["png-short-palette"] = png(6, 6, 8, 3, plain_rows(r.integers(0, 6, (6, 6)).astype(np.uint8)), chunk(b"PLTE", bytes(range(12, 30))))
    files["png-interlaced"] = png(23, 19, 8, 2, adam7(rgb), interlace=1)
    files["png-interlaced-16-grey"] = png(11, 9, 16, 0, adam7(wide), interlace=1)
    files["png-gamma"] = png(23, 19, 8, 2, plain_rows(rgb), chunk(b"gAMA", struct.pack(">I", 100000)))
    files["png-exif-before"] = png(23, 19, 8, 2, plain_rows(rgb), chunk(b"eXIf", exif(6)[6:]))
    files["png-exif-after"] = png(23, 19, 8, 2, plain_rows(rgb), b"", chunk(b"eXIf", exif(5)[6:]))
    raw = exif(8)
    profile = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
    files["png-raw-profile"] = png(23, 19, 8, 2, plain_rows(rgb), chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)))
    files["png-xmp"] = png(23, 19, 8, 2, plain_rows(rgb), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<a tiff:Orientation=\"3\"/>"))


def webps():
    rgb = Image.fromarray(picture(30, 41))
    rgba = Image.fromarray(picture(30, 41, 4), "RGBA")
    save("webp-lossy", rgb, "WEBP", quality=60)
    save("webp-lossless", rgb, "WEBP", lossless=True)
    save("webp-alpha", rgba, "WEBP", quality=60)
    save("webp-alpha-lossless", rgba, "WEBP", lossless=True, exact=True)
    save("webp-exif", rgb, "WEBP", quality=60, exif=exif(6)[6:])
    save("webp-animated", rgb, "WEBP", save_all=True, append_images=[Image.fromarray(picture(30, 41))], quality=60)
    patch = io.BytesIO()
    Image.fromarray(picture(10, 12)).save(patch, "WEBP", lossless=True)
    data = patch.getvalue()[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<IIHBHB", 10, 2, 41 - 1, 0, 30 - 1, 0)
    body += b"ANIM" + struct.pack("<IIH", 6, 0xffffffff, 0)
    frame = struct.pack("<HBHBHBHBHBB", 3, 0, 4, 0, 11, 0, 9, 0, 100, 0, 0) + data
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame
    files["webp-animated-offset"] = b"RIFF" + struct.pack("<I", len(body)) + body


def gifs():
    rgb = Image.fromarray(picture(22, 27))
    save("gif", rgb.quantize(50), "GIF")
    save("gif-interlaced", rgb.quantize(50), "GIF", interlace=1)
    save("gif-grey", Image.fromarray(picture(22, 27, 1)[..., 0]), "GIF")
    save("gif-transparent", rgb.quantize(50), "GIF", transparency=7)
    save("gif-animated", rgb.quantize(50), "GIF", save_all=True, append_images=[Image.fromarray(picture(22, 27)).quantize(50)])
    plain = io.BytesIO()
    Image.fromarray(r.integers(0, 4, (6, 7)).astype(np.uint8), "P").save(plain, "GIF")
    g = bytearray(files["gif-transparent"])
    at = g.index(b"\x2c", 13 + 3 * 64)
    g[6:10] = struct.pack("<HH", 40, 30)
    g[at + 1:at + 5] = struct.pack("<HH", 5, 3)
    files["gif-offset"] = bytes(g)
    g[6:10] = struct.pack("<HH", 8, 8)
    files["gif-larger-than-its-screen"] = bytes(g)


def bmp(w, h, bits, compression, data, palette=b"", masks=b"", header=40):
    info = struct.pack("<IiiHHIIiiII", header, w, h, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0)
    at = 14 + header + (len(masks) if header == 40 else 0) + len(palette)
    info += masks if header == 40 else masks.ljust(header - 40, b"\0")
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at) + info + palette + data


def bmps():
    rgb = Image.fromarray(picture(11, 13))
    save("bmp-24", rgb, "BMP")
    save("bmp-32", Image.fromarray(picture(11, 13, 4), "RGBA"), "BMP")
    save("bmp-8", rgb.quantize(100), "BMP")
    save("bmp-grey", Image.fromarray(picture(11, 13, 1)[..., 0]), "BMP")
    save("bmp-1", Image.fromarray(picture(11, 13, 1)[..., 0]).convert("1"), "BMP")
    palette = r.integers(0, 256, 64).astype(np.uint8).tobytes()
    files["bmp-4"] = bmp(13, 5, 4, 0, r.integers(0, 256, 5 * 8).astype(np.uint8).tobytes(), palette)
    files["bmp-4-top-down"] = bmp(13, -5, 4, 0, r.integers(0, 256, 5 * 8).astype(np.uint8).tobytes(), palette)
    files["bmp-555"] = bmp(7, 5, 16, 0, r.integers(0, 256, 5 * 16).astype(np.uint8).tobytes())
    files["bmp-565"] = bmp(7, 5, 16, 3, r.integers(0, 256, 5 * 16).astype(np.uint8).tobytes(), masks=struct.pack("<III", 0xf800, 0x7e0, 0x1f))
    files["bmp-fields-32"] = bmp(7, 5, 32, 3, r.integers(0, 256, 5 * 28).astype(np.uint8).tobytes(), masks=struct.pack("<IIII", 0xff, 0xff00, 0xff0000, 0xff000000), header=108)
    full = r.integers(0, 256, 1024).astype(np.uint8).tobytes()
    files["bmp-rle8"] = bmp(9, 4, 8, 1, bytes([9, 5, 0, 0, 0, 4, 1, 2, 3, 4, 5, 77, 0, 0, 0, 3, 8, 9, 10, 0, 6, 200, 0, 0, 4, 11, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1]), full)
    files["bmp-rle4"] = bmp(9, 2, 4, 2, bytes([9, 0x5a, 0, 0, 0, 4, 0x12, 0x34, 5, 0x7b, 0, 0, 0, 1]), palette)


def main():
    for make in (jpegs, pngs, webps, gifs, bmps):
        make()
    tensors = {}
    for name, data in files.items():
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        tensors[f"file.{name}"] = np.frombuffer(data, np.uint8)
        tensors[f"rgb.{name}"] = np.asarray(image)
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "U8", "shape": list(value.shape), "data_offsets": [offset, offset + value.size]}
        offset += value.size
    text = json.dumps(header).encode()
    with open(sys.argv[1], "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values()))


main()
