"""Ranges that several studies sweep, with what the papers used. All log-uniform."""

# HORKD, Eq. 8: published 0.02, 0.01, 1 with sums over tuples; with means the useful weights lie much higher.
ALPHA = (1e-3, 1e2)
BETA = (1e-3, 1e2)
GAMMA = (1e-3, 1e1)
