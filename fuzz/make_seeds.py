"""Writes the smallest models that use each part of the formats into corpus/, as a start for the fuzzers.

    python3 make_seeds.py

Written from the texts of the formats, without this project's writers. Besides these files (seed_*), the corpus holds
what the fuzzers added, starting from them and from ../fixtures/malformed.
"""

import json
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).parent
F32, F16, Q8_0 = 0, 1, 8
U16, U32, I32, FLOAT, BOOL, STR, ARRAY = 2, 4, 5, 6, 7, 8, 9
SIZES = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34)}


def text(s, order="<"):
    b = s.encode()
    return struct.pack(order + "Q", len(b)) + b


def size(dtype, dims):
    n = 1
    for d in dims:
        n *= d
    block, nbytes = SIZES[dtype]
    return n // block * nbytes


def data(dtype, dims, seed):
    n = size(dtype, dims)
    if dtype == F32:
        return b"".join(struct.pack("<f", ((i * 7 + seed) % 13) / 8 - 0.75) for i in range(n // 4))
    return bytes((i * 31 + seed) % 120 for i in range(n))


def gguf(pairs, tensors, version=3, tail=b"", order="<"):
    """`tensors`: name, dtype, row-major dims. `order` is that of the header; the data is the same bytes in either."""
    out = struct.pack(order + "4sIQQ", b"GGUF", version, len(tensors), len(pairs))
    for key, kind, value in pairs:
        out += text(key, order) + struct.pack(order + "I", kind)
        if kind == STR:
            out += text(value, order)
        elif kind == ARRAY:
            element, items = value
            out += struct.pack(order + "IQ", element, len(items))
            form = {I32: "i", FLOAT: "f", U32: "I"}
            out += b"".join(
                text(i, order) if element == STR else struct.pack(order + form[element], i) for i in items)
        else:
            out += struct.pack(order + {U16: "H", U32: "I", I32: "i", FLOAT: "f", BOOL: "B"}[kind], value)
    body, offset = b"", 0
    for i, (name, dtype, dims) in enumerate(tensors):
        out += text(name, order) + struct.pack(order + "I", len(dims))
        out += b"".join(struct.pack(order + "Q", d) for d in reversed(dims))
        out += struct.pack(order + "IQ", dtype, offset)
        body += data(dtype, dims, i)
        body += bytes(-len(body) % 32)
        offset = len(body)
    return out + bytes(-len(out) % 32) + body + tail


def model_pairs(arch):
    counts = {
        "block_count": 1, "context_length": 64, "embedding_length": 32, "feed_forward_length": 32,
        "attention.head_count": 2, "attention.head_count_kv": 1,
    }
    pairs = [("general.architecture", STR, arch), ("general.name", STR, "seed")]
    pairs += [(f"{arch}.{key}", U32, n) for key, n in counts.items()]
    pairs += [(f"{arch}.rope.freq_base", FLOAT, 10000.0), (f"{arch}.attention.layer_norm_rms_epsilon", FLOAT, 1e-6)]
    return pairs


def layer(prefix, names, bias):
    shapes = {"q": [32, 32], "k": [16, 32], "v": [16, 32], "o": [32, 32], "gate": [32, 32], "up": [32, 32],
              "down": [32, 32], "norm1": [32], "norm2": [32]}
    tensors = [(f"{prefix}{names[key]}.weight", F32 if "norm" in key else Q8_0, dims) for key, dims in shapes.items()]
    if bias:
        tensors += [(f"{prefix}{names[key]}.bias", F32, [shapes[key][0]]) for key in "qkv"]
    return tensors


GGUF_NAMES = dict(q="attn_q", k="attn_k", v="attn_v", o="attn_output", gate="ffn_gate", up="ffn_up", down="ffn_down",
                  norm1="attn_norm", norm2="ffn_norm")
HF_NAMES = dict(q="self_attn.q_proj", k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj",
                gate="mlp.gate_proj", up="mlp.up_proj", down="mlp.down_proj", norm1="input_layernorm",
                norm2="post_attention_layernorm")
BPE = ["a", "b", "ab", "<|im_end|>"]
SPM = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "\u2581a"]


def split(no, count, n_tensors):
    return [("split.no", U16, no), ("split.count", U16, count), ("split.tensors.count", I32, n_tensors)]


def gguf_seeds():
    outer = [("token_embd.weight", F16, [4, 32]), ("output_norm.weight", F32, [32])]
    bpe = [("tokenizer.ggml.model", STR, "gpt2"), ("tokenizer.ggml.pre", STR, "qwen2"),
           ("tokenizer.ggml.tokens", ARRAY, (STR, BPE)), ("tokenizer.ggml.token_type", ARRAY, (I32, [1, 1, 1, 3])),
           ("tokenizer.ggml.merges", ARRAY, (STR, ["a b"])), ("tokenizer.ggml.eos_token_id", U32, 3),
           ("tokenizer.ggml.add_bos_token", BOOL, 0), ("tokenizer.chat_template", STR, "{{ messages }}")]
    spm = [("tokenizer.ggml.model", STR, "llama"), ("tokenizer.ggml.tokens", ARRAY, (STR, SPM)),
           ("tokenizer.ggml.scores", ARRAY, (FLOAT, [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0])),
           ("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 6, 1, 1, 1])),
           ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2),
           ("tokenizer.ggml.unknown_token_id", U32, 0), ("llama.vocab_size", U32, 8),
           ("llama.rope.dimension_count", U32, 16), ("general.alignment", U32, 32)]
    small = [("token_embd.weight", F32, [4, 2]), ("blk.0.attn_q.weight", F32, [16, 2]), ("x", F32, [1])]
    return {
        "qwen2": gguf(model_pairs("qwen2") + bpe, outer + layer("blk.0.", GGUF_NAMES, True)),
        "llama": gguf(model_pairs("llama") + spm, [("token_embd.weight", F16, [8, 32])] + layer("blk.0.", GGUF_NAMES, False)),
        "qwen2_small": gguf(model_pairs("qwen2") + bpe, small),
        "llama_small": gguf(model_pairs("llama") + spm, small, version=2),
        "llama_big_endian": gguf(model_pairs("llama") + spm, small, order=">"),
        "qwen2_big_endian_v2": gguf(model_pairs("qwen2") + bpe, outer + layer("blk.0.", GGUF_NAMES, True), 2, order=">"),
        "split_part": gguf(model_pairs("qwen2") + split(0, 2, 6), small),
        "split_merged": gguf(model_pairs("qwen2") + split(0, 0, 3), small),
        "no_tokenizer": gguf(model_pairs("qwen2"), small, tail=b"tail" * 20),
        "no_tensors": gguf(model_pairs("qwen2") + bpe + [("qwen2.vocab_size", U32, 4)], []),
        "no_data": gguf(model_pairs("llama"), [("token_embd.weight", F32, [4, 0]), ("x", F32, [0])]),
    }


def safetensors(tensors, metadata=None, packed=()):
    names = {F32: "F32", F16: "F16", Q8_0: "Q8_0"}
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for i, (name, dtype, dims) in enumerate(tensors):
        chunk = data(dtype, dims, i)
        stored = dims if dtype != Q8_0 else dims[:-1] + [dims[-1] // 32 * 34]
        header[name] = {"dtype": "U8" if dtype == Q8_0 else names[dtype], "shape": stored,
                        "data_offsets": [len(body), len(body) + len(chunk)]}
        body += chunk
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(head)) + head + body


def safetensors_seeds():
    small = [("model.embed_tokens.weight", F32, [4, 2]), ("model.layers.0.self_attn.q_proj.bias", F16, [16]), ("x", F32, [])]
    q8 = [("model.layers.0.mlp.up_proj.weight", Q8_0, [2, 32])]
    packed = json.dumps({q8[0][0]: {"dtype": "q8_0", "shape": [2, 32]}}, separators=(",", ":"))
    return {
        "small": safetensors(small, {"format": "pt"}),
        "packed": safetensors(q8, {"format": "pt", "apr.packed": packed}),
        "empty_tensor": safetensors([("a", F32, [0]), ("b", F32, [2]), ("c", F16, [3, 0])]),
        "layer": safetensors(layer("model.layers.0.", HF_NAMES, True)[7:]),
    }


def apr(metadata, tensors, magic=b"APR\0", checksums=False):
    meta = json.dumps(metadata, separators=(",", ":")).encode()
    index, body = b"", b""
    crcs = []
    for i, (name, dtype, dims) in enumerate(sorted(tensors)):
        chunk = data(dtype, dims, i)
        crcs.append(zlib.crc32(chunk))
        index += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BB", dtype, len(dims))
        index += b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<QQ", len(body), len(chunk))
        body += chunk + bytes(-len(chunk) % 64)
    index_at = (64 + len(meta) + 63) // 64 * 64
    data_at = (index_at + len(index) + 63) // 64 * 64
    head = struct.pack("<4sBBHIQIQQ", magic, 2, 0, 0x0400, len(tensors), 64, len(meta), index_at, data_at)
    head += struct.pack("<I", zlib.crc32(head + bytes(20))) + bytes(20)
    out = (head + meta).ljust(index_at, b"\0") + index
    out = out.ljust(data_at, b"\0") + body
    if checksums:
        out += b"APRCRC32" + b"".join(struct.pack("<I", crc) for crc in crcs)
    return out + struct.pack("<I", zlib.crc32(out))


def apr_seeds():
    meta = {"model_type": "qwen2", "architecture": "qwen2", "hidden_size": 32, "num_layers": 1, "num_heads": 2,
            "num_kv_heads": 1, "vocab_size": 4, "intermediate_size": 32, "max_position_embeddings": 64,
            "rope_theta": 10000.0, "rope_type": 2, "rms_norm_eps": 1e-6}
    bpe = {"chat_template": "{{ messages }}", "tokenizer.model": "gpt2", "tokenizer.pre": "qwen2",
           "tokenizer.vocabulary": BPE, "tokenizer.token_types": [1, 1, 1, 3], "tokenizer.merges": ["a b"],
           "tokenizer.eos_token_id": 3, "tokenizer.add_bos_token": False}
    small = [("model.embed_tokens.weight", F32, [4, 2]), ("model.layers.0.self_attn.q_proj.weight", F16, [16, 2]),
             ("model.layers.0.self_attn.k_proj.bias", F32, [16])]
    return {
        "small": apr(meta | bpe, small, checksums=True),
        "old_magic": apr(meta | {"rope_type": 0}, small, magic=b"APR2"),
        "llama": apr(meta | {"architecture": "llama", "model_type": "llama"}, small),
        "layer": apr(meta | bpe, layer("model.layers.0.", HF_NAMES, True)[5:], checksums=True),
        "no_tensors": apr(meta, []),
    }


def main():
    seeds = {"gguf": gguf_seeds(), "safetensors": safetensors_seeds(), "apr": apr_seeds()}
    for target, files in seeds.items():
        for folder in (target, "roundtrip"):
            (HERE / "corpus" / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (HERE / "corpus" / target / f"seed_{name}").write_bytes(content)
            (HERE / "corpus" / "roundtrip" / f"seed_{target}_{name}").write_bytes(content)


if __name__ == "__main__":
    main()
