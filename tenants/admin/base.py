"""Base classes of all admin screens: tenant-scoped rows, verbs instead of saving, bounded lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.paginator import Paginator
from django.db import DataError, models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from pyflow.core.errors import PyFlowError
from tenants.access import Permission
from tenants.admin.access import is_operator, may, tenants_with
from tenants.models import Tenant

RowT = TypeVar("RowT", bound=models.Model)

#: Beyond, a list does not say how many rows there are: counting a million takes longer than showing a hundred.
MOST_COUNTED = 10_000
#: How many tenants a filter offers; others are found by searching.
MOST_TENANTS = 50
#: Characters of JSON on a page.
MOST_SHOWN = 200_000


class BoundedPaginator(Paginator[Any]):
    """Counts up to ``MOST_COUNTED`` rows; what is beyond is reached by filtering."""

    @cached_property
    def count(self) -> int:
        """Count the rows to page through."""
        if not isinstance(self.object_list, QuerySet):
            return len(self.object_list)
        return self.object_list.order_by().values("pk")[:MOST_COUNTED].count()

    @property
    def is_cut(self) -> bool:
        """Return whether there may be more rows than it counts."""
        return self.count >= MOST_COUNTED


class TenantFilter(admin.SimpleListFilter):
    """By tenant, among those that whoever asks may see."""

    title = "tenant"
    parameter_name = "tenant__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Their ids and slugs."""
        allowed = tenants_with(request, model_admin.read)
        rows = Tenant.objects.all() if allowed is None else Tenant.objects.filter(pk__in=allowed)
        return [(str(pk), slug) for pk, slug in rows.order_by("slug").values_list("pk", "slug")[:MOST_TENANTS]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the chosen one."""
        if not self.value():
            return queryset
        try:
            return queryset.filter(tenant=self.value())
        except ValidationError as error:  # it is no id
            raise IncorrectLookupParameters(error) from error


class CheckedAddress(admin.ModelAdmin[RowT]):
    """Read nonsense in an address as a person's slip, where Django answers with an error 500."""

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Django's values for the fields of a form, without those that the fields cannot have."""
        initial = super().get_changeform_initial_data(request)
        for name, value in list(initial.items()):
            try:
                initial[name] = self._read(name, value)
            except ValidationError:
                del initial[name]
        return initial

    def _read(self, name: str, value: Any) -> Any:
        try:
            field: Any = self.opts.get_field(name)
        except FieldDoesNotExist:  # of the form alone
            return value
        if not field.is_relation:
            return field.to_python(value)
        key: Any = field.related_model._meta.pk
        for one in value if isinstance(value, list) else [value]:
            key.run_validators(key.to_python(one))
        return value

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Django's list. What the database cannot be asked for is a wrong filter as any other: it is left out."""
        try:
            with transaction.atomic():
                return super().get_changelist_instance(request)
        except (DataError, OverflowError, TypeError, ValueError) as error:
            raise IncorrectLookupParameters(error) from error


class TenantOwnedAdmin(CheckedAddress[RowT]):
    """Rows of tenants. They are looked at; where a screen changes them, it does so by a verb that writes the audit."""

    #: What reading needs, in the tenant of a row; and, where the screen changes something, what that needs.
    read: ClassVar[Permission]
    write: ClassVar[Permission | None] = None
    #: Whether rows are added, changed and deleted here, for those who may ``write``.
    adds = changes = deletes = False
    #: The field of a row that is its tenant's id.
    tenant_field = "tenant_id"
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    ordering: ClassVar[tuple[str, ...]] = ("-id",)
    change_list_template = "tenants/admin/change_list.html"

    class Media:
        """The looks of what Django's admin has not got."""

        css: ClassVar = {"all": ("tenants/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[RowT]:
        """The rows of the tenants in which they may read such rows."""
        rows, allowed = super().get_queryset(request), tenants_with(request, self.read)
        return rows if allowed is None else rows.filter(**{f"{self.tenant_field}__in": allowed})

    def has_view_permission(self, request: HttpRequest, obj: RowT | None = None) -> bool:
        """Django's permission, and the role's in the row's tenant."""
        return super().has_view_permission(request, obj) and self._may(request, self.read, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether rows can be added here at all."""
        return self.adds and super().has_add_permission(request) and self._may(request, self.write)

    def has_change_permission(self, request: HttpRequest, obj: RowT | None = None) -> bool:
        """Return whether rows can be changed here at all."""
        return self.changes and super().has_change_permission(request, obj) and self._may(request, self.write, obj)

    def has_delete_permission(self, request: HttpRequest, obj: RowT | None = None) -> bool:
        """Return whether rows can be deleted here at all."""
        return self.deletes and super().has_delete_permission(request, obj) and self._may(request, self.write, obj)

    def has_write_permission(self, request: HttpRequest, obj: RowT | None = None) -> bool:
        """Return whether the user may take this screen's actions: needs Django's permission, and the role's."""
        name = f"{self.opts.app_label}.change_{self.opts.model_name}"
        return request.user.has_perm(name) and self._may(request, self.write, obj)

    def _may(self, request: HttpRequest, permission: Permission | None, obj: RowT | None = None) -> bool:
        if permission is None:
            return is_operator(request)
        return may(request, permission, None if obj is None else getattr(obj, self.tenant_field))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A tenant is chosen among those in which they may write such rows."""
        allowed = None if self.write is None else tenants_with(request, self.write)
        if db_field.name == "tenant" and allowed is not None:
            kwargs["queryset"] = Tenant.objects.filter(pk__in=allowed)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_autocomplete_fields(self, request: HttpRequest) -> Any:
        """The operator may have any number of tenants; others choose among their few."""
        fields = super().get_autocomplete_fields(request)
        return fields if is_operator(request) else [field for field in fields if field != "tenant"]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Django's page; a verb that refuses is a message on it."""
        return self._telling(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Django's page; a verb that refuses is a message on it."""
        return self._telling(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Django's page; a verb that refuses is a message on it."""
        return self._telling(request, super().changelist_view, *args, **kwargs)

    def _telling(self, request: HttpRequest, view: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return view(request, *args, **kwargs)
        except PyFlowError as error:
            if request.method != "POST":
                raise
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def shown_once(self, request: HttpRequest, *, what: str, text: str, back: str) -> HttpResponse:
        """A page with something that is kept nowhere, neither in a cookie nor in a cache."""
        context = {**self.admin_site.each_context(request), "title": what, "text": text, "back": back}
        response = TemplateResponse(request, "tenants/admin/shown_once.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response


def pretty(value: object) -> SafeString:
    """JSON for reading, escaped; the beginning of what is very long."""
    if value is None:
        return format_html("{}", "–")
    text = json.dumps(value, indent=2, ensure_ascii=False)
    more = f"\n… {len(text) - MOST_SHOWN:,} more characters" if len(text) > MOST_SHOWN else ""
    return format_html('<pre class="pyflow-json">{}</pre>', text[:MOST_SHOWN] + more)


def badge(state: str) -> SafeString:
    """A state in its colour."""
    return format_html('<span class="pyflow-state pyflow-{}">{}</span>', state, state)


def table(headings: list[str], rows: list[list[object]]) -> SafeString:
    """A small table; every cell is escaped unless it is safe already."""
    if not rows:
        return format_html("{}", "none")
    head = format_html_join("", "<th>{}</th>", ([heading] for heading in headings))
    body = format_html_join(
        "", "<tr>{}</tr>", ([format_html_join("", "<td>{}</td>", ([_cell(cell)] for cell in row))] for row in rows)
    )
    return format_html('<table class="pyflow-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body)


def _cell(value: object) -> object:
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else value
