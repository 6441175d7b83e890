"""Selectors without a file in `conf/`: `block_influence_reversed`, as every importance selector, and `random_7`.

Both are controls: the least important layers, and random layers that do not depend on the run's seed.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from vrx.config.paths import CONF

IMPORTANCE_RULE = "most_important"
NUM_RANDOM = 32  # selections by name: random_0 to random_31


def register_controls() -> None:
    """Make the controls known to Hydra; each is recorded under the name that its options give it."""
    store = ConfigStore.instance().store
    for path in sorted((CONF / "selector").glob("*.yaml")):
        values = dict(line.split(": ", 1) for line in path.read_text(encoding="utf-8").splitlines() if ": " in line)
        if values.get("rule") == IMPORTANCE_RULE:
            node = {"name": values["name"], "rule": IMPORTANCE_RULE, "formula": values["formula"], "reverse": True}
            store(group="selector", name=f"{path.stem}_reversed", node=node, provider="vrx")
    for seed in range(NUM_RANDOM):
        node = {"name": "random", "rule": "random", "seed": seed}
        store(group="selector", name=f"random_{seed}", node=node, provider="vrx")
