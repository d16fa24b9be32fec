#!/usr/bin/env python3
"""Reads an APR file from what docs/apr-format.md says, with the standard library alone.

    read_apr.py FILE           prints one line per tensor: name, dtype, shape, bytes, CRC32 of the data
    read_apr.py FILE TENSOR    prints the values of a tensor, one a line

FILE may be the manifest of a model in several files.

Every checksum and every bound is checked. A file that breaks a rule ends the program with the reason and status 1.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

HEADER_BYTES = 64
ALIGNMENT = 64
METADATA_BYTES_MAX = 16 << 20
REFUSED_FLAGS = {
    0x0001: "LZ4 compression",
    0x0002: "ZSTD compression",
    0x0004: "encryption",
    0x0800: "column-major tensors",
}
# id: (name, elements of a block, bytes of a block)
DTYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
    19: ("IQ1_S", 256, 50), 29: ("IQ1_M", 256, 56), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    22: ("IQ2_S", 256, 82), 18: ("IQ3_XXS", 256, 98), 21: ("IQ3_S", 256, 110), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
    9: ("Q8_1", 32, 36), 15: ("Q8_K", 256, 292), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 160: ("U8", 1, 1), 161: ("U16", 1, 2), 162: ("U32", 1, 4),
    163: ("U64", 1, 8), 164: ("BOOL", 1, 1), 165: ("F8_E4M3", 1, 1), 166: ("F8_E5M2", 1, 1), 167: ("F8_E8M0", 1, 1),
    168: ("F8_E4M3FNUZ", 1, 1), 169: ("F8_E5M2FNUZ", 1, 1), 170: ("F4", 2, 1), 171: ("F6_E2M3", 4, 3),
    172: ("F6_E3M2", 4, 3), 173: ("C64", 1, 8),
}  # fmt: skip


def require(holds, reason):
    if not holds:
        sys.exit(f"error: {reason}")


class Tensor:
    def __init__(self, name, dtype, dims, start, size):
        self.name, self.dims, self.start, self.size = name, dims, start, size
        self.dtype, self.block_elements, self.block_bytes = DTYPES[dtype]


def read(data):
    """Metadata and tensors of a file, checked."""
    require(len(data) >= HEADER_BYTES, "shorter than a header")
    require(data[:4] in (b"APR\0", b"APR2"), f"magic {data[:4]!r}")
    major, _minor, flags, n_tensors = struct.unpack_from("<BBHI", data, 4)
    metadata_at, metadata_bytes, index_at, data_at, checksum = struct.unpack_from("<QIQQI", data, 12)
    require(major == 2, f"version {major}")
    require(zlib.crc32(data[:40] + data[44:64]) == checksum, "the header's checksum is wrong")
    for bit, what in REFUSED_FLAGS.items():
        require(not flags & bit, f"{what} are not read")
    require(metadata_bytes <= METADATA_BYTES_MAX, "too much metadata")
    in_order = HEADER_BYTES <= metadata_at and metadata_at + metadata_bytes <= index_at <= data_at <= len(data)
    require(in_order, "sections out of order")
    metadata = json.loads(data[metadata_at : metadata_at + metadata_bytes])

    tensors, at = [], index_at

    def take(form):
        nonlocal at
        require(at + struct.calcsize(form) <= data_at, "the index runs into the data")
        values = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return values

    for _ in range(n_tensors):
        name = take(f"{take('<H')[0]}s")[0].decode("utf-8")
        dtype, n_dims = take("<BB")
        dims = take(f"<{n_dims}Q")
        offset, size = take("<QQ")
        require(dtype in DTYPES, f"{name}: dtype {dtype}")
        require(n_dims <= 8, f"{name}: {n_dims} dimensions")
        require(offset % ALIGNMENT == 0, f"{name}: offset {offset}")
        require(data_at + offset + size <= len(data), f"{name}: its data lies behind the end")
        tensor = Tensor(name, dtype, dims, data_at + offset, size)
        elements = 1
        for dim in dims:
            elements *= dim
        row = dims[-1] if dims else 1
        require(row % tensor.block_elements == 0, f"{name}: rows of {row} are not whole blocks")
        require(size == elements // tensor.block_elements * tensor.block_bytes, f"{name}: {size} bytes")
        tensors.append(tensor)
    require(len({tensor.name for tensor in tensors}) == n_tensors, "a name appears twice")

    # Behind the data: a table of checksums in files of this project, then the checksum of the file.
    end = max((tensor.start + tensor.size for tensor in tensors), default=data_at)
    table = -(-end // ALIGNMENT) * ALIGNMENT
    if data[table : table + 8] == b"APRCRC32":
        stated = struct.unpack_from(f"<{n_tensors}I", data, table + 8)
        for tensor, crc in zip(sorted(tensors, key=lambda tensor: tensor.start), stated):
            found = zlib.crc32(data[tensor.start : tensor.start + tensor.size])
            require(found == crc, f"{tensor.name}: checksum {crc:08x}, its bytes give {found:08x}")
    require(len(data) >= end + 4, "no checksum of the file")
    (stated,) = struct.unpack_from("<I", data, len(data) - 4)
    require(zlib.crc32(data[:-4]) == stated, "the file's checksum is wrong")
    return metadata, tensors


def values(data, tensor):
    """The numbers of a tensor, row by row."""
    stored = data[tensor.start : tensor.start + tensor.size]
    if tensor.dtype in ("F32", "F16"):
        return [value for (value,) in struct.iter_unpack("<f" if tensor.dtype == "F32" else "<e", stored)]
    if tensor.dtype == "BF16":
        # The upper half of the bits of an F32.
        return [struct.unpack("<f", b"\0\0" + stored[i : i + 2])[0] for i in range(0, tensor.size, 2)]
    numbers = []
    for at in range(0, tensor.size, tensor.block_bytes):
        block = stored[at : at + tensor.block_bytes]
        (scale,) = struct.unpack_from("<e", block)
        if tensor.dtype == "Q8_0":
            numbers += [scale * q for q in struct.unpack_from("<32b", block, 2)]
        elif tensor.dtype == "Q4_0":
            # Low halves of the bytes are the first 16 values, high halves the others.
            numbers += [scale * ((q & 15) - 8) for q in block[2:]] + [scale * ((q >> 4) - 8) for q in block[2:]]
        else:
            sys.exit(f"error: {tensor.name}: values of {tensor.dtype} are not decoded here")
    return numbers


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    path = Path(sys.argv[1])
    files = [path]
    if path.suffix == ".json":
        files = [path.with_name(name) for name in sorted(set(json.loads(path.read_text())["weight_map"].values()))]
    for file in files:
        data = file.read_bytes()
        metadata, tensors = read(data)
        if len(sys.argv) == 2:
            print(metadata.get("architecture"), f"{len(tensors)} tensors")
        for tensor in tensors:
            if len(sys.argv) == 2:
                crc = zlib.crc32(data[tensor.start : tensor.start + tensor.size])
                print(tensor.name, tensor.dtype, list(tensor.dims), tensor.size, f"{crc:08x}")
            elif tensor.name == sys.argv[2]:
                print("\n".join(repr(value) for value in values(data, tensor)))
                return
    require(len(sys.argv) == 2, f"no tensor is called {sys.argv[-1]}")


main()
