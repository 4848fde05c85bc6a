"""Keeps the code of nodes, and costly computations, from harming the process they belong to."""
