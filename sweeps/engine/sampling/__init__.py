"""Cells and Optuna: one journal per run. The door to optuna."""
