"""Live streams of a log: one reader per tenant and process, however many clients follow it."""
