"""A real OpenID Connect provider (canaille) as a process of its own, and a browser that signs in
there.

    with provider("https://assent.test") as issuer:
        issuer.url, issuer.client_id, issuer.client_secret

It has two people, ANN and BOB, with their passwords and groups. Any code is bound to the PKCE
challenge and the nonce of its login. The client `MISDIRECTED` gets tokens that are meant for
another one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

CLIENT = "assent"
MISDIRECTED = "misdirected"
ALGORITHM = "RS256"
PASSWORD = "correct horse battery staple"

GROUPS = {"ann": ["app-operators", "app-approvers"], "bob": ["app-viewers"]}
"""The people, and the groups that their tokens name."""


@dataclass(frozen=True)
class Provider:
    """A provider that runs at `url`, and its clients' secret."""

    url: str
    client_secret: str

    def configuration(self, client_id: str = CLIENT) -> str:
        """The section of the configuration file for it."""
        return f"""
[issuers.corp]
issuer = "{self.url}"
allow_http = true
audience = "{client_id}"
algorithm = "{ALGORITHM}"
roles = "groups"
role_map = {{"app-operators" = "operator", "app-approvers" = "approver", "app-viewers" = "viewer"}}
client_id = "{client_id}"
client_secret = "{self.client_secret}"
scopes = "openid profile groups"
"""


@contextmanager
def provider(public_url: str) -> Iterator[Provider]:
    """A provider that knows the server at `public_url`, until the context is left."""
    secret = secrets.token_urlsafe(24)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.support.oidc_provider"],
        env={**os.environ, "PROVIDES": json.dumps({"public_url": public_url, "secret": secret})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None and process.stdin is not None
        try:
            url = process.stdout.readline().decode().strip()
            assert url, f"The provider ended with {process.wait()} as it started."
            yield Provider(url, secret)
        finally:
            process.kill()


# ── a browser ─────────────────────────────────────────────────────────────────────────────────────


class Browser:
    """A client with cookies that follows redirects, fills in the provider's forms, and does what
    the script of our callback page does. The server's public address leads to where it is."""

    def __init__(self, public_url: str, server_url: str) -> None:
        self.public_url = public_url
        self.http = httpx.AsyncClient(
            transport=_Placed(public_url, server_url), trust_env=False, timeout=60
        )

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """The response to a page of the server's own."""
        return await self.http.get(f"{self.public_url}{path}", headers=SAME_SITE, **options)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The response to what a page of the server's own asks."""
        return await self.http.request(
            method,
            f"{self.public_url}{path}",
            headers={**SAME_SITE, "origin": self.public_url},
            **options,
        )

    async def at_provider(self, login: httpx.Response, name: str) -> dict[str, str]:
        """Sign in at the provider, where `login` has sent the browser; what it sends back."""
        page = await self._followed(await self.http.get(login.headers["location"]))
        page = await self._submitted(page, login=name)
        page = await self._submitted(page, password=PASSWORD)
        assert page.is_redirect, page.text
        back = httpx.URL(page.headers["location"])
        assert str(back).startswith(f"{self.public_url}/session/callback?"), back
        return dict(back.params)

    async def sign_in(self, name: str, issuer: str = "corp", **query: str) -> httpx.Response:
        """Sign in at the provider, and here; the answer of `POST /session`."""
        login = await self.get("/session/login", params={"issuer": issuer, **query})
        assert login.status_code == 302, login.text
        back = await self.at_provider(login, name)
        # Strict cookies do not come along from another site, so only the page's own script may
        # finish what the browser has begun.
        page = await self.get("/session/callback", params=back)
        assert page.status_code == 200
        return await self.send("POST", "/session", json=back)

    async def _submitted(self, page: httpx.Response, **typed: str) -> httpx.Response:
        """The response to the page's form, with these fields filled in."""
        fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page.text))
        sent = await self.http.post(page.url, data={**fields, **typed})
        return await self._followed(sent)

    async def _followed(self, response: httpx.Response) -> httpx.Response:
        """The page that redirects at the provider lead to, or the redirect away from it."""
        while response.is_redirect:
            to = response.url.join(response.headers["location"])
            if to.host != response.url.host or to.port != response.url.port:
                break
            response = await self.http.get(to)
        return response


SAME_SITE = {"sec-fetch-site": "same-origin"}


class _Placed(httpx.AsyncHTTPTransport):
    """Asks the server wherever it is for what is asked at its public address, as a proxy with TLS
    in front of it does."""

    def __init__(self, public_url: str, server_url: str) -> None:
        super().__init__(trust_env=False)
        self._public, self._server = httpx.URL(public_url), httpx.URL(server_url)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != self._public.host:
            return await super().handle_async_request(request)
        place = self._server
        url = request.url.copy_with(scheme=place.scheme, host=place.host, port=place.port)
        # Another one: the client keeps the cookies of the one that it knows.
        return await super().handle_async_request(
            httpx.Request(
                request.method,
                url,
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )


# ── the process ───────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Provide, until standard input ends."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Handler(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

    given = json.loads(os.environ["PROVIDES"])
    server = Server(("127.0.0.1", 0), Handler)
    url = f"127.0.0.1:{server.server_port}"
    server.set_app(_app(url, given["public_url"], given["secret"]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://{url}\n")
    sys.stdout.flush()
    sys.stdin.read()


def _app(server_name: str, public_url: str, secret: str) -> Any:
    from canaille import create_app
    from canaille.app import models
    from canaille.backends.memory.backend import MemoryBackend
    from joserfc.jwk import RSAKey

    class Backend(MemoryBackend):
        def do_query(self, model: Any, *args: Any, **wanted: Any) -> list[Any]:
            """What has all of the values. canaille's own gives what has any of them: a code of
            somebody else for one that does not exist."""
            each = [super(Backend, self).do_query(model, **{name: wanted[name]}) for name in wanted]
            if not each:
                return super().do_query(model)
            ids = set.intersection(*({found.id for found in by_one} for by_one in each))
            return [found for found in each[0] if found.id in ids]

    # By this it finds its models.
    Backend.__module__ = MemoryBackend.__module__
    key = RSAKey.generate_key(2048, {"alg": ALGORITHM, "use": "sig"}, auto_kid=True)
    config = {
        "SECRET_KEY": secrets.token_urlsafe(32),
        "SERVER_NAME": server_name,
        "PREFERRED_URL_SCHEME": "http",
        "CANAILLE": {"DATABASE": "memory", "TIMEZONE": "UTC", "FORCE_HTTPS": False},
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [key.as_dict(private=True)]},
    }
    backend = Backend(config)
    app = create_app(config=config, backend=backend)
    with app.app_context():
        _fill(models, backend, public_url, secret)
    return app


def _fill(models: Any, backend: Any, public_url: str, secret: str) -> None:
    groups: dict[str, list[Any]] = {}
    for name, theirs in GROUPS.items():
        user = models.User(
            user_name=name,
            formatted_name=name.title(),
            family_name="Doe",
            emails=[f"{name}@example.com"],
            password=PASSWORD,
        )
        backend.save(user)
        for group in theirs:
            groups.setdefault(group, []).append(user)
    for name, members in groups.items():
        backend.save(models.Group(display_name=name, members=members))

    clients: Mapping[str, Any] = {
        name: models.Client(
            client_id=name,
            client_secret=secret,
            client_name=name,
            # Of a domain that is trusted: nobody is asked for their consent.
            client_uri="http://127.0.0.1",
            redirect_uris=[f"{public_url}/session/callback"],
            post_logout_redirect_uris=[f"{public_url}/"],
            grant_types=["authorization_code"],
            response_types=["code"],
            scope=["openid", "profile", "groups"],
            token_endpoint_auth_method="client_secret_basic",
            id_token_signed_response_alg=ALGORITHM,
        )
        for name in (CLIENT, MISDIRECTED)
    }
    # A client has to be there before tokens can be meant for it.
    for client in clients.values():
        backend.save(client)
    for client in clients.values():
        client.audience = [clients[CLIENT]]
        backend.save(client)


if __name__ == "__main__":
    main()
