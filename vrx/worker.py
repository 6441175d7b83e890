"""The process that touches weights: `python -m vrx.worker <stage> <run_dir>`, started by the driver through torchrun.

It starts from the frozen `config.yaml` of the run directory and knows nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from safetensors import SafetensorError

from vrx.checks import thaw
from vrx.config import named
from vrx.distributed import die_with_parent, local_rank, refuse
from vrx.images import BadImage
from vrx.paths import disk_refusal

STAGES = {
    "train": "vrx.stages.training.train",
    "generate": "vrx.stages.generation.generate",
    "score": "vrx.stages.scoring.score",
    "revert": "vrx.stages.reverting.revert",
    "prune": "vrx.stages.pruning.prune",
    "furnish": "vrx.stages.benching.furnish",
    "peer": "vrx.stages.benching.train_peer",
    "infer": "vrx.stages.benching.infer",
}


def main() -> None:
    die_with_parent()
    stage, run_dir = sys.argv[1], Path(sys.argv[2])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
        torch.backends.cuda.matmul.allow_tf32 = True
    try:
        named(STAGES[stage], key="stage")(thaw(run_dir / "config.yaml"), run_dir)
    except (ValueError, OSError, BadImage, SafetensorError) as error:
        if isinstance(error, OSError | SafetensorError) and not (
            isinstance(error, FileNotFoundError) or disk_refusal(error)
        ):
            raise
        refuse(run_dir, error)
        sys.exit(2)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
