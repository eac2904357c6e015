"""From words to a plan: parameters, cells, the graph of stages, what they cost. No torch, no ray."""
