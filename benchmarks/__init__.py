"""Measurements that back the speed claims; each runs as `python -m benchmarks.<name>`, all as `python -m benchmarks`."""
