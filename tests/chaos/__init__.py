"""Everything is killed, frozen and cut off while runs are executed; then `invariants.verify` says what must still hold.

CI has the tests that are not marked `chaos`, always with the same seed; `make chaos` has all, with one that it prints.
"""
