"""Losses between a teacher and a student, one file per paper or family.

Every term is a pure function of tensors, works in float32 or wider whatever autocast says, and treats the
teacher as constant. `geometry` holds what the terms share. What training asks is a thin layer above: each loss's `Term`,
and `Distiller`, which weighs those of every method at once.
"""
