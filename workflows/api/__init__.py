"""HTTP side of workflows."""
