"""Figures: what they show comes from frames; here it is drawn."""
