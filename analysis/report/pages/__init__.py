"""Pages of a report, one file each."""
