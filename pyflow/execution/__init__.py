"""The engine: schedules, executes, waits for, retries and undoes the nodes of a run."""
