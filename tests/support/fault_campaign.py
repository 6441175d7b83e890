"""The full campaign of kills and losses of power, run by hand because it takes long:

    python tests/support/fault_campaign.py --job finetune --job sweep --every 1 --folder /tmp/campaign

Each job is disturbed at every rename and sync (or every n-th of them), by a kill and by two losses of power, and run
again. The last line of a job says at how many points it was disturbed and how many of these ended otherwise than the
undisturbed job; each of those is named before.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.faults import COMMANDS, WAYS, Campaign
from support.forked import Commands
from support.whole_runs import ENVIRONMENT


def main() -> None:
    """Run the campaign; exit with status 1 if a point went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", action="append", choices=COMMANDS, help="by default all")
    parser.add_argument("--every", type=int, default=1, help="only every n-th point")
    parser.add_argument("--first", type=int, default=1, help="the first point")
    parser.add_argument("--last", type=int, default=1 << 30, help="the last point")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the runs")
    options = parser.parse_args()
    wrong: Counter[str] = Counter()
    with Commands(options.folder / "commands", ENVIRONMENT) as commands:
        for job in options.job or COMMANDS:
            began = time.monotonic()
            campaign = Campaign(job, options.folder / job, commands)
            numbers = range(options.first, min(len(campaign.points), options.last) + 1, options.every)
            for number in numbers:
                for way in WAYS:
                    problem = campaign.disturb(number, way)
                    wrong[job] += problem is not None
                    print(f"{job}: {way} at {number} ({campaign.points[number - 1]}): {problem or 'good'}", flush=True)
            print(
                f"{job}: {len(campaign.points)} points, {len(numbers)} disturbed in {len(WAYS)} ways, "
                f"{campaign.num_states} different states, {wrong[job]} ended otherwise; "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    sys.exit(wrong.total() > 0)


if __name__ == "__main__":
    main()
