"""App of what starts runs by itself: schedules, inbound webhooks and event triggers."""
