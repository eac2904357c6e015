"""Data sets: found, packed once into an Arrow file, split, augmented and degraded.

`catalog`, `packed`, `readers` and `folder` need no torch; `augment`, `degrade` and `batches` do.
"""
