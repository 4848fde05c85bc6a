"""The base of every view of the API."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from plumbing.rest.serializers import NoBody, NoQuery, validated


class StrictView(APIView):
    """Base of every view of the API: unread input is refused, and ``OPTIONS`` lists the methods.

    That is a query, and the body of a ``DELETE`` or of a method in ``reads_no_body``: whoever sends one means something
    by it.
    """

    #: The methods whose handlers read the query, and refuse what is unknown in it, themselves.
    reads_query: ClassVar[frozenset[str]] = frozenset()
    #: Methods that others take a body with, and these handlers do not.
    reads_no_body: ClassVar[frozenset[str]] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the request as DRF does, then its query and body. (Of a method that there is not, neither: 405.)"""
        super().initial(request, *args, **kwargs)
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in self.allowed_methods:
            return
        if method not in self.reads_query:
            validated(NoQuery, request.query_params)
        if (method == "DELETE" or method in self.reads_no_body) and request.data:
            if not isinstance(request.data, dict):
                raise ValidationError(NoBody.takes_nothing)
            validated(NoBody, request.data)

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override] # as DRF
        """Answer 200 without a body; ``Allow`` lists the methods, as in every answer (RFC 9110, 9.3.7)."""
        return Response(status=200)
