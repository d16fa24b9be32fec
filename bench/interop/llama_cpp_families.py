"""Whether llama.cpp computes from our GGUF, bit for bit, what it computes from its own converter's, family by family; and
whether we read its converter's files and give them back.

    PYTHON bench/interop/llama_cpp_families.py APR DIR [NAME...]      (needs torch, transformers, numpy, safetensors)

DIR is where `bench/peers/build_llama_cpp.sh` built llama.cpp. For each model of `fixtures/families/` (or those named):

- convert_hf_to_gguf.py and `apr rosetta convert --no-capsule` make a file in BF16. llama.cpp's logits for the prompts of
  NAME.golden.json must be the same bytes. How far they are from Transformers' logits is printed beside it.
- The script's files in f32, f16, bf16 and q8_0 must be read by `apr`, come back from APR with the same SHA-256, and in f32
  and bf16 hold the original's values.

The models have no tokenizer, and the script is told to write none.
A family that one of the two can't convert, or that llama.cpp doesn't load, is reported with what it says. Exit status 1 if
anything differs.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

FAMILIES = Path(__file__).resolve().parents[2] / "fixtures/families"
TYPES = ("f32", "f16", "bf16", "q8_0")

# The script with another vocabulary: none.
WITHOUT_VOCABULARY = """
import sys
sys.path.insert(0, sys.argv[1])
import convert_hf_to_gguf as script
find = script.get_model_class
def found(*arguments, **named):
    cls = find(*arguments, **named)
    def set_vocab(self):
        self._set_vocab_none()
        self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])
    return type(cls.__name__, (cls,), {"set_vocab": set_vocab, "model_arch": cls.model_arch})
script.get_model_class = found
sys.argv = ["convert_hf_to_gguf.py", *sys.argv[2:]]
script.main()
"""


def run(*command) -> str | None:
    """What went wrong, if anything."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    told = [line for line in lines if "rror" in line]
    return (told or lines or [f"status {done.returncode}"])[-1].strip()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Family:
    def __init__(self, apr: Path, peer: Path, directory: Path, work: Path):
        self.apr, self.peer, self.directory, self.work = apr, peer, directory, work
        golden = directory.parent / f"{directory.name}.golden"
        prompts = json.loads(golden.with_name(f"{golden.name}.json").read_text())["prompts"]
        self.prompts = {prompt["id"]: prompt["ids"] for prompt in prompts}
        # What the script looks for although it has no use for it here.
        self.copy = work / "model"
        shutil.copytree(directory, self.copy)
        config = json.loads((directory / "config.json").read_text())
        config.setdefault("n_ctx", config.get("n_positions", config.get("max_position_embeddings")))
        (self.copy / "config.json").write_text(json.dumps(config))
        tokens = {str(index): index for index in range(config["vocab_size"])}
        (self.copy / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}, "added_tokens": []}))
        self.golden = load_file(golden.with_name(f"{golden.name}.safetensors"))

    def theirs(self, kind: str) -> tuple[Path, str | None]:
        path = self.work / f"theirs-{kind}.gguf"
        script = ("-c", WITHOUT_VOCABULARY, self.peer / "source", self.copy)
        return path, run(sys.executable, *script, "--outfile", path, "--outtype", kind)

    def ours(self) -> tuple[Path, str | None]:
        path = self.work / "ours.gguf"
        return path, run(self.apr, "rosetta", "convert", self.directory, path, "--no-capsule")

    def logits(self, path: Path, ids: list[int]) -> tuple[np.ndarray | None, str | None]:
        out = self.work / "logits.bin"
        wrong = run(self.peer / "logits", path, ",".join(map(str, ids)), out)
        return (None, wrong) if wrong else (np.fromfile(out, dtype=np.float32).reshape(len(ids), -1), None)

    def stated_by_us_alone(self, theirs: Path, ours: Path) -> dict[str, int]:
        sys.path.insert(0, str(self.peer / "source/gguf-py"))
        from gguf import GGUFReader

        (a, b) = ({key: field.contents() for key, field in GGUFReader(path).fields.items()} for path in (theirs, ours))
        return {key: b[key] for key in b if key not in a and not key.startswith("apr.") and isinstance(b[key], int)}

    def same_logits(self) -> tuple[bool, str]:
        (theirs, their_wrong), (ours, our_wrong) = self.theirs("bf16"), self.ours()
        if their_wrong or our_wrong:
            return True, f"not compared: {'llama.cpp: ' + their_wrong if their_wrong else 'apr: ' + our_wrong}"[:200]
        worst, remark = 0.0, ""
        for name, ids in self.prompts.items():
            (a, a_wrong), (b, b_wrong) = self.logits(theirs, ids), self.logits(ours, ids)
            if a_wrong and b_wrong:
                return True, f"llama.cpp loads neither file: {a_wrong}"
            if a_wrong or b_wrong:
                return False, f"llama.cpp loads one of the two files: {'theirs' if a_wrong else 'ours'}: {a_wrong or b_wrong}"
            if a.tobytes() != b.tobytes():
                # Is it what our file states and theirs leaves to llama.cpp's default?
                stated = self.stated_by_us_alone(theirs, ours)
                sets = [argument for key, value in stated.items() for argument in ("--set", f"{key}:u32={value}")]
                wrong = run(self.apr, "edit", theirs, *sets) if stated else "no key explains it"
                a, a_wrong = (None, wrong) if wrong else self.logits(theirs, ids)
                if a_wrong or a.tobytes() != b.tobytes():
                    return False, f"{name}: logits differ; {a_wrong or stated}"
                remark = f" once {', '.join(stated)} is in theirs"
            golden = self.golden[name]
            worst = max(worst, float(np.abs(a - golden).max() / np.abs(golden).max()))
        return True, f"same bits for {len(self.prompts)} prompts{remark} ({worst:.1e} of the largest logit from Transformers')"

    def read(self, kind: str) -> tuple[bool, str]:
        path, wrong = self.theirs(kind)
        if wrong:
            return True, "-"
        apr, back = self.work / f"{kind}.apr", self.work / f"{kind}-back.gguf"
        if kind in ("f32", "bf16"):
            compared = [self.apr, "rosetta", "diff-tensors", path, self.directory, "--values"]
            done = subprocess.run(compared, capture_output=True, text=True, check=False)
            # A file with rotary factors has one tensor more.
            if done.returncode != 0 and "no value differs" not in done.stdout:
                return False, f"{kind}: {(done.stdout or done.stderr).strip().splitlines()[0]}"
        for command in (("rosetta", "convert", path, apr), ("rosetta", "convert", apr, back)):
            wrong = run(self.apr, *command)
            if wrong and "along which blocks would be other blocks" in wrong:
                return True, f"{kind} refused (it stores columns as rows)"
            if wrong:
                return False, f"{kind}: {wrong}"
        return digest(path) == digest(back), "ok" if digest(path) == digest(back) else f"{kind}: other bytes"


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    apr, peer = (Path(argument).resolve() for argument in sys.argv[1:3])
    names = sys.argv[3:] or sorted(path.name for path in FAMILIES.iterdir() if path.is_dir())
    all_sound = True
    for name in names:
        with tempfile.TemporaryDirectory() as work:
            family = Family(apr, peer, FAMILIES / name, Path(work))
            same, said = family.same_logits()
            read = [family.read(kind) for kind in TYPES]
            all_sound &= same and all(sound for sound, _ in read)
            verdict = "" if same and all(sound for sound, _ in read) else "FAILED "
            print(f"{name:<18} {verdict}{said}; read back {', '.join(text for _, text in read)}", flush=True)
    sys.exit(0 if all_sound else 1)


main()
