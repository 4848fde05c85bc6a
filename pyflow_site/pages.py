"""Pages for people."""

from __future__ import annotations

from typing import Any

from django.views.generic import TemplateView

from pyflow_site.problems import STATUS_OF, TITLES, documented_errors


class ProblemsPage(TemplateView):
    """The page that the ``type`` of a problem document links to: all problems with status and meaning."""

    template_name = "pyflow_site/problems.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """``problems``: ``{code, status, title, text}``, sorted by code."""
        own = [
            {"code": cls.code, "status": status, "title": TITLES[status], "text": (cls.__doc__ or "").strip()}
            for cls in documented_errors()
            if (status := STATUS_OF[cls.category])
        ]
        codes = {item["code"] for item in own}
        problems = [*own, *(item for item in GENERAL if item["code"] not in codes)]
        return super().get_context_data(problems=sorted(problems, key=lambda item: str(item["code"])), **kwargs)


GENERAL: list[dict[str, Any]] = [
    {"code": code, "status": status, "title": TITLES[status], "text": text}
    for code, status, text in (
        ("bad_request", 400, "The request cannot be understood: a malformed line, or a host that is not served here."),
        ("not_authenticated", 401, "The request carries no credential. Send `Authorization: Bearer <API key>`."),
        ("authentication_failed", 401, "The credential is not valid: unknown, expired or revoked."),
        ("forbidden", 403, "The credential does not allow this."),
        ("not_found", 404, "There is nothing at this address, or nothing that this credential may see."),
        ("method_not_allowed", 405, "The address exists; this method does not. `Allow` lists those that do."),
        ("not_acceptable", 406, "The answer is available as application/json and application/yaml."),
        ("unsupported_media_type", 415, "Send application/json or application/yaml."),
        ("input_invalid", 422, "Values of the request are missing or wrong; `errors` lists each."),
        ("internal_error", 500, "A mistake of ours. The request id finds it in the logs."),
        (
            "database_unavailable",
            503,
            "The database could not be reached, or was too busy. Send the request again after `Retry-After` seconds.",
        ),
    )
]
