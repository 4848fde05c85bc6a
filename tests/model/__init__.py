"""Random workflows, interrupted at random moments: what becomes of them is what the documentation says.

`language` makes up workflows, `reference` says what may become of each, `nodes` has the node types, `library` and
`platform` play a workflow and say what became of it.
"""
