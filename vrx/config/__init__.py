"""What a run may be told: the schema of `conf/`, composing, validating, errors."""
