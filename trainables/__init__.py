"""The training: specs, artifacts, losses, networks, data and stages. Plain torch; Ray only in `tune`."""
