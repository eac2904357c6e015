"""Estimates, intervals and tests. Plain numbers in and out: no frames, no drawing."""
