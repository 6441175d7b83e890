"""The page of a report: one HTML file that opens from disk and needs no network."""
