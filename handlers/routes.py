"""The list of all routes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tornado import web

from handlers.account.mail_links import (
    EmailConfirmHandler,
    EmailHandler,
    EmailUndoHandler,
    EmailVerifyHandler,
    ForgotHandler,
)
from handlers.account.me import ClaimsHandler, ExportHandler, MeHandler
from handlers.account.passkeys import (
    PasskeyHandler,
    PasskeyLogInHandler,
    PasskeyOptionsHandler,
    PasskeyRequestHandler,
    PasskeysHandler,
)
from handlers.account.second_factor import SecondFactorHandler, UserFactorsHandler
from handlers.account.step_up import StepUpHandler
from handlers.account.totp import RecoveryCodesHandler, TotpConfirmHandler, TotpHandler
from handlers.administration.installation import (
    AdminProvidersHandler,
    ProviderCheckHandler,
    SettingsHandler,
)
from handlers.administration.overview import OverviewHandler
from handlers.api import ApiHandler, UnknownRoute
from handlers.base import Site
from handlers.client_file import client_file
from handlers.http.admin import (
    DisconnectHandler,
    InvitationHandler,
    InvitationsHandler,
    UserHandler,
    UsersHandler,
)
from handlers.http.audit import AuditHandler
from handlers.http.auth import (
    LogInHandler,
    LogOutHandler,
    PasswordHandler,
    PasswordResetHandler,
    RefreshHandler,
    SignUpHandler,
)
from handlers.http.backends import (
    KeyHandler,
    KeysHandler,
    ModelHandler,
    ModelsHandler,
    PublishHandler,
)
from handlers.http.channels import ChannelHandler, ChannelsHandler, MemberHandler, MembersHandler
from handlers.http.native import ExchangeHandler, NativeCodeHandler
from handlers.http.oauth import OAuthCallbackHandler, OAuthLoginHandler
from handlers.http.oauth_accounts import (
    BackChannelLogoutHandler,
    InvitedSignUpHandler,
    LinkedAccountHandler,
    LinkedAccountsHandler,
    LinkHandler,
    ProviderLogOutHandler,
    ProvidersHandler,
)
from handlers.http.ops import HealthHandler, MetricsHandler, ReadyHandler
from handlers.http.pages import ClientFileHandler, FileHandler
from handlers.http.sessions import SessionHandler, SessionsHandler
from handlers.http.tickets import TicketHandler
from handlers.http.webhooks import (
    DeliveriesHandler,
    ReplayHandler,
    WebhookHandler,
    WebhooksHandler,
    WebhookTestHandler,
)
from handlers.http.who_calls import (
    AppTokenHandler,
    IntrospectHandler,
    KeySetHandler,
    VerifyHandler,
)
from handlers.operations import segment
from handlers.page.front_page import FrontPageHandler, WithoutSlashHandler
from handlers.page.sign_in_page import (
    LogoHandler,
    MailPageHandler,
    SetPasswordPageHandler,
    SignInPageHandler,
    ThemeHandler,
)
from handlers.page_files import VERSION_LENGTH
from handlers.reference.docs import (
    AsyncApiHandler,
    DocumentHandler,
    OpenApiHandler,
    ReferenceHandler,
    make_documents,
)
from handlers.websocket.plain_head import SOCKET_PATH
from handlers.websocket.tornado_socket import SocketHandler

STATIC = Path(__file__).resolve().parent.parent / "static"

API_ROUTES: tuple[tuple[str, type[ApiHandler]], ...] = (
    ("/api/auth/signup", SignUpHandler),
    ("/api/auth/login", LogInHandler),
    ("/api/auth/second-factor", SecondFactorHandler),
    ("/api/auth/passkey/options", PasskeyRequestHandler),
    ("/api/auth/passkey/login", PasskeyLogInHandler),
    ("/api/auth/passkeys", PasskeysHandler),
    ("/api/auth/passkeys/options", PasskeyOptionsHandler),
    ("/api/auth/passkeys/{passkey_id}", PasskeyHandler),
    ("/api/auth/totp", TotpHandler),
    ("/api/auth/totp/confirm", TotpConfirmHandler),
    ("/api/auth/totp/recovery-codes", RecoveryCodesHandler),
    ("/api/auth/refresh", RefreshHandler),
    ("/api/auth/logout", LogOutHandler),
    ("/api/auth/me", MeHandler),
    ("/api/auth/me/export", ExportHandler),
    ("/api/auth/claims", ClaimsHandler),
    ("/api/auth/password", PasswordHandler),
    ("/api/auth/password/forgot", ForgotHandler),
    ("/api/auth/password/reset", PasswordResetHandler),
    ("/api/auth/email", EmailHandler),
    ("/api/auth/email/confirm", EmailConfirmHandler),
    ("/api/auth/email/verify", EmailVerifyHandler),
    ("/api/auth/email/undo", EmailUndoHandler),
    ("/api/auth/step-up", StepUpHandler),
    ("/api/auth/verify", VerifyHandler),
    ("/api/auth/app-token", AppTokenHandler),
    ("/api/auth/native-code", NativeCodeHandler),
    ("/api/auth/exchange", ExchangeHandler),
    ("/api/introspect", IntrospectHandler),
    ("/.well-known/jwks.json", KeySetHandler),
    ("/api/sessions", SessionsHandler),
    ("/api/sessions/{session_id}", SessionHandler),
    ("/api/ws/ticket", TicketHandler),
    ("/api/oauth/providers", ProvidersHandler),
    ("/oauth/{provider}/login", OAuthLoginHandler),
    ("/oauth/{provider}/callback", OAuthCallbackHandler),
    ("/oauth/{provider}/backchannel-logout", BackChannelLogoutHandler),
    ("/api/oauth/providers/{provider}/signup", InvitedSignUpHandler),
    ("/api/oauth/accounts", LinkedAccountsHandler),
    ("/api/oauth/accounts/{provider}/link", LinkHandler),
    ("/api/oauth/accounts/{provider}", LinkedAccountHandler),
    ("/api/oauth/logout", ProviderLogOutHandler),
    ("/api/channels", ChannelsHandler),
    ("/api/channels/{channel_id}", ChannelHandler),
    ("/api/channels/{channel_id}/members", MembersHandler),
    ("/api/channels/{channel_id}/members/{user_id}", MemberHandler),
    ("/api/admin/users", UsersHandler),
    ("/api/admin/users/{user_id}", UserHandler),
    ("/api/admin/users/{user_id}/disconnect", DisconnectHandler),
    ("/api/admin/users/{user_id}/factors", UserFactorsHandler),
    ("/api/admin/invitations", InvitationsHandler),
    ("/api/admin/invitations/{invitation_id}", InvitationHandler),
    ("/api/admin/audit", AuditHandler),
    ("/api/admin/overview", OverviewHandler),
    ("/api/admin/settings", SettingsHandler),
    ("/api/admin/providers", AdminProvidersHandler),
    ("/api/admin/providers/{provider}/check", ProviderCheckHandler),
    ("/api/publish", PublishHandler),
    ("/api/admin/api-keys", KeysHandler),
    ("/api/admin/api-keys/{key_id}", KeyHandler),
    ("/api/admin/webhooks", WebhooksHandler),
    ("/api/admin/webhooks/{webhook_id}", WebhookHandler),
    ("/api/admin/webhooks/{webhook_id}/deliveries", DeliveriesHandler),
    ("/api/admin/webhooks/{webhook_id}/deliveries/{delivery_id}/replay", ReplayHandler),
    ("/api/admin/webhooks/{webhook_id}/test", WebhookTestHandler),
    ("/api/models", ModelsHandler),
    ("/api/models/{model_id}", ModelHandler),
    ("/healthz", HealthHandler),
    ("/readyz", ReadyHandler),
    ("/metrics", MetricsHandler),
)
"""As OpenAPI writes paths: a name in braces is one segment."""

OFTEN = frozenset(("/api/ws/ticket", "/api/auth/refresh"))
"""What comes in storms, when all sockets of a node come back to another. Tornado tries one route
after the other."""

CLIENT_ROUTES: tuple[tuple[str, type[ApiHandler]], ...] = (("/client/usher.js", ClientFileHandler),)

DOCUMENT_ROUTES: tuple[tuple[str, type[DocumentHandler]], ...] = (
    ("/openapi.json", OpenApiHandler),
    ("/asyncapi.json", AsyncApiHandler),
    ("/docs", ReferenceHandler),
)
"""The reference: what describes all routes, these too."""


def make_application(site: Site, sockets: dict[str, Any]) -> web.Application:
    """The Tornado application.

    Args:
        sockets: the context of SocketHandler. In the direct form, requests for `/ws` do not reach
            the application: handlers/websocket/upgrade.py handles them first.
    """
    handed: dict[str, Any] = {"site": site}
    often_first = sorted(API_ROUTES, key=lambda route: route[0] not in OFTEN)
    routes: list[Any] = [(_pattern(path), handler, handed) for path, handler in often_first]
    documents = make_documents((*API_ROUTES, *CLIENT_ROUTES, *DOCUMENT_ROUTES), site)
    with_client = {**handed, "client": client_file(STATIC)}
    routes += [(_pattern(path), handler, with_client) for path, handler in CLIENT_ROUTES]
    described = {**handed, "documents": documents}
    routes += [(re.escape(path), handler, described) for path, handler in DOCUMENT_ROUTES]
    routes += [
        (re.escape(SOCKET_PATH), SocketHandler, sockets),
        (rf"/static/(?:([0-9a-f]{{{VERSION_LENGTH}}})/)?([A-Za-z0-9_./-]+)", FileHandler, handed),
        (r"/sign-in", SignInPageHandler, handed),
        (r"/set-password", SetPasswordPageHandler, handed),
        (r"/(forgot-password|confirm-email|undo-email)", MailPageHandler, handed),
        (r"/brand/theme\.css", ThemeHandler, handed),
        (r"/brand/logo", LogoHandler, handed),
        (r"/", FrontPageHandler, handed),
    ]
    if site.origins.path:  # without the slash, which browsers resolve relative URLs by
        routes.append((re.escape(site.origins.path), WithoutSlashHandler, handed))
    return web.Application(
        routes,
        default_handler_class=UnknownRoute,
        default_handler_args=handed,
        log_function=_no_access_log,
        is_secure=site.origins.secure,
    )


def _no_access_log(_: web.RequestHandler) -> None:
    """Disable Tornado's access log, which has query strings with tickets and OAuth codes."""


def _pattern(path: str) -> str:
    parts = (
        f"({segment(p[1:-1])})" if p.startswith("{") else re.escape(p) for p in path.split("/")
    )
    return "/".join(parts)
