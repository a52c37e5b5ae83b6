"""Exact resume, the whole product: every method under every scheme, with random SIGKILLs.

    python -m bench.resume [--kills 100] [--seed 0] [--methods kd crd ...] [--schemes offline ...]

Each pair is trained once in peace and once killed at random moments and started again; both must
end in the same bytes. Prints how many kills met a run at work, and how many students were equal.
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
    """Kill it so often while it works, then let it finish; how many kills met a run at work."""
    met = 0
    for _ in range(kills):
        # Mostly a few steps further; now and then before the first, or far into another phase.
        met += kill_after(request, workdir, STEP, generator.choice([1, 1, 2, 3, 5, STEPS]))
    code = finish(start(request, workdir))
    if code != 0:
        raise RuntimeError(f"{workdir} ended with {code}")
    return met


def main() -> None:
    """Run all pairs and print the count."""
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
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        there = make_world(Path(folder))
        for index, (method, scheme) in enumerate(pairs):
            # The kills are spread evenly; each pair gets one at least.
            share = max(
                1, args.kills * (index + 1) // len(pairs) - args.kills * index // len(pairs)
            )
            request = there.request(
                method,
                0 if method == "supervised" else 1,
                {"epochs": 2, "label_smoothing": 0.1 * (index % 2)},
                scheme=SCHEMES[scheme],
            )
            pair_dir = Path(folder) / f"{method}-{scheme}"
            quiet = start(request, pair_dir / "quiet")
            met = run_with_kills(request, pair_dir / "killed", share, generator)
            if finish(quiet) != 0:
                raise RuntimeError(f"{method} under {scheme} ended with {quiet.exitcode}")
            same = sha256(pair_dir / "quiet" / STUDENT) == sha256(pair_dir / "killed" / STUDENT)
            counted.update(pairs=1, kills=met, identical=same)
            sys.stderr.write(f"{method} under {scheme}: {met} kills, {'same' if same else 'NOT'}\n")
    print(f"seed {args.seed}: {dict(counted)}")
    sys.exit(counted["identical"] != counted["pairs"])


if __name__ == "__main__":
    main()
