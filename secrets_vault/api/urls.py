"""Routes of secrets, below ``/api/v1/``."""

from django.urls import path

from secrets_vault.api.views import RotateView, SecretsView, SecretView, VersionsView, VersionView

urlpatterns = [
    path("secrets", SecretsView.as_view(), name="secrets"),
    path("secrets/<str:name>", SecretView.as_view(), name="secret"),
    path("secrets/<str:name>/rotate", RotateView.as_view(), name="secret-rotate"),
    path("secrets/<str:name>/versions", VersionsView.as_view(), name="secret-versions"),
    path("secrets/<str:name>/versions/<int:number>", VersionView.as_view(), name="secret-version"),
]
