"""What a run is and what it leaves behind: identity, directory, record, locks, chosen layers."""
