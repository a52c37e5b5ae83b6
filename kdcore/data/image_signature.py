"""Recognize image files by their names and first bytes, without decoding them."""

import re

SIGNATURE_BYTES = 64
"""First bytes of a file that :func:`image_format` needs."""
IMAGE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".bmp", ".dib", ".webp"),
    *(".gif", ".tif", ".tiff", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Ends of the names of images that can be decoded, in lower case."""
UNSUPPORTED_SUFFIXES = (
    *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".ico", ".tga", ".exr"),
    *(".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"),
)
"""Ends of the names of images that cannot be decoded."""
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS\0\x01", "PSD"),
)
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c(4@8l|\x7c]\0{3}", re.DOTALL)
_FTYP_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1"), "HEIC"),
}
_OTHER_FILES = (
    (b"version https://git-lfs", "is a pointer of git-lfs, not the image; run `git lfs pull`"),
    (b"<svg", "is an SVG drawing"),
    (b"<!DOCTYPE html", "is an HTML page"),
    (b"<html", "is an HTML page"),
    (b"%PDF", "is a PDF document"),
)


def has_image_name(name: str) -> bool:
    """Return whether the name of a file ends like that of an image, decodable or not."""
    return name.lower().endswith((*IMAGE_SUFFIXES, *UNSUPPORTED_SUFFIXES))


def image_format(start: bytes) -> str | None:
    """Return the format of an image, by its first :data:`SIGNATURE_BYTES`; None for other files."""
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        brands = [start[8:12], *(start[i : i + 4] for i in range(16, len(start), 4))]
        return next((_FTYP_BRANDS[brand] for brand in brands if brand in _FTYP_BRANDS), None)
    return "BMP" if _BMP.match(start) else None


def describe_file(data: bytes) -> str | None:
    """Return a phrase for a file that is no decodable image but is recognized; else None."""
    if not data:
        return "is empty"
    known_format = image_format(data[:SIGNATURE_BYTES])
    if known_format is not None:
        return f"is a {known_format} image"
    start = data[:200].lstrip().lower()
    return next((text for word, text in _OTHER_FILES if start.startswith(word.lower())), None)
