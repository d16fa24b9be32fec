"""Products of 32-bit matrices by Intel's MKL, whose sums may take any order, in turn with `examples/matmul_speed` of apr-kernels.

    python sgemm.py MATMUL_SPEED N_THREADS N_TOKENS N_ROUNDS ROWSxCOLS...      (needs a torch that is built with MKL)

G multiply-adds per second: each side's best of 25 in every round, as processor time with one thread and as time passed with
more; the table shows the rounds' median and spread.
"""

import statistics
import subprocess
import sys
import time

import torch


def mkl(n_threads: int, n_tokens: int, rows: int, cols: int) -> float:
    clock = time.thread_time if n_threads == 1 else time.perf_counter
    weights, tokens = torch.randn(rows, cols), torch.randn(n_tokens, cols)
    seconds = []
    for _ in range(25):
        start = clock()
        tokens @ weights.t()
        seconds.append(clock() - start)
    return rows * cols * n_tokens / min(seconds) / 1e9


def ours(program: str, n_threads: int, n_tokens: int, dtype: str, shape: str) -> float | None:
    arguments = [program, str(n_threads), dtype, shape, str(n_tokens)]
    words = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.splitlines()[-1].split()
    return None if words[2] == "has" else float(words[4])


def main() -> None:
    program, n_threads, n_tokens, n_rounds, *shapes = sys.argv[1:]
    n_threads, n_tokens = int(n_threads), int(n_tokens)
    torch.set_num_threads(n_threads)
    sides = {"MKL, F32": None, "apr, F32": "F32", "apr, Q8_0": "Q8_0", "apr, Q4_K": "Q4_K"}
    print(f"torch {torch.__version__}, {n_threads} threads, {n_tokens} tokens, {n_rounds} rounds")
    print("| matrix |", " | ".join(sides), "|\n|---" * 2 + "|---" * (len(sides) - 1) + "|")
    for shape in shapes:
        rows, cols = map(int, shape.split("x"))
        found: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(int(n_rounds)):
            for side, dtype in sides.items():
                rate = ours(program, n_threads, n_tokens, dtype, shape) if dtype else mkl(n_threads, n_tokens, rows, cols)
                found[side] += [rate] if rate else []
        cells = (f"{statistics.median(r):.0f} ({min(r):.0f}–{max(r):.0f})" if r else "–" for r in found.values())
        print(f"| {shape} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
