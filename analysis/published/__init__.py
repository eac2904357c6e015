"""What papers print: their numbers as CSV, and the reading of them."""
