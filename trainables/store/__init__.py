"""The store of artifacts: published whole, found by key, leased while they are made. No torch."""
