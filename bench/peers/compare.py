"""Runs apr and a peer in turn and prints one Markdown table; see compare.sh, which calls it.

A cell is a kind of work on one file with one number of threads, beside one peer: llama.cpp or candle. A pair is one run
of each side, one after the other, the first side alternating. Pairs go round the cells, so that a drift of the machine
reaches all of them. Each pair is one line of the results; a call takes the pairs that are there as done, as long as both
programs are the same files.
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SIZES = ("0.5b", "1.5b")
DTYPES = ("Q4_K_M", "Q8_0", "F16", "BF16")
N_PROMPT, N_GEN = 512, 128
DEPTH, N_GEN_AT_DEPTH = 8192, 64
# Not too short: nothing to say about two tokens. Both sides tokenize it themselves.
SHORT_PROMPT = "What is the capital of France, and why?"
LONG_PROMPT = " ".join(f"{i} plus {i} is {i + i}." for i in range(60))
N_GEN_MEMORY = 16
TIMEOUT_S = 1800
SIDES = ("ours", "theirs")
LLAMA_CPP, CANDLE = "llama.cpp", "candle"
MIB = 1 << 20


@dataclass(frozen=True)
class Cell:
    kind: str  # speed, depth, first, memory
    size: str
    dtype: str
    threads: int
    peer: str = LLAMA_CPP

    @property
    def name(self):
        prefix = "" if self.peer == LLAMA_CPP else f"{self.peer}."
        return f"{prefix}{self.size}.{self.dtype}.t{self.threads}.{self.kind}"

    @property
    def file(self):
        return f"qwen2.5-{self.size}-{self.dtype}.gguf"


CELLS = (
    [Cell("speed", s, d, t) for s in SIZES for d in DTYPES for t in (1, 2)]
    + [Cell("depth", "0.5b", d, 2) for d in DTYPES]
    + [Cell("first", s, d, 2) for s in SIZES for d in DTYPES]
    + [Cell("memory", s, d, 2) for s in SIZES for d in DTYPES]
    # candle widens 16-bit weights to f32 when it loads them, so only its blocks are compared.
    + [Cell("speed", s, d, t, CANDLE) for s in SIZES for d in ("Q4_K_M", "Q8_0") for t in (1, 2)]
)


class Failed(Exception):
    pass


def busy_s():
    """CPU seconds that anything on this machine has used, the hypervisor's theft included."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def sample_anonymous(pid, stop, peak):
    """Follows the private memory of a process: pages of it that no file backs."""
    while not stop.is_set():
        try:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak[0] = max(peak[0], int(line.split()[1]) * 1024)
        except (FileNotFoundError, ProcessLookupError):
            return
        stop.wait(0.004)


def execute(command, cpus, follow_memory=False):
    """Runs a command on some CPUs; gives its output and what was seen of it from outside."""
    environment = dict(os.environ, OMP_PROC_BIND="true", OMP_PLACES=",".join(f"{{{cpu}}}" for cpu in cpus))
    errors = []
    started, busy = time.monotonic(), busy_s()
    process = subprocess.Popen(
        ["taskset", "-c", ",".join(cpus), *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    timer = threading.Timer(TIMEOUT_S, process.kill)
    timer.start()
    peak, stop = [0], threading.Event()
    if follow_memory:
        threading.Thread(target=sample_anonymous, args=(process.pid, stop, peak)).start()
    output = os.read(process.stdout.fileno(), 1)
    first_byte_s = time.monotonic() - started
    output += process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    others = busy_s() - busy - usage.ru_utime - usage.ru_stime
    stop.set()
    timer.cancel()
    reader.join()
    error = errors[0].decode(errors="replace")
    if process.returncode != 0:
        raise Failed(f"status {process.returncode}: {' '.join(command)}\n{error.strip()[-2000:]}")
    seen = {
        "first_byte_ms": first_byte_s * 1e3,
        "wall_s": wall_s,
        "resident_peak_bytes": usage.ru_maxrss * 1024,
        "others_cores": max(0.0, others / wall_s),
    }
    if follow_memory:
        seen["anonymous_peak_bytes"] = peak[0]
    return output.decode(errors="replace"), error, seen


def rate(n_tokens, samples_ms):
    return n_tokens * 1e3 / statistics.median(samples_ms)


def bench_ours(options, cell, model, cpus):
    n_prompt, n_gen, depth = (0, N_GEN_AT_DEPTH, DEPTH) if cell.kind == "depth" else (N_PROMPT, N_GEN, 0)
    command = [options.apr, "bench", model, "-p", n_prompt, "-n", n_gen, "-d", depth, "-t", cell.threads, "-r", 1]
    output, _, seen = execute([*map(str, command), "--load-prompt", "0", "--json"], cpus)
    result = dict(seen)
    for test in json.loads(output)["tests"]:
        if test["absent"] is not None:
            raise Failed(f"apr bench did not measure {test['test']}: {test['absent']}")
        phase = test["phase"]
        if phase not in ("prefill", "decode"):
            continue
        share = test["roofline"]
        result[f"{phase}_per_s"] = rate(test["n_tokens"], test["samples_ms"])
        result[f"{phase}_bytes_percent"] = share["bytes_percent"]
        result[f"{phase}_multiply_adds_percent"] = share["multiply_adds_percent"]
        result[f"{phase}_read_bytes_per_s"] = test["rooflines"]["read_bytes_per_second"]["value"]
        result[f"{phase}_multiply_adds_per_s"] = test["rooflines"]["multiply_adds_per_second"]["value"]
        result["kv_cache"] = test["kv_cache"]
    return result


def bench_theirs(options, cell, model, cpus):
    n_prompt, n_gen, depth = (0, N_GEN_AT_DEPTH, DEPTH) if cell.kind == "depth" else (N_PROMPT, N_GEN, 0)
    if cell.peer == CANDLE:
        command = [options.candle, model, cell.threads, n_prompt, n_gen, 1]
    else:
        command = [options.llama_cpp, "bench", model, cell.threads, n_prompt, n_gen, depth, 1]
    if depth > 0:
        states = Path(options.results).parent / "states"
        states.mkdir(exist_ok=True)
        command.append(states / f"{cell.file}.{depth}")
    output, _, seen = execute(list(map(str, command)), cpus)
    samples, result = json.loads(output), dict(seen)
    for phase, n_tokens in (("prefill", n_prompt), ("decode", n_gen)):
        if samples[f"{phase}_ms"]:
            result[f"{phase}_per_s"] = rate(n_tokens, samples[f"{phase}_ms"])
    return result


def run_ours(options, cell, model, cpus):
    memory = cell.kind == "memory"
    prompt, n_gen = (LONG_PROMPT, N_GEN_MEMORY) if memory else (SHORT_PROMPT, 1)
    command = [options.apr, "run", str(model), prompt, "--raw", "-n", str(n_gen), "-t", str(cell.threads)]
    output, _, seen = execute(command + (["--json"] if memory else []), cpus, follow_memory=memory)
    if memory:
        report = json.loads(output)
        seen |= {key: report[key] for key in ("n_prompt_tokens", "n_generated_tokens", "kv_cache")}
    return seen


def run_theirs(options, cell, model, cpus):
    memory = cell.kind == "memory"
    prompt, n_gen = (LONG_PROMPT, N_GEN_MEMORY) if memory else (SHORT_PROMPT, 1)
    command = [options.llama_cpp, "run", str(model), str(cell.threads), str(n_gen), prompt]
    _, error, seen = execute(command, cpus, follow_memory=memory)
    return seen | json.loads(error.splitlines()[-1])


RUN = {
    ("ours", "speed"): bench_ours, ("theirs", "speed"): bench_theirs,
    ("ours", "depth"): bench_ours, ("theirs", "depth"): bench_theirs,
    ("ours", "first"): run_ours, ("theirs", "first"): run_theirs,
    ("ours", "memory"): run_ours, ("theirs", "memory"): run_theirs,
}  # fmt: skip


def warm(path):
    """Brings a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(1 << 22)
        while file.readinto(buffer):
            pass


def measure(options, cells, programs_by_peer, lines):
    cpus = options.cpus.split()
    failed = False
    for pair in range(options.pairs):
        for cell in cells:
            programs = programs_by_peer[cell.peer]
            done = sum(line["cell"] == cell.name and line["programs"] == programs for line in lines)
            if done > pair:
                continue
            model = Path(options.fixtures) / cell.file
            warm(model)
            line = {"cell": cell.name, "pair": pair, "programs": programs, "file_bytes": model.stat().st_size}
            try:
                for side in SIDES if pair % 2 == 0 else reversed(SIDES):
                    line[side] = RUN[side, cell.kind](options, cell, model, cpus[: cell.threads])
            except Failed as why:
                failed = True
                print(f"{cell.name}: {why}", file=sys.stderr)
                continue
            line["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with open(options.results, "a") as file:
                file.write(json.dumps(line) + "\n")
            lines.append(line)
            others = max(line[side]["others_cores"] for side in SIDES)
            took = sum(line[side]["wall_s"] for side in SIDES)
            print(f"pair {pair + 1} {cell.name}: {took:.0f} s, others used {others:.2f} cores", file=sys.stderr)
    return failed


@dataclass
class Row:
    """A figure of both sides over the pairs of a cell. `ratio` says how many times better ours is."""

    title: str
    unit: str
    digits: int
    ours: list
    theirs: list
    ratio: list
    goals: list  # (text, met)
    share: str = ""


def at_least(value, limit, text, most=math.inf):
    return f"{text} ≥ {limit:g}", limit <= value <= most


def speed_row(cell, lines, phase):
    ours, theirs = ([line[side][f"{phase}_per_s"] for line in lines] for side in SIDES)
    ratio = [a / b for a, b in zip(ours, theirs)]
    roofline = "multiply_adds" if phase == "prefill" else "bytes"
    percent = statistics.median(line["ours"][f"{phase}_{roofline}_percent"] for line in lines)
    label = "FMA" if phase == "prefill" else "bytes"
    share = f"{label}: {percent:.0f} %"
    goals = []
    if cell.kind == "depth":
        title = f"decode {N_GEN_AT_DEPTH} at {DEPTH}"
        cache = lines[-1]["ours"]["kv_cache"]
        share += f" ({cache} cache)"
    else:
        title = f"prefill {N_PROMPT}" if phase == "prefill" else f"decode {N_GEN}"
        share += f", theirs {percent / statistics.median(ratio):.0f} %"
        if phase == "decode" or cell.peer == CANDLE:
            goal = 1
        else:
            goal = 2.5 if cell.dtype in ("Q4_K_M", "Q8_0") else 1.8
        goals.append(at_least(statistics.median(ratio), goal, "ratio"))
    # Work faster than its roofline says that the probe was disturbed, and nothing about the work.
    goals.append(at_least(percent, 75 if phase == "prefill" else 85, f"{label} %", most=100))
    return Row(title, "tokens/s", 1, ours, theirs, ratio, goals, share)


def first_row(lines):
    ours, theirs = ([line[side]["first_byte_ms"] for line in lines] for side in SIDES)
    ratio = [b / a for a, b in zip(ours, theirs)]
    return Row("load, first token", "ms", 0, ours, theirs, ratio, [at_least(statistics.median(ratio), 4, "ratio")])


def memory_rows(cell, lines):
    def row(title, key):
        ours, theirs = ([line[side][key] / MIB for line in lines] for side in SIDES)
        return Row(title, "MiB", 0, ours, theirs, [b / a for a, b in zip(ours, theirs)], [])

    private = row("private memory, peak", "anonymous_peak_bytes")
    private.goals.append(at_least(statistics.median(private.ratio), 2, "ratio"))
    resident = row("resident, peak", "resident_peak_bytes")
    ours = lines[-1]["ours"]
    assert ours["n_prompt_tokens"] == lines[-1]["theirs"]["n_prompt_tokens"], f"{cell.name}: different prompts"
    # Layers × keys and values × their width.
    n_values = {"0.5b": 24 * 2 * 128, "1.5b": 28 * 2 * 256}[cell.size]
    n_tokens = ours["n_prompt_tokens"] + ours["n_generated_tokens"]
    cache = n_tokens * n_values * {"f32": 4, "f16": 2}[ours["kv_cache"]]
    limit = (lines[-1]["file_bytes"] + cache) * 1.05 / MIB
    resident.goals.append((f"≤ {limit:.0f} MiB", statistics.median(resident.ours) <= limit))
    return [private, resident]


def rows(cell, lines):
    if cell.kind == "speed":
        return [speed_row(cell, lines, "prefill"), speed_row(cell, lines, "decode")]
    if cell.kind == "depth":
        return [speed_row(cell, lines, "decode")]
    return [first_row(lines)] if cell.kind == "first" else memory_rows(cell, lines)


def spread(values, digits):
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}"


def table(cells, programs_by_peer, lines):
    """Prints the table; says whether every goal was met."""
    print("| file | threads | work | ours | peer | theirs | ratio | its spread | pairs | of the roofline | goal | |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    all_met, others, roofs = True, [], {}
    for cell in cells:
        programs = programs_by_peer[cell.peer]
        of_cell = [line for line in lines if line["cell"] == cell.name and line["programs"] == programs]
        if not of_cell:
            all_met = False
            print(f"| {cell.size} {cell.dtype} | {cell.threads} | {cell.kind} | not measured | {cell.peer} | | | | 0 | | | |")
            continue
        others += [line[side]["others_cores"] for line in of_cell for side in SIDES]
        if cell.kind == "speed":
            roofs.setdefault(cell.threads, []).extend(line["ours"] for line in of_cell)
        for row in rows(cell, of_cell):
            met = all(met for _, met in row.goals)
            all_met &= met
            ours, theirs = (f"{statistics.median(v):.{row.digits}f}" for v in (row.ours, row.theirs))
            goal = ", ".join(text for text, _ in row.goals)
            print(
                f"| {cell.size} {cell.dtype} | {cell.threads} | {row.title} | {ours} {row.unit} | {cell.peer} |"
                f" {theirs} | {statistics.median(row.ratio):.2f} | {spread(row.ratio, 2)} | {len(of_cell)} | {row.share} | {goal} |"
                f" {'met' if met else '**missed**'} |"
            )
    print()
    print("Medians. The ratio says how many times better ours is, as the median of the pairs' ratios.")
    for threads, runs in sorted(roofs.items()):
        read = [run["decode_read_bytes_per_s"] / 1e9 for run in runs]
        fma = [run["prefill_multiply_adds_per_s"] / 1e9 for run in runs]
        print(
            f"Rooflines with {threads} thread{'s' if threads > 1 else ''}: {statistics.median(read):.1f} GB/s"
            f" ({spread(read, 1)}), {statistics.median(fma):.0f} G multiply-adds/s ({spread(fma, 0)})."
        )
    if others:
        print(f"Other processes used {statistics.median(others):.2f} cores (at most {max(others):.2f}).")
    return all_met


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def newest_programs(lines):
    """For each peer, the program that was measured last beside the apr of the newest line."""
    peers = {cell.name: cell.peer for cell in CELLS}
    ours = lines[-1]["programs"]["apr"]
    # The last line of a peer stays.
    return {peers[line["cell"]]: line["programs"] for line in lines if line["programs"]["apr"] == ours}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True)
    parser.add_argument("--apr")
    parser.add_argument("--llama-cpp", help="measure.cpp's program")
    parser.add_argument("--candle", help="the program of candle/; without it, candle is not measured")
    parser.add_argument("--fixtures")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cpus", default="0 1")
    parser.add_argument("--table", action="store_true", help="print the table of the newest lines and measure nothing")
    parser.add_argument("cells", nargs="*", help="only cells whose name contains one of these")
    options = parser.parse_args()

    results = Path(options.results)
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if options.table:
        if not lines:
            parser.error(f"{results} has no lines")
        programs_by_peer = newest_programs(lines)
    else:
        paths = {LLAMA_CPP: options.llama_cpp, CANDLE: options.candle}
        ours = digest(options.apr)
        programs_by_peer = {peer: {"apr": ours, "peer": digest(path)} for peer, path in paths.items() if path}
    cells = [
        cell
        for cell in CELLS
        if cell.peer in programs_by_peer and (not options.cells or any(word in cell.name for word in options.cells))
    ]
    if not cells:
        parser.error(f"no cell's name contains any of {options.cells}; names are like {CELLS[0].name}")
    failed = not options.table and measure(options, cells, programs_by_peer, lines)
    all_met = table(cells, programs_by_peer, lines)
    return 0 if all_met and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
