"""One attempt at a stage, from its lease to its artifact or its failure. Imports nothing until asked."""
