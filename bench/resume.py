"""Exact resume: every method with every scheme, interrupted by random SIGKILLs.

    python -m bench.resume [--kills 100] [--seed 0] [--methods kd crd ...] [--schemes offline ...]

Each pair is trained twice, once without interruption and once killed at random moments and
restarted. Both students must have the same bytes. Prints the number of kills that met a run during
training, and the number of equal students.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

from kdcore.protocol.requests import RunRequest
from kdcore.schema.methods import METHODS
from tests.kdcore.training.engine_process import finish, kill_after, start
from tests.kdcore.training.helpers import make_world, sha256

STUDENT = Path("artifacts/student.safetensors")
STEP = '"train/loss"'
STEPS = 14
SCHEMES: dict[str, dict[str, Any]] = {
    "offline": {"type": "offline"},
    "mutual": {"type": "mutual", "peers": ["cifar/resnet8"]},
    "born_again": {"type": "born_again", "generations": 2},
    "teacher_assistant": {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]},
    "label_refinery": {"type": "label_refinery", "max_rounds": 2},
}


def run_with_kills(request: RunRequest, workdir: Path, kills: int, generator: random.Random) -> int:
    """Kill the run ``kills`` times, let it finish, and return how many kills met it training."""
    num_hits = 0
    for _ in range(kills):
        # Mostly after a few more steps; sometimes in a later phase.
        num_hits += kill_after(request, workdir, STEP, generator.choice([1, 1, 2, 3, 5, STEPS]))
    code = finish(start(request, workdir))
    if code != 0:
        raise RuntimeError(f"{workdir} ended with {code}")
    return num_hits


def run_pair(
    request: RunRequest, folder: Path, kills: int, generator: random.Random
) -> Counter[str]:
    """Run a pair with and without kills and return its counts."""
    uninterrupted = start(request, folder / "uninterrupted")
    num_hits = run_with_kills(request, folder / "killed", kills, generator)
    if finish(uninterrupted) != 0:
        raise RuntimeError(f"{folder.name} ended with {uninterrupted.exitcode}")
    digests = {sha256(folder / run / STUDENT) for run in ("uninterrupted", "killed")}
    same = len(digests) == 1
    sys.stderr.write(f"{folder.name}: {num_hits} kills, {'equal' if same else 'DIFFERENT'}\n")
    return Counter(pairs=1, kills=num_hits, identical=int(same))


def _request(inputs: Any, pair: tuple[str, str], label_smoothing: float) -> RunRequest:
    method, scheme = pair
    request: RunRequest = inputs.request(
        method,
        0 if method == "supervised" else 1,
        {"epochs": 2, "label_smoothing": label_smoothing},
        scheme=SCHEMES[scheme],
    )
    return request


def main() -> None:
    """Run all pairs and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m bench.resume", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=sorted(METHODS))
    parser.add_argument("--schemes", nargs="*", default=sorted(SCHEMES))
    args = parser.parse_args()
    generator = random.Random(args.seed)
    pairs = [
        (method, scheme)
        for method, scheme in product(args.methods, args.schemes)
        if method != "supervised" or scheme == "offline"
    ]
    generator.shuffle(pairs)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_world(Path(folder))
        for index, pair in enumerate(pairs):
            # Spread the kills evenly over the pairs, at least one each.
            before, after = (args.kills * n // len(pairs) for n in (index, index + 1))
            request = _request(inputs, pair, label_smoothing=0.1 * (index % 2))
            pair_dir = Path(folder) / "-".join(pair)
            counts += run_pair(request, pair_dir, max(1, after - before), generator)
    print(f"seed {args.seed}: {dict(counts)}")
    sys.exit(counts["identical"] != counts["pairs"])


if __name__ == "__main__":
    main()
