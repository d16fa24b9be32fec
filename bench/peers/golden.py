"""Golden answers: what a reference generated greedily, compared with what a peer generates.

A golden file has a list `prompts`; of each entry this module reads `id`, `ids` (prompt
tokens), `greedy_ids` (what the reference generated) and `greedy_margins` (best minus
second best logit at every step). From the first step whose margin is under a limit on,
nothing is compared: there the choice hangs on rounding, and one different token changes
everything after it.
"""

import argparse
import json
import sys
from pathlib import Path


def arguments(parser):
    """Add the arguments that every comparison with a golden file has."""
    parser.add_argument("golden", type=Path, help="golden JSON file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--margin", type=float, default=0.01, help="default: 0.01")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def comparable_steps(margins, least):
    """How many steps come before the first one that is too close to call."""
    for step, margin in enumerate(margins):
        if margin < least:
            return step
    return len(margins)


def compare(golden, margin, generate):
    """Compare what `generate(entry, number)` gives with the golden ids of each prompt.

    Prints a line for each prompt that differs, and a summary. Returns the exit status:
    1 if any token differs, 2 if the comparison could not be made.
    """
    prompts = compared = whole = skipped = different = 0
    try:
        for entry in json.loads(golden.read_text())["prompts"]:
            expected = entry["greedy_ids"]
            margins = entry["greedy_margins"]
            if len(margins) != len(expected):
                raise RuntimeError(f"{entry['id']}: not one margin for each token")
            steps = comparable_steps(margins, margin)
            prompts += 1
            compared += steps
            skipped += len(expected) - steps
            whole += steps == len(expected)
            if steps == 0:
                continue
            found = generate(entry, steps)
            for step in range(steps):
                if found[step] != expected[step]:
                    different += 1
                    print(
                        f"DIFFERENT {entry['id']}: step {step}: expected {expected[step]}, "
                        f"found {found[step]} (margin {margins[step]})"
                    )
                    break
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2
    if compared == 0:
        print("cannot compare: no step to compare", file=sys.stderr)
        return 2
    print(
        f"{'DIFFERENT' if different else 'equal'}: {prompts} prompts ({whole} to the end), "
        f"{compared} tokens compared, {skipped} after a margin under {margin} "
        f"skipped, {different} prompts differ"
    )
    return 1 if different else 0
