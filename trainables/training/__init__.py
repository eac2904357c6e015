"""How a stage trains: numerics, inputs, frozen teachers, objectives, the loop. Imports nothing until asked."""
