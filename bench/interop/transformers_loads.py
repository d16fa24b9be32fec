"""Whether Transformers loads what `apr` makes of a GGUF file, and computes what it computes from the original.

    PYTHON bench/interop/transformers_loads.py APR [NAME...]          (needs transformers, torch, tokenizers, safetensors)

For each model of `models/` and `fixtures/families/` (or those named): the original directory becomes GGUF, and that a
directory again, by `apr rosetta convert --no-capsule`, so that every companion file is written from what GGUF says and
none is given back from a recipe; once more in several files, with `--shard-size 16KB`. For `models/`, the files of
llama.cpp in F32, F16 and BF16 go the same way. Then `AutoModelForCausalLM.from_pretrained` and
`AutoTokenizer.from_pretrained` load both directories: logits in float32 must be within 1e-4. Where the original has a
tokenizer, texts must get the ids that the tokenizers library finds by its tokenizer.json, and the same text and the same
chat come back. (The classes of some tokenizers, LlamaTokenizer for one, set parts of that file aside in Transformers 5; a
remark says so.)

F16 and BF16 are compared with the original's weights rounded to them. A family that GGUF can't hold is reported as refused,
with what `apr` says. Exit status 1 if anything differs.
"""

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors
import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
TEXTS = [
    "Hello, world!",
    "  two spaces\n\nand lines\t",
    "Grüße → 数字 12345 it's",
    "def f(x):\n    return x + 1",
    "",
]
CHAT = [{"role": "user", "content": "What is 2+2?"}]


def convert(apr: Path, source: Path, target: Path, *arguments: str) -> str | None:
    """What went wrong, if anything."""
    command = [apr, "rosetta", "convert", source, target, "--no-capsule", "--to", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[0]


def load(directory: Path, rounded_to: torch.dtype | None = None) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    if rounded_to is not None:
        for name, parameter in model.named_parameters():
            # llama.cpp keeps vectors in float32.
            if parameter.dim() > 1:
                parameter.data = parameter.data.to(rounded_to).float()
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, model.config.vocab_size, (1, 24), generator=generator)
    with torch.no_grad():
        return model(ids).logits[0]


def tokenizer_differences(original: Path, copy: Path) -> tuple[list[str], str]:
    """What is different, and a remark."""
    a, b = AutoTokenizer.from_pretrained(original), AutoTokenizer.from_pretrained(copy)
    stated = tokenizers.Tokenizer.from_file(str(original / "tokenizer.json"))
    found, n_of_class = [], 0
    for text in TEXTS:
        ids = stated.encode(text).ids
        n_of_class += a(text)["input_ids"] != ids
        if ids != b(text)["input_ids"]:
            found.append(f"{text!r}: {ids} against {b(text)['input_ids']}")
        elif stated.decode(ids, skip_special_tokens=False) != b.decode(ids):
            found.append(f"{text!r} decodes to another text")
    if a.chat_template:
        chats = [t.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True) for t in (a, b)]
        if chats[0] != chats[1]:
            found.append("another chat")
    if a.eos_token_id != b.eos_token_id:
        found.append(f"ends at {a.eos_token_id} against {b.eos_token_id}")
    remark = f" ({type(a).__name__} makes other ids of {n_of_class} texts than tokenizer.json)" if n_of_class else ""
    return found, remark


def check(label: str, original: Path, copy: Path, rounded_to: torch.dtype | None = None) -> bool:
    try:
        difference = (logits(load(original, rounded_to)) - logits(load(copy))).abs().max().item()
        has_tokenizer = (original / "tokenizer.json").exists()
        found, remark = tokenizer_differences(original, copy) if has_tokenizer else ([], "")
    except Exception as error:  # Whatever Transformers raises is the result.
        print(f"{label:36} FAILED  {type(error).__name__}: {str(error).splitlines()[0]}")
        return False
    ok = difference <= TOLERANCE and not found
    tokens = "; ".join(found) or ("tokenizer same" if has_tokenizer else "no tokenizer")
    print(f"{label:36} {'ok' if ok else 'FAILED':7} max |Δlogit| {difference:.2e}  {tokens}{remark}")
    return ok


def main() -> int:
    apr, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    version = subprocess.run([apr, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}, transformers {transformers.__version__}, torch {torch.__version__}", end="")
    print(f", tokenizers {tokenizers.__version__}, safetensors {safetensors.__version__}", end="")
    print(f", Python {platform.python_version()}, {platform.machine()}")
    originals = [path for root in ["models", "fixtures/families"] for path in sorted((REPOSITORY / root).iterdir())]
    originals = [path for path in originals if (path / "config.json").exists()]
    n_checked = n_failed = n_refused = 0
    for original in originals:
        if wanted and original.name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as work:
            sources = [(original.name, original, None), (f"{original.name} in several files", original, None)]
            for name, dtype in [("F32", None), ("F16", torch.float16), ("BF16", torch.bfloat16)]:
                path = original / f"gguf/{original.name}-{name}.gguf"
                sources += [(path.name, path, dtype)] if path.exists() else []
            for index, (label, source, dtype) in enumerate(sources):
                gguf, copy = Path(work) / f"{index}.gguf", Path(work) / f"copy-{index}"
                refused = convert(apr, source, gguf, "gguf") if source.is_dir() else None
                if refused:
                    n_refused += 1
                    print(f"{label:36} refused {refused}")
                    continue
                shards = ["--shard-size", "16KB"] if label.endswith("several files") else []
                wrong = convert(apr, gguf if source.is_dir() else source, copy, "safetensors", *shards)
                if shards and not wrong and len(list(copy.glob("model-0*.safetensors"))) < 2:
                    wrong = "one file"
                n_checked += 1
                if wrong:
                    print(f"{label:36} FAILED  {wrong}")
                n_failed += bool(wrong) or not check(label, original, copy, dtype)
    print(f"{n_checked} checked, {n_failed} failed, {n_refused} refused by name")
    return int(n_failed > 0 or n_checked == 0)


if __name__ == "__main__":
    sys.exit(main())
