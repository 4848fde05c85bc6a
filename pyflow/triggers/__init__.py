"""Triggers of workflows: schedules, webhooks, and the arithmetic of cron expressions."""
