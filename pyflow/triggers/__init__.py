"""What starts workflows: schedules, webhooks, and the arithmetic of cron expressions."""
