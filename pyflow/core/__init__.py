"""The engine: definitions, scheduling, execution. Knows nothing of Django, HTTP servers or the command line."""
