"""Data sets: found, packed once into an Arrow file, split by task, augmented and degraded.

`augment`, `degrade` and `batches` need torch; nothing else here does. The way of a set: `datasets` (what people are
told), `sources` (where it lies), `folder`, `people`, `fine_grained` and `readers` (what is in it), `archives`,
`images` and `blocks` (decoding), `packed` (the file), `catalog` (the shelf of files).
"""
