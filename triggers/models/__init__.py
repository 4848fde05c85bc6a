"""Rows of triggers, a module per kind. Django finds the models here."""
