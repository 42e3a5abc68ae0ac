"""RefHCM: referring human perception. See README.md."""
