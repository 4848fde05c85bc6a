"""Django settings. What differs between installations comes from the environment (see ``environment.py``)."""

from __future__ import annotations

import math
import os
from typing import Any

import django_stubs_ext

from pyflow import __version__
from pyflow.core.states import NodeState, RunState
from pyflow.execution.run_log import LEVELS
from pyflow_site.content_security import PAGES
from pyflow_site.environment import database, read_environment

# Lets classes such as ModelAdmin be subscripted with their model, which Django itself only allows type checkers.
django_stubs_ext.monkeypatch()

ENVIRONMENT = read_environment()
PRODUCTION = ENVIRONMENT.production
DEBUG = False
SECRET_KEY = ENVIRONMENT.signing_key()
ALLOWED_HOSTS = [host.strip() for host in ENVIRONMENT.allowed_hosts.split(",") if host.strip()]
CSRF_TRUSTED_ORIGINS = [origin.strip() for origin in ENVIRONMENT.trusted_origins.split(",") if origin.strip()]

INSTALLED_APPS = [
    "daphne",
    "pyflow_site.admin_app.OperatorsConfig",  # django.contrib.admin with our site
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "guardian",
    "tenants",
    "secrets_vault",
    "plugins",
    "workflows",
    "runs",
    "events",
    "triggers",
    "pyflow_site",
]
MIDDLEWARE = [
    "pyflow_site.request_ids.RequestId",
    "pyflow_site.content_security.ContentSecurityPolicy",
    "pyflow_site.middleware.RateLimits",
    "django.middleware.security.SecurityMiddleware",
    "pyflow_site.middleware.StaticFiles",
    "pyflow_site.middleware.ApiPaths",
    "pyflow_site.middleware.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "pyflow_site.middleware.SessionUsers",
    "pyflow_site.middleware.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "pyflow_site.urls"
ASGI_APPLICATION = "pyflow_site.asgi.application"
WSGI_APPLICATION = "pyflow_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": database(ENVIRONMENT)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTHENTICATION_BACKENDS = ["tenants.passwords.PasswordBackend", "guardian.backends.ObjectPermissionBackend"]
# Guardian only keeps the rows of grants: no user for those who have not logged in, no methods on users and groups.
ANONYMOUS_USER_NAME = None
GUARDIAN_MONKEY_PATCH_USER = GUARDIAN_MONKEY_PATCH_GROUP = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "static/"
STATIC_ROOT = ENVIRONMENT.home / "static"
# Files of installed apps are served from where they are; `collectstatic` is for a web server in front.
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

# Cookies and transport: the deploy check's list.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = PRODUCTION
SESSION_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31_536_000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PRODUCTION else None
# Probes come from inside, over plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/health/"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {"DIRECTIVES": PAGES}

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.api.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["plumbing.rest.formats.JSONParser", "plumbing.rest.formats.YAMLParser"],
    "DEFAULT_RENDERER_CLASSES": ["plumbing.rest.formats.JSONRenderer", "plumbing.rest.formats.YAMLRenderer"],
    "DEFAULT_SCHEMA_CLASS": "pyflow_site.openapi.Schema",
    "EXCEPTION_HANDLER": "pyflow_site.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "PyFlow",
    "DESCRIPTION": "Workflows: stored, versioned, executed durably, followed live.",
    "VERSION": __version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    # From the installed package: the pages work without a network.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,  # the values of an enum are in the enum, once
    "COMPONENT_SPLIT_PATCH": False,  # what a PATCH takes is not partial here: what it needs, it needs
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "pyflow_site.openapi.complete_components",
    ],
    "ENUM_NAME_OVERRIDES": {
        "RunStateEnum": [state.value for state in RunState],
        "NodeStateEnum": [state.value for state in NodeState],
        "DocumentFormatEnum": ["json", "yaml"],
        "VersionStateEnum": ["draft", "published", "archived"],
        "WorkflowsStateEnum": ["active", "archived", "all"],
        "LevelEnum": ["read", "run", "write"],
        "LogLevelEnum": list(LEVELS.values()),
        "InvitationStateEnum": ["open", "accepted", "revoked", "expired"],
        "WebhookStateEnum": ["active", "paused", "disabled"],
        "DeliveryStateEnum": ["pending", "delivered", "exhausted"],
    },
}

# Execution. Redis databases: 0 broker, 1 channels, 2 cache, 3 limits.
PYFLOW_EXECUTOR = ENVIRONMENT.executor_kind
PYFLOW_EVENT_BUS = ENVIRONMENT.event_bus_factory
PYFLOW_LEASE_SECONDS = ENVIRONMENT.lease_seconds
PYFLOW_SWEEP_SECONDS = ENVIRONMENT.sweep_seconds
PYFLOW_LINGER_SECONDS = ENVIRONMENT.linger_seconds
PYFLOW_CONCURRENT_RUNS = ENVIRONMENT.concurrent_runs
PYFLOW_STORAGE_ROOT = ENVIRONMENT.home / "storage"
PYFLOW_VALUES_ROOT = ENVIRONMENT.values_root or ENVIRONMENT.home / "values"
PYFLOW_LARGE_VALUE_BYTES = ENVIRONMENT.large_value_bytes
PYFLOW_PERMIT_PRIVATE_NETWORKS = ENVIRONMENT.permit_private_networks
PYFLOW_ALLOWED_NETWORKS = [entry.strip() for entry in ENVIRONMENT.allowed_networks.split(",") if entry.strip()]
PYFLOW_MASTER_KEYS = ENVIRONMENT.master_key_text()
PYFLOW_SECRET_PROVIDERS = ENVIRONMENT.secret_provider_names()
PYFLOW_KEY_PEPPER = ENVIRONMENT.key_pepper or SECRET_KEY
PYFLOW_PROXIES = ENVIRONMENT.proxies
PYFLOW_JWT_PRIVATE_KEY = ENVIRONMENT.token_key()
PYFLOW_JWT_PUBLIC_KEYS = ENVIRONMENT.jwt_public_keys
PYFLOW_JWT_ISSUER = ENVIRONMENT.jwt_issuer
PYFLOW_DEFAULT_PLAN = ENVIRONMENT.default_plan
PYFLOW_LIMITS_URL = ENVIRONMENT.redis_database(3) if ENVIRONMENT.redis_url else ""

CELERY_BROKER_URL = ENVIRONMENT.redis_database(0) if ENVIRONMENT.redis_url else "memory://"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 300,
    "socket_keepalive": True,
    "health_check_interval": 10,
    # A broker that says nothing holds a request up for as long; beyond the second that a worker's poll takes.
    "socket_connect_timeout": 2,
    "socket_timeout": 2,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.2, "interval_max": 0.5}
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10.0
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
# The scheduler's rows count whole seconds: it makes 0 of a fraction, and then sends without a pause.
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "runs.sweep", "schedule": math.ceil(PYFLOW_SWEEP_SECONDS)},
    "prune": {"task": "runs.prune", "schedule": 3600},
    "repair-counters": {"task": "runs.repair_counters", "schedule": 86_400},
}
DJANGO_CELERY_BEAT_TZ_AWARE = True

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "pyflow.core.redaction.RedactingFormatter",
            "fmt": "{asctime} {levelname:<7} {name} [{request_id}] {message}",
            "style": "{",
        }
    },
    "filters": {"request": {"()": "pyflow_site.request_ids.RequestIdFilter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request"]}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("PYFLOW_LOG_LEVEL", "INFO").upper()},
    "loggers": {
        # Every request is a line of the server in front; here only what went wrong.
        "django.request": {"level": "ERROR"},
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
    },
}
