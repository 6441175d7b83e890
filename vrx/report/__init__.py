"""The report: the paper's numbers, tables, figures, the HTML page and W&B."""
