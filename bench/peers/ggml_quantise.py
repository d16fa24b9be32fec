"""ggml's quantisers on a file of values: root mean squared error and processor time per value.

    python ggml_quantise.py LIBGGML_BASE VALUES COLUMNS [IMPORTANCE]      (needs the packages gguf and numpy)

VALUES and IMPORTANCE hold little-endian f32; where VALUES does not exist, both are made: 512 normal rows, and for the
columns the 1.5th power of squared normal numbers. The same files go to this project's encoders:

    cargo run --release -p apr-tensor --example quantise_error VALUES COLUMNS [IMPORTANCE]
"""

import ctypes
import sys
import time
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]


def main() -> None:
    library, values_path, columns, *rest = sys.argv[1:]
    columns = int(columns)
    if not Path(values_path).exists():
        np.random.default_rng(2).normal(size=(512, columns)).astype("<f4").tofile(values_path)
        for path in rest:
            (np.random.default_rng(3).chisquare(1, columns) ** 1.5).astype("<f4").tofile(path)
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    values = np.fromfile(values_path, "<f4").reshape(-1, columns)
    importance = np.fromfile(rest[0], "<f4") if rest else np.ones(columns, "<f4")
    pointer = lambda array: array.ctypes.data_as(ctypes.c_void_p)
    rows, none = ctypes.c_int64(len(values)), ctypes.c_int64(0)
    for name in TYPES:
        qtype = GGMLQuantizationType[name]
        block_elements, block_bytes = GGML_QUANT_SIZES[qtype]
        encoded = np.zeros((len(values), columns // block_elements * block_bytes), np.uint8)
        weights = pointer(importance) if rest else None
        started = time.process_time()
        ggml.ggml_quantize_chunk(
            ctypes.c_int(qtype), pointer(values), pointer(encoded), none, rows, ctypes.c_int64(columns), weights
        )
        ns = (time.process_time() - started) / values.size * 1e9
        squares = (dequantize(encoded, qtype).astype(np.float64) - values) ** 2
        weighted = (squares * importance).sum() / (importance.sum(dtype=np.float64) * len(values))
        print(f"{name:7} rmse {squares.mean() ** 0.5:.6e} wrmse {weighted ** 0.5:.6e} {ns:.1f} ns")


main()
