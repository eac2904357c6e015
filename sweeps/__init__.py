"""The commands and the engine: a study becomes a plan, a plan becomes artifacts, artifacts become records."""

from sweeps import origins as origins
