"""Signing in at an identity provider (OpenID Connect: authorization code with PKCE), for who has an account or an invitation."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from guerdon.annotation.accounts import account_by_external_id
from guerdon.annotation.errors import RequestError
from guerdon.annotation.invites import accept_invite
from guerdon.annotation.web.identity import Application, NotAllowed, application_of

router: Final = APIRouter(include_in_schema=False, prefix="/oidc")

_SECONDS_TO_SIGN_IN: Final = 600
_TIMEOUT: Final = 10.0
_COOKIE: Final = "guerdon-oidc"


class ProviderError(RequestError):
    """The identity provider does not answer as it should."""

    status = 502


@dataclass(slots=True)
class Provider:
    """An identity provider. issuer: its URL, below which its configuration is."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    _metadata: dict[str, Any] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def metadata(self) -> dict[str, Any]:
        """Its configuration, read once."""
        with self._lock:
            if self._metadata is None:
                url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
                metadata = _get_json(url)
                if metadata.get("issuer") != self.issuer:
                    raise ProviderError("the identity provider names another issuer. Correct --oidc-issuer.")
                self._metadata = metadata
            return self._metadata

    def start(self, redirect_uri: str) -> tuple[str, str]:
        """Where to send a browser, and what its cookie must hold until it comes back: state, nonce and verifier."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        with self._client(redirect_uri) as client:
            url, _ = client.create_authorization_url(
                self.metadata()["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return str(url), f"{state}.{nonce}.{verifier}"

    def claims(self, redirect_uri: str, code: str, nonce: str, verifier: str) -> dict[str, Any]:
        """Who came back with this code: the claims of an ID token, whose signature, issuer, audience and nonce are checked."""
        from authlib.common.errors import AuthlibBaseError
        from httpx2 import HTTPError

        try:
            with self._client(redirect_uri) as client:
                token = client.fetch_token(self.metadata()["token_endpoint"], code=code, code_verifier=verifier)
        except (AuthlibBaseError, HTTPError, ValueError):
            raise ProviderError("the identity provider refused to sign you in. Start again.") from None
        return self._checked(str(token.get("id_token", "")), nonce)

    def _checked(self, id_token: str, nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        rules = jwt.JWTClaimsRegistry(
            leeway=60,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            keys = KeySet.import_key_set(_get_json(self.metadata()["jwks_uri"]))  # type: ignore[arg-type]
            claims: dict[str, Any] = jwt.decode(id_token, keys, algorithms=_ALGORITHMS).claims
            rules.validate(claims)
        except (JoseError, ValueError, KeyError):
            raise ProviderError("the identity provider's answer cannot be trusted. Tell whoever runs it.") from None
        return claims

    def _client(self, redirect_uri: str) -> Any:
        from authlib.integrations.httpx_client import OAuth2Client

        return OAuth2Client(
            self.client_id,
            self.client_secret,
            scope="openid profile email",
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=_TIMEOUT,
        )


_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256"]


@router.get("/start")
def start(request: Request, invite: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Go to the identity provider. invite: the invitation to use on return."""
    application = application_of(request)
    url, memory = _provider(application).start(_redirect_uri(application, request))
    response = RedirectResponse(url, 303)
    response.set_cookie(
        _COOKIE,
        f"{memory}.{invite}",
        max_age=_SECONDS_TO_SIGN_IN,
        httponly=True,
        samesite="lax",
        secure=application.site.is_https,
        path="/oidc",
    )
    return response


@router.get("/callback")
def callback(
    request: Request,
    state: Annotated[str, Query(max_length=500)],
    code: Annotated[str, Query(max_length=4000)] = "",
) -> Response:
    """Back from the identity provider."""
    application = application_of(request)
    parts = request.cookies.get(_COOKIE, "").split(".", 3)
    known, nonce, verifier, invite = parts if len(parts) == 4 else ("", "", "", "")
    if not known or not secrets.compare_digest(known.encode(), state.encode("utf-8", "replace")):
        raise NotAllowed("this sign-in began in another browser or too long ago. Start again.")
    if not code:
        raise NotAllowed("the identity provider did not sign you in. Start again.")
    provider = _provider(application)
    claims = provider.claims(_redirect_uri(application, request), code, nonce, verifier)
    external_id = f"{provider.issuer} {claims['sub']}"
    account = account_by_external_id(application.database, external_id)
    if account is None and invite:
        account = _new_account(application, invite, claims, external_id)
    if account is None or account.state == "removed":
        raise NotAllowed("you have no account here. Ask for an invitation, and open its link.")
    response = application.sign_in(request, account, RedirectResponse("/", 303))
    response.delete_cookie(_COOKIE, path="/oidc", secure=application.site.is_https, httponly=True)
    return response


def _new_account(application: Application, invite: str, claims: dict[str, Any], external_id: str) -> Any:
    """The account that an invitation makes for who signed in elsewhere, named by address or name."""
    wanted = str(claims.get("email") or claims.get("preferred_username") or claims["sub"])
    login = "".join(c if c.isascii() and (c.isalnum() or c in "._@+-") else "-" for c in wanted.lower())[:64]
    name = str(claims.get("name") or wanted)[:100]
    account, _ = accept_invite(
        application.database,
        invite,
        login.lstrip("._@+-") or "person",
        now=application.clock(),
        display_name=name,
        external_id=external_id,
    )
    return account


def _provider(application: Application) -> Provider:
    provider = application.single_sign_on
    assert isinstance(provider, Provider), "these routes exist only with a provider"
    return provider


def _redirect_uri(application: Application, request: Request) -> str:
    base = application.site.public_url or f"{request.url.scheme}://{request.url.netloc}"
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}/oidc/callback"


def _get_json(url: str) -> dict[str, Any]:
    import httpx2

    try:
        answer = httpx2.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
        value = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        raise ProviderError("the identity provider cannot be reached. Try again later.") from None
    if not isinstance(value, dict):
        raise ProviderError("the identity provider answers with no JSON object. Correct --oidc-issuer.")
    return value
