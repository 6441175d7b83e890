"""Puts layers of a tuned LVLM back to the backbone's weights."""
