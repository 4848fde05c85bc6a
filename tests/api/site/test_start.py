"""The start of a process of the platform."""

import os
import subprocess
import sys

LOOK = """
import gc
usual = gc.get_threshold()
import django
django.setup()
print(gc.get_freeze_count() > 50_000, gc.get_threshold() == usual, gc.isenabled())
"""


def test_what_it_makes_is_left_alone_and_garbage_is_looked_for_as_before():
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "pyflow_site.settings"}
    done = subprocess.run([sys.executable, "-c", LOOK], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3
