"""Teachers from files: read without running code, recognised, checked name by name, kept as safetensors. No torch."""
