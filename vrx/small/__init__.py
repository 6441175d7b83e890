"""The laptop-sized LVLM of really pretrained weights, and the world of real pictures that it learns from."""
