"""The base of every view that acts for a tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from rest_framework.exceptions import NotAcceptable
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.database.transactions import retried
from plumbing.rest.client_address import address_of
from plumbing.rest.views import StrictView
from tenants.access import Actor, Permission, Principal
from tenants.api.idempotency import Once, answer_once, in_flight, key_of, stored_answer
from tenants.api.permissions import Allowed
from tenants.limits import admit
from tenants.plans import Quota
from tenants.principals import cache
from tenants.scoping import TenantOwned, tenant_scope

Handler = Callable[..., Response]


class TenantView(StrictView):
    """Authenticates, asks for the permission of the method, and runs the handler inside its tenant.

    The handler of a method that changes something is one transaction, and on PostgreSQL that of every method; there it
    sees only rows of its tenant. So does ``shared_object``. A ``POST`` with an ``Idempotency-Key`` is answered once.
    What must come after the commit is in ``after``, which enters a scope of its own (``tenant_scope``) for queries.
    """

    permission_classes = (Allowed,)
    #: What each method needs; ``None``: nothing but a credential.
    permissions: ClassVar[Mapping[str, Permission | None]] = {}
    #: The quotas that each method may be refused for.
    limited_by: ClassVar[Mapping[str, tuple[Quota, ...]]] = {}
    #: Fields of an answer that are shown once: not stored with an ``Idempotency-Key``, so ``null`` in a replay.
    shown_once: ClassVar[tuple[str, ...]] = ()
    #: Whether handlers commit bit by bit, each bit by ``step``.
    in_batches: ClassVar[bool] = False
    #: Whether an answer to a request with an `Idempotency-Key` is kept, to be given again.
    keeps_answers: ClassVar[bool] = True

    def shared_object(self) -> TenantOwned | None:
        """The object of this request that may have been shared with the caller."""
        return None

    def after(self, request: Request, response: Response) -> Response:
        """The answer, once what the handler did is committed."""
        return response

    @property
    def principal(self) -> Principal:
        """The authenticated caller."""
        if self._principal is None:
            principal = self.request.user
            assert isinstance(principal, Principal)  # noqa: S101 - `Allowed` has seen to it
            self._principal = principal
        return self._principal

    _principal: Principal | None = None
    #: The request that is being answered in steps, if it has an ``Idempotency-Key``.
    _once: Once | None = None

    @property
    def actor(self) -> Actor:
        """The caller, for the audit."""
        request_id = getattr(self.request, "request_id", "")
        return self.principal.acting(request_id=request_id, address=address_of(self.request))

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """DRF asks for this before the credential. A request for what there is not counts as every other one does."""
        try:
            return super().perform_content_negotiation(request, force)
        except NotAcceptable:
            self.perform_authentication(request)
            raise

    def perform_authentication(self, request: Request) -> None:
        """Afterwards the request is counted, whatever becomes of it; its answer says how many more there may be."""
        super().perform_authentication(request)
        user = request.user
        if isinstance(user, Principal):
            admit(user, self.headers)

    def check_permissions(self, request: Request) -> None:
        """Only whether somebody asks: what they may do depends on rows of the tenant, and is asked in its scope."""
        if not isinstance(request.user, Principal):
            self.permission_denied(request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """DRF's checks; afterwards the handler that DRF will call is wrapped."""
        super().initial(request, *args, **kwargs)
        name = str(request.method).lower()
        handler: Handler | None = getattr(self, name, None)
        if name in self.http_method_names and handler is not None:
            setattr(self, name, partial(self._handle, handler))

    def _handle(self, handler: Handler, request: Request, *args: Any, **kwargs: Any) -> Response:
        answer = self._batches if self.in_batches else self._transact
        response = answer(request, partial(handler, request, *args, **kwargs))
        return response if request.method == "OPTIONS" else self.after(request, response)

    @retried
    def _transact(self, request: Request, handler: Callable[[], Response]) -> Response:
        """Run the handler in one transaction; return its response once that is committed."""
        if not self._is_keyed(request):
            with self.scope(request):
                return handler()
        with in_flight(self.principal, request) as once, self.scope(request):
            return answer_once(once, handler, hidden=self.shown_once)

    def _batches(self, request: Request, handler: Callable[[], Response]) -> Response:
        """Run a handler that commits in steps; with a key, store the first response."""
        if not self._is_keyed(request):
            return handler()
        with in_flight(self.principal, request) as once:
            with self.scope(request):
                response = stored_answer(once)
            if response is None:
                self._once = once
                done = handler()
                with self.scope(request):
                    response = answer_once(once, lambda: done, hidden=self.shown_once)
        return response

    @retried
    def step(self, request: Request, name: str, function: Callable[[], Any]) -> Any:
        """Return the result of a step of a handler that is ``in_batches`` (JSON values), once that is committed.

        With an ``Idempotency-Key`` it is stored in the transaction of the step: a request that is sent again after a
        crash goes on with the first step that was not committed.
        """
        with self.scope(request):
            if self._once is None:
                return function()
            return answer_once(self._once.step(name), lambda: Response(function()), hidden=()).data

    def _is_keyed(self, request: Request) -> bool:
        if request.method != "POST" or "Idempotency-Key" not in request.headers:
            return False
        key_of(request)
        return self.keeps_answers

    @contextmanager
    def scope(self, request: Request) -> Iterator[None]:
        """The tenant's, in which the caller's access is as it is now, and allows the method."""
        with tenant_scope(self.principal.tenant_id, write=request.method not in SAFE_METHODS) as auth_version:
            if auth_version != self.principal.auth_version:
                self._look_again(request)
            super().check_permissions(request)
            yield

    def _look_again(self, request: Request) -> None:
        """Somebody's access has changed since the caller's was looked up, in this process or in another one."""
        cache.outdate(self.principal.tenant_id)
        tenant_id, found = self.principal.tenant_id, self.get_authenticators()[0].authenticate(request)
        if found is None or found[0].tenant_id != tenant_id:
            self.permission_denied(request)
        else:
            request.user, request.auth = found
            self._principal = found[0]
