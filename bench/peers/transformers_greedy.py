#!/usr/bin/env python3
"""Compare the greedy tokens of Transformers with golden ones.

    transformers_greedy.py MODEL_DIR GOLDEN.json

Loads MODEL_DIR the way everybody does, with AutoTokenizer and AutoModelForCausalLM, and
computes in float32 as the golden files do. The tokenizer must give the golden ids of
every prompt's text; the model must generate the golden ids. golden.py says what is
compared. Weights that were quantized differ by their nature: use a larger --margin.

Exits with 1 if anything differs, 2 if the comparison could not be made.
"""

import argparse
import sys
from pathlib import Path

import golden
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="Transformers directory")
    golden.arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    misread = []

    def generate(entry, number):
        # A chat template writes the special tokens itself.
        special = entry["kind"] != "chat"
        if tokenizer(entry["text"], add_special_tokens=special)["input_ids"] != entry["ids"]:
            misread.append(entry["id"])
        found = []
        fed, cache = entry["ids"], None
        with torch.no_grad():
            while len(found) < number:
                out = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
                found.append(int(out.logits[0, -1].argmax()))
                fed, cache = found[-1:], out.past_key_values
        return found

    status = golden.compare(options.golden, options.margin, generate)
    if misread:
        print(f"DIFFERENT: the tokenizer gives other ids for {', '.join(misread)}")
    return status or (1 if misread else 0)


if __name__ == "__main__":
    sys.exit(main())
