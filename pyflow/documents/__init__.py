"""Workflow definitions: reading them with positions, their models, their JSON Schema."""
