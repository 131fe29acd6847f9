"""What can be wrong with a file, or with the arrays in it."""

import gzip
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import torch
from _readers import SHAPES, written_by


def _noise(whole):
    return np.random.default_rng(len(whole)).bytes(len(whole))


# In the place of a whole file's bytes.
BYTES = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "cut at a tenth": lambda whole: whole[: len(whole) // 10],
    "cut in the middle": lambda whole: whole[: len(whole) // 2],
    "noise": _noise,
    "zeros": lambda whole: bytes(len(whole)),
    "another header": lambda whole: bytes(b ^ 0xA5 for b in whole[:128]) + whole[128:],
    "text that is not UTF-8": lambda whole: b"caf\xe9 \xff\xfe\x00\n" * 40,
    "another kind of file": lambda whole: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


def _away(file):
    file.rename(file.with_name("away"))


def _make_folder(file):
    _away(file)
    file.mkdir()


def _make_pipe(file):
    _away(file)
    os.mkfifo(file)


def _make_loop(file):
    _away(file)
    file.symlink_to(file.name)


# In the place of the file.
PLACES = {"absent": _away, "folder": _make_folder, "pipe": _make_pipe, "loop": _make_loop}


def _zip_with(file, entry, content):
    """Another entry of a zip file, packed."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries[next(name for name in entries if name.endswith(entry))] = content
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def _npy(shape, dtype="<i8"):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n"


def _huge_npy(entry, shape, dtype="<i8"):
    return lambda file: _zip_with(file, entry, _npy(shape, dtype) + bytes(2**20))


def _long_npy_header(file):
    _zip_with(file, "latents_classes.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 2**20)


def _idx(shape, after=b"", pack=bytes):
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    return lambda file: file.write_bytes(pack(header + after))


def _bomb(file):
    """Five images by its header, and 8 GB of zeros after them."""
    content = gzip.compress(struct.pack(">4I", 0x803, 5, 28, 28))
    file.write_bytes(content + gzip.compress(bytes(2**26)) * 128)


def _matrix(magic, shape, pack=bytes):
    """A binary matrix of smallNORB's, of which there is the header alone."""
    sizes = (*shape, *(1 for _ in range(3 - len(shape))))
    header = struct.pack(f"<II{len(sizes)}I", magic, len(shape), *sizes)
    return lambda file: file.write_bytes(pack(header))


def _matrix_bomb(file):
    """All that there should be, and 8 GB of zeros after it."""
    whole = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(whole) + gzip.compress(bytes(2**26)) * 128)


def _mat(packed, shape, size, name=b"X"):
    """A file whose array has another shape, and claims so many bytes."""

    def damage(file):
        data = bytearray(file.read_bytes())
        place = 128
        while True:
            (length,) = struct.unpack_from("<I", data, place + 4)
            body = data[place + 8 : place + 8 + length]
            inner = zlib.decompress(body) if packed else bytes(data[place : place + 8]) + body
            inner = bytearray(inner)
            if name in inner[40:64]:
                break
            place += 8 + length
        struct.pack_into(f"<{len(shape)}i", inner, 32, *shape)
        # After the shape, to a multiple of eight bytes, come the name and the array's own tag.
        struct.pack_into("<I", inner, 44 + 8 * -(-len(shape) // 2), size)
        element = bytes(inner)
        if packed:
            element = zlib.compress(element)
            element = struct.pack("<II", 15, len(element)) + element
        file.write_bytes(bytes(data[:place]) + element + bytes(data[place + 8 + length :]))

    return damage


def _png(file):
    whole = file.read_bytes()
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + whole[24:29]
    checked = header + struct.pack(">I", zlib.crc32(header))
    file.write_bytes(whole[:12] + checked + whole[33:])


def _patched(find, offset, new):
    def damage(file):
        whole = file.read_bytes()
        place = (whole.index(find) if isinstance(find, bytes) else find) + offset
        file.write_bytes(whole[:place] + new + whole[place + len(new) :])

    return damage


def _tif(file):
    """Width and height of a little-endian file, tags 256 and 257."""
    data = bytearray(file.read_bytes())
    (place,) = struct.unpack_from("<I", data, 4)
    for i in range(struct.unpack_from("<H", data, place)[0]):
        at = place + 2 + 12 * i
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            struct.pack_into("<HII", data, at + 2, 4, 1, 100_000)
    file.write_bytes(data)


def _gif(file):
    _patched(b"GIF", 6, struct.pack("<HH", 65535, 65535))(file)
    whole = file.read_bytes()
    place = whole.index(b",\0\0\0\0(\0(\0")
    file.write_bytes(whole[: place + 5] + b"\xff\xff\xff\xff" + whole[place + 9 :])


def _line(file):
    file.write_bytes(b"20 " * 2**22)


def _huge_chunk(file):
    module = written_by("test_three_d_shapes")
    with module.h5py.File(file, "w") as opened:
        shape, limit = (module.COUNT, 64, 64, 3), (None, 64, 64, 3)
        opened.create_dataset("images", shape, "u1", maxshape=limit, chunks=(10**5, 64, 64, 3))
        opened["labels"] = module.grid(module.SIZES)


def _huge_array(file):
    module = written_by("test_three_d_shapes")
    with module.h5py.File(file, "w") as opened:
        opened.create_dataset("images", (10**9, 64, 64, 3), "u1", chunks=(1, 64, 64, 3))
        opened.create_dataset("labels", (10**9, 6), "f8", chunks=(1, 6))


def _huge_labels(file):
    module = written_by("test_three_d_shapes")
    with module.h5py.File(file, "a") as opened:
        del opened["labels"]
        opened.create_dataset("labels", (10**9, 6), "f8", chunks=(1, 6))


def _huge_storage(file):
    """A tensor's numbers claim to be 4 GB of packed zeros."""
    _zip_with(file, "data/0", bytes(1_234_567))
    claimed = struct.pack("<I", 1_234_567)
    whole = file.read_bytes()
    assert whole.count(claimed) == 2  # before the entry and in the directory
    file.write_bytes(whole.replace(claimed, struct.pack("<I", 2**32 - 2)))


def _huge_safetensors(file):
    entry = {"dtype": "F64", "shape": [10**6, 10**6], "data_offsets": [0, 8 * 10**12]}
    header = json.dumps({"a.weight": entry}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)


# Small files that claim to be huge, by reader.
HUGE = {
    "dsprites": [
        _huge_npy("latents_classes.npy", (10**9, 6)),
        _huge_npy("latents_classes.npy", (360, 10**9)),
        _huge_npy("imgs.npy", (10**9, 64, 64), "|u1"),
        _long_npy_header,
    ],
    "3dshapes packed": [_huge_chunk, _huge_array, _huge_labels],
    "mnist images": [_idx((2**32 - 1, 28, 28)), _idx((2**32 - 1,) * 3)],
    "mnist images.gz": [
        _idx((2**32 - 1, 28, 28), pack=gzip.compress),
        _idx((2**20, 28, 28), pack=gzip.compress),
        _bomb,
    ],
    "mnist labels": [_idx((2**32 - 1,))],
    "mnist labels.gz": [_idx((2**32 - 1,), pack=gzip.compress)],
    "svhn plain": [
        _mat(False, (32, 32, 3, 10**6), 3072 * 10**6),
        _mat(False, (32, 32, 3, 2**31 - 1), 2**32 - 1),
        _mat(False, (32, 32, 3, 12), 2**32 - 1),
        _patched(0, 0, b"\0\0\0\0" + struct.pack("<4I", 10, 10, 0, 2**31 - 1)),  # version 4
    ],
    "svhn packed": [
        _mat(True, (32, 32, 3, 10**6), 3072 * 10**6),
        _mat(True, (32, 32, 3, 12), 2**32 - 1),
    ],
    "mpi3d stored": [
        _huge_npy("images.npy", (10**9, 64, 64, 3), "|u1"),
        _huge_npy("images.npy", (288, 64, 64, 3), "|u1"),
    ],
    "mpi3d packed": [_huge_npy("images.npy", (288, 64, 64, 3), "|u1")],
    "cars3d plain": [_mat(False, (128, 128, 3, 24, 10**6), 2**32 - 1, b"im")],
    "cars3d packed": [_mat(True, (128, 128, 3, 24, 10**6), 2**32 - 1, b"im")],
    "smallnorb dat": [
        _matrix(0x1E3D4C55, (2**32 - 1, 2, 96, 96)),
        _matrix(0x1E3D4C55, (96, 2, 96, 96)),
    ],
    "smallnorb cat": [_matrix(0x1E3D4C54, (2**32 - 1,))],
    "smallnorb dat.gz": [_matrix(0x1E3D4C55, (96, 2, 96, 96), gzip.compress), _matrix_bomb],
    "smallnorb info.gz": [_matrix(0x1E3D4C54, (2**32 - 1, 4), gzip.compress), _matrix_bomb],
    "scream-dsprites": [_patched(b"\xff\xc0", 5, b"\xff\xff\xff\xff")],
    "celeba attributes": [_line],
    "celeba partition": [_line],
    "celeba attributes.csv": [_line],
    "celeba partition.csv": [_line],
    "factors": [_line],
    "celeba picture": [_png],
    "chairs": [_png],
    "images png": [_png, _patched(b"IDAT", -4, b"\x7f\xff\xff\xff")],
    "images jpg": [_patched(b"\xff\xc0", 5, b"\xff\xff\xff\xff")],
    "images bmp": [_patched(18, 0, struct.pack("<ii", 100_000, 100_000))],
    "images gif": [_gif],
    "images tif": [_tif],
    "images webp": [_patched(b"\x9d\x01\x2a", 3, struct.pack("<HH", 16383, 16383))],
    "images ppm": [lambda file: file.write_bytes(b"P6 100000 100000 255\n" + bytes(9000))],
    "weights pth": [_huge_storage],
    "weights safetensors": [_huge_safetensors, _patched(0, 0, struct.pack("<Q", 2**60))],
}
HUGE_CASES = [(name, number) for name, cases in HUGE.items() for number in range(len(cases))]


def _write_weights(file, **changes):
    tensors = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()} | changes
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items() if v is not None}, file)


def _weight_arrays():
    return {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}


def _writer(test, place):
    """The arrays of another test file, and how to write them with changes to a path."""
    return (
        lambda: written_by(test).arrays(),
        lambda file, **changes: written_by(test).write(place(file), **changes),
    )


# The arrays of files that hold some, and how to write others, by reader.
ARRAYS = {
    "dsprites": ("imgs latents_classes", *_writer("test_dsprites", lambda file: file)),
    "3dshapes plain": ("images labels", *_writer("test_three_d_shapes", lambda file: file)),
    "mpi3d stored": ("images", *_writer("test_mpi3d", lambda file: file)),
    "svhn plain": ("X y", *_writer("test_svhn", lambda file: file.parent)),
    "weights pth": ("a.weight a.bias", _weight_arrays, _write_weights),
}
ARRAY_CASES = [(reader, key) for reader, row in ARRAYS.items() for key in row[0].split()]
# In the place of an array.
OTHERS = {
    "absent": lambda array: None,
    "empty": lambda array: array[:0],
    "shorter": lambda array: array[:-1],
    "another rank": lambda array: array[None],
    "flat": lambda array: np.concatenate([array.reshape(-1)] * 2),
    "NaN": lambda array: np.full(array.shape, np.nan),
    "infinite": lambda array: np.full(array.shape, np.inf, np.float32),
    "complex": lambda array: array + 1j,
    "too large": lambda array: np.full(array.shape, 2**40),
    "negative": lambda array: np.full(array.shape, -1, np.int8),
}
