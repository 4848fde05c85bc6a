"""Pages for operators, a module per kind. Django's admin finds them here."""
