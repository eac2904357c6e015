"""Run folders: what is in them, running and going on with one, its records, its housekeeping."""
