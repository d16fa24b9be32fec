#!/usr/bin/env python3
"""Compare llama.cpp's greedy tokens with golden ones.

    llama_greedy.py --oracle PROGRAM MODEL.gguf GOLDEN.json

PROGRAM is what build_llama_cpp.sh makes from greedy.cpp; it is started once for each
prompt. golden.py says what is compared.

The type of the GGUF file matters: llama.cpp rounds the activations to the weights'
type before it multiplies. F32 and F16 files follow a float32 reference closely; a
BF16 file can differ at margins of a few hundredths (use a larger --margin), and
quantized files differ by their nature.

Exits with 1 if any token differs, 2 if the comparison could not be made.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import golden


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="GGUF file")
    parser.add_argument("--oracle", type=Path, required=True, help="program that generates")
    golden.arguments(parser)
    options = parser.parse_args()
    # A bare file name would be looked up in PATH otherwise.
    program = options.oracle.resolve()

    def generate(entry, number):
        ids = ",".join(map(str, entry["ids"]))
        command = [program, options.model, ids, str(number), str(options.threads)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"status {result.returncode}: {result.stderr.strip()}")
        found = json.loads(result.stdout)
        if len(found) != number:
            raise RuntimeError(f"{len(found)} ids printed instead of {number}")
        return found

    return golden.compare(options.golden, options.margin, generate)


if __name__ == "__main__":
    sys.exit(main())
