"""The admin's frame, and its login, which is throttled as that of the API is."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from plumbing.rest.client_address import address_of
from runs.explain.load import load
from tenants import failures
from tenants.errors import LoginError, TooManyFailuresError


class LoginForm(AdminAuthenticationForm):
    """A name and a password. Failures count by name and by address, together with those of the API's login."""

    #: Seconds until another attempt is looked at; 0 unless this one was not.
    retry_after = 0

    def clean(self) -> dict[str, Any]:
        """Refuse without looking at the password after too many failures."""
        subjects = (f"user:{self.cleaned_data.get('username', '')}", f"address:{self._address()}")
        try:
            with failures.attempt(*subjects):
                return self._checked()
        except TooManyFailuresError as error:
            self.retry_after = error.retry_after
            wait = f"Too many attempts have failed. Try again in {self.retry_after} seconds."
            raise ValidationError(wait, code="throttled") from None
        except LoginError:
            raise self.get_invalid_login_error() from None

    def _checked(self) -> dict[str, Any]:
        """Run Django's check, and report a refusal as a failed attempt."""
        try:
            return super().clean()
        except ValidationError as refusal:
            raise LoginError(
                "The name or the password is wrong, or the account has no access to the admin."
            ) from refusal

    def _address(self) -> str:
        return "" if self.request is None else address_of(self.request)


class OperatorsSite(AdminSite):
    """Django's admin by our name."""

    site_header = site_title = "PyFlow"
    index_title = "Operators"
    login_form = LoginForm
    index_template = "pyflow_site/operators.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Django's page; the operator's has what there is to do and who does it on top."""
        more = {"load": load()} if request.user.is_active and request.user.is_superuser else {}
        return super().index(request, {**(extra_context or {}), **more})

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Django's page; 429 with ``Retry-After`` for who failed too often."""
        response = super().login(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            form = response.context_data.get("form")
            if isinstance(form, LoginForm) and form.retry_after:
                response.status_code = 429
                response.headers["Retry-After"] = str(form.retry_after)
        return response
