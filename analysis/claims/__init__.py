"""The paper's claims as rows: the claim, its test, the estimate, and a verdict that names the data."""
