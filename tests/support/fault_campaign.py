"""The full campaign of kills and losses of power, run by hand because it takes hours:

    python tests/support/fault_campaign.py --job finetune --job sweep --every 1 --folder /tmp/campaign

Each job is disturbed at every rename and sync (or every n-th of them), once by a kill and once by a loss of power, and
run again. The last line of a job says at how many points it was disturbed and how many of these ended otherwise than
the undisturbed job; each of those is named before.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.faults import COMMANDS, Campaign


def main() -> None:
    """Run the campaign; exit with status 1 if a point went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", action="append", choices=COMMANDS, help="by default all")
    parser.add_argument("--every", type=int, default=1, help="only every n-th point")
    parser.add_argument("--first", type=int, default=1, help="the first point")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the runs")
    options = parser.parse_args()
    num_wrong = 0
    for job in options.job or COMMANDS:
        campaign, wrong, num_disturbed = Campaign(job, options.folder / job), 0, 0
        for number in range(options.first, len(campaign.points) + 1, options.every):
            for power in (False, True):
                problem = campaign.disturb(number, power=power)
                num_disturbed, wrong = num_disturbed + 1, wrong + (problem is not None)
                how = "loss of power" if power else "kill"
                print(
                    f"{job} {how} at {number} ({campaign.points[number - 1].strip()}): {problem or 'good'}", flush=True
                )
        print(
            f"{job}: {len(campaign.points)} points, {num_disturbed} disturbed runs, {wrong} ended otherwise", flush=True
        )
        num_wrong += wrong
    sys.exit(num_wrong > 0)


if __name__ == "__main__":
    main()
