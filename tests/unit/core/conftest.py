"""Property tests here find the same examples every time, and no clock decides whether they pass."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "core", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("core")
