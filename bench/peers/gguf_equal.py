#!/usr/bin/env python3
"""Check that a GGUF file holds exactly the tensors of a Transformers model.

    gguf_equal.py MODEL_DIR_OR_SAFETENSORS MODEL.gguf [--rounded]

The first argument is a model directory (one or more *.safetensors, config.json)
or a single .safetensors file. Every tensor on either side must have its partner
on the other, of the same shape and with the same values: both sides are turned
into float32 and compared as bit patterns, so 0.0 and -0.0 differ, and equal NaNs
are equal. Architectures: qwen2, qwen3, llama.

--rounded rounds the Transformers side to the GGUF tensor's type first, where that
is F16 or BF16: an F16 file made from bfloat16 weights cannot hold the smallest
ones exactly. Quantized tensors are decoded and will normally differ.

The GGUF side is read by gguf-py and decoded by gguf.quants; the SafeTensors side
is read here, as numpy has no bfloat16.

Prints one line per difference and a summary line. Exits with 1 on any difference,
2 if the files cannot be compared at all.
"""

import argparse
import json
import re
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

# Transformers name -> GGUF name, outside the layers and inside them.
TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
LAYER_PATTERN = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")

# Old checkpoints store this table, which follows from the configuration;
# llama.cpp's converter leaves it out.
IGNORED = re.compile(r".*\.rotary_emb\.inv_freq")

ARCHITECTURES = ("qwen2", "qwen3", "llama")


class CannotCompare(Exception):
    """The files are not a pair this script understands."""


def gguf_name(name):
    """The GGUF name of a Transformers tensor, or None if there is none."""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match = LAYER_PATTERN.fullmatch(name)
    if match and match[2] in LAYER_NAMES:
        return f"blk.{int(match[1])}.{LAYER_NAMES[match[2]]}.{match[3]}"
    return None


def open_safetensors(path):
    """Yield (name, dtype, shape, raw bytes) of every tensor in one file."""
    blob = np.memmap(path, dtype=np.uint8, mode="r")
    if len(blob) < 8:
        raise CannotCompare(f"{path}: too short for a SafeTensors file")
    (header_size,) = struct.unpack("<Q", blob[:8].tobytes())
    start = 8 + header_size
    if start > len(blob):
        raise CannotCompare(f"{path}: header longer than the file")
    header = json.loads(blob[8:start].tobytes())
    if not isinstance(header, dict):
        raise CannotCompare(f"{path}: the header is not an object")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, end = entry["data_offsets"]
        if not 0 <= first <= end <= len(blob) - start:
            raise CannotCompare(f"{path}: {name}: data outside the file")
        raw = blob[start + first : start + end]
        yield name, entry["dtype"], tuple(entry["shape"]), raw


def to_float32(dtype, shape, raw):
    """Turn a SafeTensors tensor's bytes into a float32 array, exactly."""
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F16":
        values = raw.view("<f2").astype(np.float32)
    elif dtype == "F32":
        values = raw.view("<f4").astype(np.float32)
    else:
        raise CannotCompare(f"SafeTensors type {dtype} is not supported")
    return values.reshape(shape)


def round_to(values, tensor_type):
    """Round float32 values to a GGUF float type and back to float32."""
    if tensor_type == gguf.GGMLQuantizationType.F16:
        with np.errstate(over="ignore"):  # too large becomes infinity, and is seen
            return values.astype(np.float16).astype(np.float32)
    if tensor_type == gguf.GGMLQuantizationType.BF16:
        bits = values.view(np.uint32).astype(np.uint64)
        # To nearest, ties to even; a NaN only gets its quiet bit set.
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        nearest = np.where(np.isnan(values), (bits | 0x400000) & 0xFFFF0000, nearest)
        return nearest.astype(np.uint32).view(np.float32)
    return values


def undo_permutation(values, heads):
    """Bring the rows of a llama-type q or k projection into Transformers' order.

    Rotary embedding works on pairs of rows of a head. Transformers keeps a pair
    half a head apart, llama.cpp side by side, and its converter reorders the
    rows: row (half, i) of a head becomes row (i, half).
    """
    rows = values.shape[0]
    if heads <= 0 or rows % (2 * heads):
        raise CannotCompare(f"{rows} rows do not divide into {heads} heads")
    pairs = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def metadata(reader, key):
    """A GGUF metadata value; None where the key is absent."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def first_difference(expected, found):
    """(number of elements whose bits differ, index of the first of them)."""
    # reshape(-1) first: a view of another type needs contiguous data.
    a = np.ascontiguousarray(expected).reshape(-1).view(np.uint32)
    b = np.ascontiguousarray(found).reshape(-1).view(np.uint32)
    where = np.flatnonzero(a != b)
    if where.size == 0:
        return 0, None
    return where.size, tuple(int(i) for i in np.unravel_index(where[0], expected.shape))


def compare(source, gguf_path, rounded):
    """Compare the two models. Returns (counts, list of differences)."""
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    # A directory may hold tensors that are no weights of the model; with several
    # shards the index says which files count.
    index = source / "model.safetensors.index.json"
    if source.is_dir() and index.exists():
        names = set(json.loads(index.read_text())["weight_map"].values())
        files = [source / name for name in sorted(names)]
    elif source.is_dir() and (source / "model.safetensors").exists():
        files = [source / "model.safetensors"]
    if not files:
        raise CannotCompare(f"{source}: no .safetensors file")
    config_path = (source if source.is_dir() else source.parent) / "config.json"
    config = json.loads(config_path.read_text()) if config_path.exists() else {}

    reader = gguf.GGUFReader(gguf_path)
    architecture = metadata(reader, "general.architecture")
    if architecture not in ARCHITECTURES:
        raise CannotCompare(f"{gguf_path}: architecture {architecture!r} is not supported")

    # Head counts: the Transformers configuration where there is one, as a wrong
    # count in the GGUF must not hide wrongly ordered rows.
    heads = config.get("num_attention_heads") or metadata(
        reader, f"{architecture}.attention.head_count"
    )
    kv_heads = config.get("num_key_value_heads") or (
        heads if config else metadata(reader, f"{architecture}.attention.head_count_kv") or heads
    )

    problems = []
    counts = {"tensors": 0, "values": 0, "tied": 0, "ignored": 0, "derived": 0}
    partners = {}
    for tensor in reader.tensors:
        if tensor.name in partners:
            problems.append(f"{tensor.name}: twice in the GGUF file")
        partners[tensor.name] = tensor
    seen = set()  # Transformers names
    used = set()  # GGUF names
    embedding = output = None  # raw bytes, for a tied output matrix that is stored

    for path in files:
        for name, dtype, shape, raw in open_safetensors(path):
            if IGNORED.fullmatch(name):
                counts["ignored"] += 1
                continue
            if name in seen:
                problems.append(f"{name}: twice in the SafeTensors files")
            seen.add(name)
            if name == "model.embed_tokens.weight":
                embedding = raw
            target = gguf_name(name)
            if target is None:
                problems.append(f"{name}: no GGUF name is known for it")
                continue
            if target not in partners:
                if name == "lm_head.weight":
                    output = raw  # fine if it repeats the embedding: decided below
                else:
                    problems.append(f"{name}: the GGUF file has no {target}")
                continue
            used.add(target)
            tensor = partners[target]
            # GGUF lists the fastest running dimension first.
            found_shape = tuple(int(n) for n in reversed(tensor.shape))
            if found_shape != shape:
                problems.append(f"{name}: shape {list(shape)}, {target} has {list(found_shape)}")
                continue
            expected = to_float32(dtype, shape, raw)
            if rounded:
                expected = round_to(expected, tensor.tensor_type)
            found = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
            if architecture == "llama" and ".attn_q." in target:
                found = undo_permutation(found, heads)
            elif architecture == "llama" and ".attn_k." in target:
                found = undo_permutation(found, kv_heads)
            counts["tensors"] += 1
            counts["values"] += expected.size
            number, at = first_difference(expected, found)
            if number:
                problems.append(
                    f"{name}: {number} of {expected.size} values differ from {target} "
                    f"({tensor.tensor_type.name}), first at {list(at)}: "
                    f"{expected[at]:.9g} and {found[at]:.9g}"
                )

    if output is not None:
        if embedding is not None and np.array_equal(output, embedding):
            counts["tied"] += 1
        else:
            problems.append("lm_head.weight: the GGUF file has no output.weight")

    # The other way round. What was not used above has no partner.
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    for name in partners:
        if name in used:
            continue
        if name == "rope_freqs.weight" and scaling.get("rope_type") == "llama3":
            # The converter computes this table from the configuration.
            counts["derived"] += 1
        elif name == "output.weight" and "token_embd.weight" in used and tied_copy(partners):
            # Transformers ties the two, the GGUF file holds both, equal.
            counts["tied"] += 1
        else:
            problems.append(f"{name}: only in the GGUF file")
    return counts, problems


def tied_copy(partners):
    """True if the GGUF file's output matrix repeats its token embedding."""
    a, b = partners["output.weight"], partners["token_embd.weight"]
    return a.tensor_type == b.tensor_type and np.array_equal(a.data, b.data)


def main():
    parser = argparse.ArgumentParser(
        description="Check that a GGUF file holds exactly the tensors of a Transformers model."
    )
    parser.add_argument("source", type=Path, help="model directory or .safetensors file")
    parser.add_argument("gguf", type=Path, help="GGUF file")
    parser.add_argument(
        "--rounded",
        action="store_true",
        help="round the Transformers values to the GGUF tensor's F16 or BF16 first",
    )
    arguments = parser.parse_args()
    try:
        counts, problems = compare(arguments.source, arguments.gguf, arguments.rounded)
    except CannotCompare as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # noqa: BLE001 - broken files make the readers raise anything
        print(f"cannot compare: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"DIFFERENT {problem}")
    print(
        f"{'DIFFERENT' if problems else 'equal'}: "
        f"{counts['tensors']} tensors, {counts['values']} values compared, "
        f"{len(problems)} differences; not compared: {counts['tied']} tied, "
        f"{counts['ignored']} ignored, {counts['derived']} derived"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
