"""Tasks: what a network is for. One file each: its split, its score, its validation score, its words."""
