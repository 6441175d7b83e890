"""The names of the importance scores that `vrx score` computes; `vrx/models/probe.py` has their functions."""

from __future__ import annotations

FINAL_NORM = "_final_norm"  # ends the name of a score of states that takes the last ones after the final norm

STATES = (
    "block_influence",
    "multimodal_block_influence",
    "angular_distance_inputs",
    "angular_distance_inputs_all_tokens",
)

ATTENTION = (
    "image_attention",
    "image_attention_share",  # of all attention
)

WEIGHTS = (  # of a tuned LVLM compared with its backbone
    "parameter_change",
    "parameter_change_tensors",
    "parameter_change_norms",
    "angular_distance_weights",
    "angular_distance_weights_whole",
)

FORMULAS = (*STATES, *(name + FINAL_NORM for name in STATES), *ATTENTION, *WEIGHTS)
