"""A job array without a Ray network: every task plans the same graph and takes what is free."""
