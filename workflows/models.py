"""Workflows and their versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Self

from django.db import models
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.scoping import TenantOwned
from workflows.errors import VersionStateError


class OctetLength(models.Func):
    """The number of bytes of a text, in UTF-8."""

    function = "OCTET_LENGTH"
    arity = 1
    output_field = models.BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """SQLite has the function since 3.43 only."""
        template = "LENGTH(CAST(%(expressions)s AS BLOB))"
        return self.as_sql(compiler, connection, template=template, **context)


class Workflow(TenantOwned):
    """A named workflow. What it does is in its versions."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=128)
    description = models.TextField(blank=True, default="")
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    revision = models.PositiveIntegerField(default=0, editable=False, help_text="Counter of changes, for the `ETag`.")

    class Meta(TenantOwned.Meta):
        """Names are unique in a tenant."""

        abstract = False
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("tenant", "name"), name="workflow_name_per_tenant"),)

    def __str__(self) -> str:
        return self.name

    def touch(self, *changed: str) -> None:
        """Save what was changed of it, as a new revision."""
        self.revision, self.updated_at = self.revision + 1, timezone.now()
        self.save(update_fields=[*changed, "revision", "updated_at"])


class VersionState(models.TextChoices):
    """A draft can be edited; what was published never changes again; what is archived is not run any more."""

    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class ImmutableVersionError(TypeError):
    """A version that is no draft any more was about to be changed."""


#: What is frozen once a version is published. A trigger of the database refuses it, too (migration 0003).
FROZEN = ("workflow_id", "number", "source", "source_format", "definition", "checksum", "published_at")


class Version(TenantOwned):
    """One state of a workflow. ``source`` is what was sent, ``definition`` what it means (canonical JSON).

    Of the published ones, runs start the one of the greatest ``publication``.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(editable=False)
    state = models.CharField(max_length=16, choices=VersionState.choices, editable=False)
    source = models.TextField(editable=False)
    source_format = models.CharField(max_length=4, choices=(("yaml", "YAML"), ("json", "JSON")), editable=False)
    definition = models.TextField(editable=False)
    checksum = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the canonical definition.")
    copied_from = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+", editable=False)
    publication = models.PositiveIntegerField(
        null=True, editable=False, help_text="Number of the publication in the workflow. Empty: not published."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    published_at = models.DateTimeField(null=True, editable=False)
    archived_at = models.DateTimeField(null=True, editable=False)

    class Meta(TenantOwned.Meta):
        """Numbers count from 1 in a workflow."""

        abstract = False
        ordering = ("workflow", "-number")
        constraints = (
            models.UniqueConstraint(fields=("workflow", "number"), name="version_number_per_workflow"),
            models.UniqueConstraint(fields=("workflow", "publication"), name="publication_per_workflow"),
            models.CheckConstraint(
                condition=models.Q(state="published", publication__isnull=False)
                | (~models.Q(state="published") & models.Q(publication__isnull=True)),
                name="publication_of_published",
            ),
        )

    def __str__(self) -> str:
        return f"{self.workflow_id} v{self.number}"

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any) -> Self:
        """The row, remembering what it must stay."""
        version = super().from_db(db, field_names, values, **more)
        if version.__dict__.get("state") != VersionState.DRAFT:
            version._frozen = {name: version.__dict__[name] for name in FROZEN if name in version.__dict__}
        return version

    _frozen: Mapping[str, Any] = MappingProxyType({})

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the version. ``ImmutableVersionError`` for another content of one that is no draft any more."""
        changed = [name for name, value in self._frozen.items() if getattr(self, name) != value]
        if changed:
            raise ImmutableVersionError(f"a published version never changes ({', '.join(changed)}); make a new one")
        super().save(*args, **kwargs)
        if self.state != VersionState.DRAFT:
            self._frozen = {name: getattr(self, name) for name in FROZEN}

    def publish(self, publication: int) -> None:
        """Freeze the draft: from now on runs may start it. Raises ``VersionStateError`` for what is no draft."""
        self._must_be(VersionState.DRAFT, "Only a draft is published. Roll back to run an earlier version again.")
        self.state, self.publication = VersionState.PUBLISHED, publication
        self.updated_at = self.published_at = timezone.now()
        self.save(update_fields=["state", "publication", "updated_at", "published_at"])

    def archive(self) -> None:
        """Let no run start it any more; those in flight go on. Raises ``VersionStateError`` unless it is published."""
        self._must_be(VersionState.PUBLISHED, "Only a published version is archived. Delete a draft.")
        self.state, self.publication = VersionState.ARCHIVED, None
        self.updated_at = self.archived_at = timezone.now()
        self.save(update_fields=["state", "publication", "updated_at", "archived_at"])

    def must_be_draft(self) -> None:
        """Raise ``VersionStateError`` for what is no draft any more."""
        self._must_be(VersionState.DRAFT, "Only a draft is changed or deleted. Make a new one from its document.")

    def must_be_published(self) -> None:
        """Raise ``VersionStateError`` for what no run may start of: a draft, or an archived version."""
        self._must_be(VersionState.PUBLISHED, "Runs start of published versions. Publish it, or a copy by `rollback`.")

    def _must_be(self, state: VersionState, advice: str) -> None:
        if self.state != state:
            raise VersionStateError(f"Version {self.number} is {self.state}. {advice}")
