"""`python -m tests.simulation`: live some lives, or one of them again."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.life import live
from tests.simulation.oracle import Broken


def main() -> int:
    """Exit status 0 when every life was in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Lives in virtual time.")
    parser.add_argument("--seed", type=int, help="live this one alone")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seeds", type=int, default=100, help="how many (100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="virtual seconds before the peace (60)")
    parser.add_argument("--hurried", action="store_true", help="more happens at a time")
    parser.add_argument("--trace", action="store_true", help="tell what happens")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    counts: Counter[str] = Counter()
    steps = failed = 0
    began = time.monotonic()
    for seed in seeds:
        try:
            lived = live(seed, options.seconds, print if options.trace else None, hurried=options.hurried)
        except Broken as broken:
            failed += 1
            print(f"seed {seed}: {broken}", flush=True)
            if options.seed is not None:
                raise
            continue
        steps += lived.steps
        counts += lived.counts
        if options.seed is not None:
            print(f"seed {seed}: {lived.steps} steps, digest {lived.digest:08x}")
    spent = time.monotonic() - began
    print(f"{len(seeds)} lives, {failed} broken, {steps} steps in {spent:.1f} s ({steps / spent:.0f}/s)")
    for name, count in sorted(counts.items()):
        print(f"  {count:9d}  {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
