"""Runs Gyrus and its peers alternately on one machine and prints the ratios: a training step (forward, log_dice, backward,
clipping, Adam) of conv3dtranspose_batchnormalization on random data.

    python benches/peers/compare.py --gyrus target/release/gyrus --python peers/bin/python

`--python` names an interpreter with torch, tensorflow-cpu and numpy. Every round starts every engine once, one after the
other, with nothing beside it; ratios are taken within a round, and the median over the rounds is printed. Memory is the
peak resident set of the process, as the operating system accounts for it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

CONFIGURATIONS = {
    "A": {"extent": (48, 64, 48), "channels": 1, "classes": 3, "factor": 4},
    "B": {"extent": (64, 64, 64), "channels": 4, "classes": 4, "factor": 2},
}
PEERS = [("keras_step.py", "fp32"), ("torch_step.py", "fp32"), ("torch_step.py", "bf16")]
# PyTorch is faster when freed memory stays with the process.
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 34), "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_TOP_PAD_": str(1 << 28)}


def run(command, environment=None):
    """What a program prints as JSON, with its peak memory in bytes."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {process.returncode}")
    return {**json.loads(printed), "peak_bytes": 1024 * usage.ru_maxrss}


def gyrus(options, problem, precision):
    depth, width, height = problem["extent"]
    return run([
        options.gyrus, "bench", "--json", "--no-peaks", "--threads", options.threads, "--steps", options.steps, "--precision", precision,
        "--unet-resize-factor", problem["factor"], "--num-channels", problem["channels"], "--num-classes", problem["classes"],
        "--mri-depth", depth, "--mri-width", width, "--mri-height", height,
    ])


def peer(options, problem, script, precision):
    command = [options.python, Path(__file__).parent / script, "--threads", options.threads, "--steps", options.steps]
    command += ["--precision", precision, "--extent", *problem["extent"]]
    for name in ("channels", "classes", "factor"):
        command += [f"--{name}", problem[name]]
    return run(command, KEPT if script.startswith("torch") else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gyrus", default="target/release/gyrus")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--configurations", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    options = parser.parse_args()

    print(f"{'':<3} {'peer':<12} {'precision':<9} {'peer ms':>9} {'gyrus ms':>9} {'ratio':>7} {'peer GiB':>9} {'gyrus GiB':>10}")
    for name in options.configurations:
        problem = CONFIGURATIONS[name]
        rounds = []
        for _ in range(options.rounds):
            own = {precision: gyrus(options, problem, precision) for precision in ("fp32", "bf16")}
            rounds.append([(own[precision], peer(options, problem, script, precision)) for script, precision in PEERS])
        for index, (script, precision) in enumerate(PEERS):
            pairs = [measured[index] for measured in rounds]
            median = lambda figure: statistics.median(figure(own, other) for own, other in pairs)  # noqa: E731
            print(
                f"{name:<3} {script.removesuffix('_step.py'):<12} {precision:<9}"
                f" {median(lambda own, other: other['step_ms']):>9.1f}"
                f" {median(lambda own, other: own['step_ms']):>9.1f}"
                f" {median(lambda own, other: own['step_ms'] / other['step_ms']):>7.2f}"
                f" {median(lambda own, other: other['peak_bytes']) / 2**30:>9.2f}"
                f" {median(lambda own, other: own['peak_bytes']) / 2**30:>10.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
