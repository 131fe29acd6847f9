"""Uploads that are no pictures, or not such as are decoded, and what is said of them."""

import struct
import zlib


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height):
    """A PNG that claims this size, with next to no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", rows), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "nothing": (b"", "it is of none of the formats"),
    "text": (b"no picture at all", "it is of none of the formats JPEG, PNG"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of the formats"),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of the formats"),
    "a pickle": (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00", "none of the formats"),
    "a bomb": (png_header(20_000, 20_000), "pixels"),
    "a smaller bomb": (png_header(6000, 6000), "must be of at most 33554432 pixels, got 6000x6000"),
    "a part": (png_header(64, 64), "must be a whole picture"),
}
