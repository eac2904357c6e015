"""Stages: one file each, a function of its spec and its parents' artifacts. Nothing heavy is imported here.

A file holds the spec of its kind, with `work()`; `run()`; and ENTRY, by which the registry finds it.
"""
