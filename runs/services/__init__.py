"""Verbs about runs, one module each: start, cancel, terminate, pause, retry, rerun, signals, bulk, end, find."""
