"""The floor that ``POST runs`` is measured against: the least that Django and DRF do to store a run and its event.

It is the settings module of a server of its own, and that server's only route: one view without authentication,
middleware, validation or a tenant's scope, which inserts the same two rows in one transaction.
"""

from __future__ import annotations

import os

from pyflow_site import settings as platform

globals().update({name: value for name, value in vars(platform).items() if name.isupper()})
ROOT_URLCONF = "benchmarks.floor_urls"
MIDDLEWARE: list[str] = []
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}
FLOOR_TENANT, FLOOR_WORKFLOW, FLOOR_VERSION = os.environ["FLOOR_ROWS"].split(",")
