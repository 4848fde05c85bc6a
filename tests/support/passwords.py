"""Passwords that cost nothing to check. The product's hashes take 0.3 s each, on purpose."""

from django.contrib.auth.hashers import BCryptSHA256PasswordHasher, PBKDF2PasswordHasher

PASSWORD = "correct horse battery staple"


class QuickHasher(PBKDF2PasswordHasher):
    """One iteration. Processes with the product's settings understand it too, and hash anew at the first login."""

    iterations = 1


HASHERS = [f"{kind.__module__}.{kind.__qualname__}" for kind in (QuickHasher, BCryptSHA256PasswordHasher)]
HASHED = QuickHasher().encode(PASSWORD, QuickHasher().salt())
"""The hash of `PASSWORD`."""
