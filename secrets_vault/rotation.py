"""Replacing master keys and data keys while everything goes on, and going on after having been killed.

Nothing is remembered but the rows themselves: what is still wrapped with an old master key is still to be done. Readers
see each row before or after its change, and both decrypt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from django.apps import apps
from django.db import transaction

from secrets_vault.errors import MasterKeyUnknownError, SecretUnreadableError, VaultNotConfiguredError
from secrets_vault.keys import wrapper
from secrets_vault.models import DataKey, Sealed
from tenants.access import Actor
from tenants.audit import record

COMMAND = "rotate_master_key"


def master_key_state() -> Literal["ok", "lost", "off"]:
    """Say whether the configured master keys unwrap every data key; ``off``: there is neither a key nor a need of one.

    ``lost``: some tenant's secrets cannot be read, nor new ones be stored; see ``abandon_lost_keys``.
    """
    try:
        known = wrapper().known
    except VaultNotConfiguredError:
        known = frozenset()
    if DataKey.objects.across_tenants().exclude(master_key__in=known).exists():
        return "lost"
    return "ok" if known else "off"


@dataclass(slots=True)
class Rotation:
    """Progress of a rotation. ``failed`` names the rows that could not be done and the reasons, without keys."""

    master_key: str
    data_keys: int = 0
    already: int = 0
    replaced: int = 0
    secrets: int = 0
    failed: tuple[str, ...] = ()


def rotate_master_key(
    *, batch_size: int = 100, data_keys: bool = False, on_batch: Callable[[Rotation], None] = lambda _: None
) -> Rotation:
    """Wrap every data key with the current master key, and with ``data_keys`` replace those made under another one.

    Each batch is one transaction with its entries in the audit. Doing it again does what is left, which may be
    nothing. Raises ``VaultNotConfiguredError``.
    """
    done = Rotation(wrapper().current)
    done.already = DataKey.objects.across_tenants().filter(master_key=done.master_key).count()
    _rewrap(done, batch_size, on_batch)
    if data_keys:
        _replace_data_keys(done, batch_size, on_batch)
    return done


def abandon_lost_keys() -> int:
    """Give up every data key whose master key is not configured any more, and the values that it encrypts.

    The names of the secrets stay, so that whoever has the values can store them anew; until then a node that asks for
    one is refused. Each tenant finds it in its audit. Returns how many values that were. Raises
    ``VaultNotConfiguredError`` where there is no master key to go on with.
    """
    values = 0
    lost = DataKey.objects.across_tenants().exclude(master_key__in=wrapper().known)
    for pk in list(lost.order_by("tenant_id", "version").values_list("pk", flat=True)):
        with transaction.atomic():
            key = lost.select_for_update(no_key=True).filter(pk=pk).first()
            if key is None:
                continue
            count, names = 0, set[str]()
            for model in _sealed_models():
                rows = model.objects.for_tenant(key.tenant_id).filter(data_key=key)
                of_model = [row.owner_name for row in rows.select_related()]
                count, names = count + len(of_model), names.union(of_model)
                model.destroy(rows)
            after = {"values": count, "secrets": sorted(names)}
            _audit(key, "data_key.abandoned", {"master_key": key.master_key}, after)
            key.delete()
            values += count
    return values


def _rewrap(done: Rotation, batch_size: int, on_batch: Callable[[Rotation], None]) -> None:
    skipped: set[UUID] = set()
    while True:
        with transaction.atomic():
            rows = DataKey.objects.across_tenants().exclude(master_key=done.master_key).exclude(pk__in=skipped)
            # Of one tenant: nobody holds the audit of a tenant while waiting for another's.
            first = rows.order_by("tenant_id").values_list("tenant_id", flat=True).first()
            keys = rows.filter(tenant=first).order_by("version")
            batch = list(keys.select_for_update(no_key=True)[:batch_size])
            for key in batch:
                before = key.master_key
                try:
                    key.rewrap()
                except (MasterKeyUnknownError, SecretUnreadableError) as error:
                    skipped.add(key.pk)
                    done.failed += (f"tenant {key.tenant_id}, data key {key.version}: {error}",)
                    continue
                done.data_keys += 1
                _audit(key, "data_key.rewrapped", {"master_key": before}, {"master_key": key.master_key})
        if batch:
            on_batch(done)
        elif not rows.exists():  # else another command did what this one waited for
            return


def _replace_data_keys(done: Rotation, batch_size: int, on_batch: Callable[[Rotation], None]) -> None:
    old = DataKey.objects.across_tenants().filter(master_key=done.master_key).exclude(made_under=done.master_key)
    for tenant_id in list(old.order_by("tenant_id").values_list("tenant_id", flat=True).distinct()):
        try:
            # Again if somebody stored a secret with an old key meanwhile.
            while old.filter(tenant=tenant_id).exists():
                for count in _replace_keys_of(tenant_id, done.master_key, batch_size):
                    done.secrets += count
                    on_batch(done)
                done.replaced += _remove_old(tenant_id, done.master_key)
        except SecretUnreadableError as error:
            done.failed += (f"tenant {tenant_id}: {error}",)


def _replace_keys_of(tenant_id: UUID, master_key: str, batch_size: int) -> Iterator[int]:
    """Encrypt what a tenant's old data keys encrypt with the newest one; yields how many values."""
    _ensure_new(tenant_id, master_key)
    for model in _sealed_models():
        while batch := _reseal(model, tenant_id, batch_size):
            yield batch


@transaction.atomic
def _reseal(model: type[Sealed], tenant_id: UUID, batch_size: int) -> int:
    newest = DataKey.objects.for_tenant(tenant_id).order_by("-version")[0]
    old = model.objects.for_tenant(tenant_id).filter(data_key__isnull=False).exclude(data_key=newest)
    rows = old.select_for_update(of=("self",), no_key=True).select_related("data_key")
    batch = list(rows.order_by("pk")[:batch_size])
    for row in batch:
        row.reseal(newest)
    return len(batch)


def _ensure_new(tenant_id: UUID, master_key: str) -> None:
    """Make a data key under the current master key, unless an earlier attempt did."""
    with transaction.atomic():
        newest = DataKey.objects.for_tenant(tenant_id).select_for_update(no_key=True).order_by("-version")[0]
        if newest.made_under != master_key:
            made = DataKey.make(tenant_id=tenant_id, version=newest.version + 1)
            made.save(force_insert=True)
            _audit(made, "data_key.created", None, {"version": made.version, "master_key": master_key})


def _remove_old(tenant_id: UUID, master_key: str) -> int:
    """Remove the data keys that encrypt nothing any more. Whoever stores a secret now holds the lock of its key."""
    removed = 0
    with transaction.atomic():
        rows = DataKey.objects.for_tenant(tenant_id).exclude(made_under=master_key)
        for key in rows.select_for_update(no_key=True).order_by("version"):
            if not any(model.objects.for_tenant(tenant_id).filter(data_key=key).exists() for model in _sealed_models()):
                _audit(key, "data_key.removed", {"version": key.version}, None)
                key.delete()
                removed += 1
    return removed


def _sealed_models() -> list[type[Sealed]]:
    """The models of all apps whose rows are encrypted with data keys."""
    return [model for model in apps.get_models() if issubclass(model, Sealed)]


def _audit(key: DataKey, action: str, before: dict[str, object] | None, after: dict[str, object] | None) -> None:
    actor = Actor.system(key.tenant_id, COMMAND)
    record(by=actor, action=action, target=f"data_key:{key.version}", before=before, after=after)
