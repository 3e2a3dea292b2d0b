"""Run upstream's own tests over our stores and embeddings, and print a table of what passed.

python -m upstream [--ours-only] [--postgres DSN] [SUITE...]    run all suites, or those with SUITE in their name
python -m upstream --reachable                                  return 0 if the tests can be fetched, or say why not

The exit code is 1 if a test failed or was skipped, or if fewer tests passed than the suite has.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from upstream.fetching import Unavailable, source_of
from upstream.suites import SUITES, Outcome, Suite, run

_ROW = "{:26} {:39} {:>6} {:>6} {:>6} {:>7} {:>8} {:>6}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code."""
    parser = argparse.ArgumentParser(prog="upstream", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--reachable", action="store_true", help="only fetch the tests")
    parser.add_argument("--ours-only", action="store_true", help="run only the tests that use one of our fixtures")
    parser.add_argument("--postgres", metavar="DSN", help="run on this server instead of an embedded one")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="part of a suite's name")
    chosen = parser.parse_args(arguments)
    suites = [each for each in SUITES if not chosen.suites or any(part in each.name for part in chosen.suites)]
    if not suites:
        parser.error(f"no suite has any of {chosen.suites} in its name; there are {[each.name for each in SUITES]}")
    try:
        folders = {name: source_of(name) for name in {suite.distribution: None for suite in suites}}
    except Unavailable as error:
        sys.stderr.write(f"upstream's tests: {error}\n")
        return 1
    if chosen.reachable:
        return 0
    options = ["--ours-only"] if chosen.ours_only else []
    options += ["--postgres", chosen.postgres] if chosen.postgres else []

    def one(suite: Suite) -> Outcome:
        return run(suite, folders[suite.distribution], options)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        outcomes = dict(zip(suites, pool.map(one, suites), strict=True))
    return report(outcomes, ours_only=chosen.ours_only)


def report(outcomes: dict[Suite, Outcome], *, ours_only: bool) -> int:
    """Print any problems and the table, and return the exit code."""
    lines = [_ROW.format("suite", "tests of", "passed", "ours", "failed", "skipped", "expected", "s")]
    wrong: list[str] = []
    for suite, found in outcomes.items():
        distribution = f"{suite.distribution} {version(suite.distribution)}"
        expected = suite.ours if ours_only else suite.tests
        counts = (found.passed, found.ours, len(found.failed), len(found.skipped), expected, f"{found.seconds:.0f}")
        lines.append(_ROW.format(suite.name, distribution, *counts))
        wrong += found.output.splitlines()[-200:] if found.failed else []
        wrong += [f"{suite.name}: {each}" for each in found.complaints(suite, ours_only=ours_only)]
    sys.stdout.write("\n".join([*wrong, *lines]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
