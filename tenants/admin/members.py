"""Members and invitations."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from tenants.access import Permission, Role
from tenants.accounts import record_account
from tenants.admin.access import acting, is_operator, principal_of
from tenants.admin.base import CheckedAddress, TenantFilter, TenantOwnedAdmin, badge
from tenants.invitations import EMAIL_LENGTH, invite, revoke_invitation
from tenants.members import account_changed, add_member, change_role, lock_member, remove_member
from tenants.models import Invitation, Membership


@admin.register(Membership)
class MembershipAdmin(TenantOwnedAdmin[Membership]):
    """Members and their roles. The operator adds users; members invite."""

    read, write = Permission.MEMBERS_READ, Permission.MEMBERS_WRITE
    adds = changes = deletes = True
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = (TenantFilter, "role")
    list_select_related = ("user", "tenant")
    search_fields = ("user__username", "user__email", "tenant__slug")
    autocomplete_fields = ("tenant", "user")
    fields = ("tenant", "user", "role", "created_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> Any:
        """Of a member there is nothing to change but the role."""
        return ("created_at", "updated_at") if obj is None else ("tenant", "user", "created_at", "updated_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The operator's: whoever chooses among all users sees them all."""
        return is_operator(request)

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        """By the verbs, which see to it that nobody gives more than they have."""
        by = acting(request, obj.tenant_id)
        if not change:
            obj.__dict__.update(add_member(by=by, user=obj.user, role=Role(obj.role)).__dict__)
            return
        principal, row = principal_of(request, obj.tenant_id), lock_member(tenant_id=obj.tenant_id, member_id=obj.pk)
        change_role(by=by, principal=principal, member=row, role=Role(obj.role))

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """End the membership with its keys and tokens."""
        row = lock_member(tenant_id=obj.tenant_id, member_id=obj.pk)
        remove_member(by=acting(request, obj.tenant_id), principal=principal_of(request, obj.tenant_id), member=row)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        """All of them or, if one is refused, none."""
        for member in queryset:
            self.delete_model(request, member)


class InvitationForm(forms.ModelForm[Invitation]):
    """An address and a role."""

    email = forms.EmailField(max_length=EMAIL_LENGTH)

    class Meta:
        """Fields of the form."""

        model = Invitation
        fields = ("tenant", "email", "role")


@admin.register(Invitation)
class InvitationAdmin(TenantOwnedAdmin[Invitation]):
    """Offers of membership. The token of a new one is shown once."""

    read, write = Permission.MEMBERS_READ, Permission.MEMBERS_WRITE
    adds = True
    form = InvitationForm
    list_display = ("email", "tenant", "role", "shown_state", "invited_by", "expires_at")
    list_filter = (TenantFilter, "role")
    list_select_related = ("tenant", "invited_by")
    search_fields = ("email", "tenant__slug")
    autocomplete_fields = ("tenant",)
    actions = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        """Everything but the hash of the token."""
        asked = ("tenant", "email", "role")
        known = ("shown_state", "invited_by", "created_at", "expires_at", "accepted_at", "revoked_at")
        return asked if obj is None else (*asked, *known)

    def get_readonly_fields(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        """An invitation never changes; it is revoked."""
        return () if obj is None else self.get_fields(request, obj)

    @admin.display(description="State")
    def shown_state(self, invitation: Invitation) -> SafeString:
        """Return the state of the invitation."""
        return badge(invitation.state)

    def save_model(self, request: HttpRequest, obj: Invitation, form: Any, change: bool) -> None:
        """By the verb; its token waits for ``response_add``."""
        by, principal = acting(request, obj.tenant_id), principal_of(request, obj.tenant_id)
        made, form.token = invite(by=by, principal=principal, email=obj.email, role=Role(obj.role))
        obj.__dict__.update(made.__dict__)
        request._shown_once = form.token  # type: ignore[attr-defined] # Django hands the request on, not the form

    def response_add(
        self, request: HttpRequest, obj: models.Model, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The token, in place of a message: those are kept in a cookie."""
        text = request._shown_once  # type: ignore[attr-defined] # by `save_model`
        return self.shown_once(
            request, what=f"Invitation of {obj}", text=text, back=reverse("admin:tenants_invitation_changelist")
        )

    @admin.action(description="Revoke the selected invitations", permissions=["write"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        """Withdraw each."""
        for invitation in (rows := [row for row in queryset if self.has_write_permission(request, row)]):
            revoke_invitation(by=acting(request, invitation.tenant_id), invitation_id=invitation.pk)
        self.message_user(request, f"{len(rows)} revoked.")


class OperatorsOnly:
    """Accounts span tenants, and whoever changes them can become anybody: the operator's alone.

    An account is not deleted, because that would end memberships and keys without a trace: it is made inactive.
    """

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_operator(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_operator(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Audited(CheckedAddress[Any]):
    """Each change is an entry in the audit of every tenant that it gives or takes access to."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Record it where Django does."""
        self._record(request, obj, "created", [])
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Record it where Django does; a new password comes by here as well."""
        parts = message if isinstance(message, list) else []
        fields = [name for part in parts for name in part.get("changed", {}).get("fields", ())]
        self._record(request, obj, "changed", fields)
        return super().log_change(request, obj, message)

    def _record(self, request: HttpRequest, obj: Any, verb: str, fields: list[str]) -> None:
        record_account(acting=partial(acting, request), account=obj, verb=verb, fields=fields)


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class AccountAdmin(OperatorsOnly, Audited, UserAdmin[User]):
    """Accounts."""

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Django's; who is no longer active is out at once, with every key and token."""
        obj.was_superuser = bool(form.initial.get("is_superuser"))  # type: ignore[attr-defined] # for `record_account`
        super().save_model(request, obj, form, change)
        if change and "is_active" in form.changed_data:
            account_changed(user_id=obj.pk)


@admin.register(Group)
class AccountGroupAdmin(OperatorsOnly, Audited, GroupAdmin):
    """Groups of staff with Django's permissions, and, hidden here, those that stand for a tenant's roles in grants."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        """Without the groups of grants, which are called ``<id of a tenant>:<role>``."""
        return super().get_queryset(request).exclude(name__contains=":")
