"""HTTP side of the catalogue."""
