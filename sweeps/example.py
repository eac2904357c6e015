"""What help and messages name as an example. Nothing is imported: help must come at once."""

STUDY = "horkd_order_ablation"
