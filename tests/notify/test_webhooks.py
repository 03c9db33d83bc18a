"""Webhooks over real sockets: signed so that the standard's own verifier is content, and sent to
nowhere that they should not go."""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from assent.core.addresses import Egress, effective, egress_from_texts
from assent.core.clock import utc_now
from assent.core.errors import ConfigurationError
from assent.notify.notifier import NotDelivered
from assent.notify.reaching import NotReached, Reach, Resolve, check_addresses
from assent.notify.webhooks import Target, WebhookSender
from tests.support.keys import NEW_SECRET, OLD_SECRET, OTHER_SECRET
from tests.support.listening import listening
from tests.support.receiver import Receiver, receiving
from tests.support.server import free_port

ROOT = Path(__file__).parent.parent.parent

BODY = '{"said":"Größe ☃"}'.encode()


def local(receiver: Receiver, *secrets: str, path: str = "/hook?a=b") -> Target:
    return Target(
        url=f"http://127.0.0.1:{receiver.port}{path}",
        secrets=secrets or (NEW_SECRET,),
        allow_http=True,
    )


async def send(
    target: Target,
    *,
    resolve: Resolve | None = None,
    transport: httpx.AsyncHTTPTransport | None = None,
) -> None:
    async with Reach.open(resolve=resolve, transport=transport) as reach:
        await WebhookSender(target, reach).send("msg_1", BODY, utc_now())


def resolving(*answers: Sequence[str]) -> Resolve:
    """A resolver that gives these answers, one after another, and the last one for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


# ── signatures ──


async def test_what_is_sent_verifies() -> None:
    async with receiving(Receiver()) as receiver:
        await send(local(receiver))
    (got,) = receiver.got
    assert got.path == "/hook?a=b"
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert Webhook(NEW_SECRET).verify(got.body, got.headers) == {"said": "Größe ☃"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW_SECRET).verify(got.body.replace(b"said", b"sbid"), got.headers)


async def test_while_a_key_is_exchanged_receivers_with_either_are_content() -> None:
    async with receiving(Receiver()) as receiver:
        await send(local(receiver, NEW_SECRET, OLD_SECRET))
    (got,) = receiver.got
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    for secret in (NEW_SECRET, OLD_SECRET):
        Webhook(secret).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(got.body, got.headers)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "not base64!", f"whsec_{'é' * 40}"]
)
def test_a_bad_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Target(url="https://example.com", secrets=(secret,))
    assert not secret or secret.removeprefix("whsec_") == "" or secret not in str(refused.value)


def test_nothing_secret_is_in_what_is_printed_of_a_target() -> None:
    assert "example" not in repr(Target(url="https://example.com/s3cret", secrets=(NEW_SECRET,)))
    assert NEW_SECRET not in repr(Target(url="https://example.com", secrets=(NEW_SECRET,)))
    with pytest.raises(ConfigurationError, match="no secret"):
        Target(url="https://example.com", secrets=())


# ── what receivers do ──


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_every_kind_of_yes_is_one(status: int) -> None:
    async with receiving(Receiver(status=status, answer_bytes=0)) as receiver:
        await send(local(receiver))


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308, 400, 410, 429, 500, 503])
async def test_everything_else_is_none_and_a_redirect_is_not_followed(status: int) -> None:
    async with receiving(Receiver()) as elsewhere, receiving(Receiver(status=status)) as receiver:
        receiver.headers = {"Location": f"http://127.0.0.1:{elsewhere.port}/"}
        with pytest.raises(NotDelivered, match=f"^It answered with status {status}.$"):
            await send(local(receiver))
    assert (len(receiver.got), len(elsewhere.got)) == (1, 0)


async def test_a_receiver_that_is_not_there() -> None:
    with pytest.raises(NotDelivered, match="request failed"):
        await send(local(Receiver(port=free_port())))


async def test_a_receiver_that_says_no_word_of_http() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff\r\n\r\n")
        writer.close()

    async with listening(rude) as port:
        with pytest.raises(NotDelivered, match="request failed"):
            await send(local(Receiver(port=port)))


@pytest.mark.parametrize(
    "slow", [Receiver(after=60), Receiver(answer_bytes=1000, pause=0.1)], ids=["silent", "dripping"]
)
async def test_a_slow_receiver_has_so_many_seconds_in_all(slow: Receiver) -> None:
    async with receiving(slow) as receiver, Reach.open(total_seconds=0.5) as reach:
        sender = WebhookSender(local(receiver), reach)
        with pytest.raises(NotDelivered, match=r"did not answer within 0\.5 seconds"):
            await sender.send("msg_1", BODY, utc_now())


async def test_of_an_endless_answer_a_little_is_read() -> None:
    async with receiving(Receiver(answer_bytes=1 << 30)) as receiver:
        await send(local(receiver))
    assert receiver.sent < 32 << 20


# ── where to ──

PUBLIC = [
    "93.184.215.14",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "64:ff9b::5db8:d70e",
    "::ffff:93.184.215.14",
]
PRIVATE = [
    *(
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "192.0.0.8",
        "198.18.0.1",
        "240.0.0.1",
    ),
    *("::1", "fd00::1", "fc00::1", "64:ff9b:1::1", "2001:db8::1", "fec0::1", "feff::1"),
    *(
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::7f00:1",
        "2002:a00:1::1",
    ),
]
NOBODY = [
    *(
        "169.254.169.254",
        "169.254.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::1",
        "fe80::1%eth0",
    ),
    # The metadata of clouds.
    *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1"),
    *("fd20:ce::254", "fd00:ec2::254", "fd00:ec2::254%eth0"),
    *("224.0.0.1", "255.255.255.255", "ff02::1", "::", "0.0.0.0"),
]


def to(url: str = "https://example.com", **options: Any) -> Target:
    return Target(url=url, secrets=(NEW_SECRET,), **options)


def is_allowed(addresses: Sequence[str], target: Target) -> bool:
    try:
        check_addresses(addresses, target)
    except NotReached:
        return False
    return True


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_may_be_sent_to(address: str) -> None:
    assert is_allowed([address], to())
    assert not is_allowed([address], to("http://example.com", allow_http=True))


@pytest.mark.parametrize("address", [*PRIVATE, *NOBODY])
def test_what_is_private_may_not(address: str) -> None:
    assert not is_allowed([address], to())
    assert not is_allowed([PUBLIC[0], address], to())


@pytest.mark.parametrize("address", [each for each in PRIVATE if each not in NOBODY])
def test_what_is_private_may_be_if_that_is_allowed(address: str) -> None:
    assert is_allowed([address], to(allow_private=True))


@pytest.mark.parametrize("address", [each for each in NOBODY if each != "255.255.255.255"])
def test_where_nobody_receives_nothing_is_sent_whatever_is_allowed(address: str) -> None:
    assert not is_allowed([address], to(allow_private=True, allow_http=True))


@pytest.mark.parametrize("address", PRIVATE + NOBODY)
def test_without_tls_nothing_leaves_this_machine(address: str) -> None:
    may = is_allowed([address], to("http://localhost", allow_http=True, allow_private=True))
    assert may == effective(ip_address(address)).is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "ftp://example.com",
        "https://",
        "example.com",
        "https://a:b@example.com",
        "file:///etc",
    ],
)
def test_what_is_no_url_of_a_webhook(url: str) -> None:
    with pytest.raises(ConfigurationError):
        to(url)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "2130706433", "0x7f000001", "127.1", "[::1]", "[::ffff:7f00:1]"],
)
async def test_no_spelling_of_this_machine_gets_through(host: str) -> None:
    async with receiving(Receiver()) as receiver:
        with pytest.raises(
            NotDelivered, match=r"private network|could not be resolved|nobody receives"
        ):
            await send(to(f"https://{host}:{receiver.port}/"))
    assert receiver.got == []


async def test_a_name_that_nobody_has() -> None:
    async def none(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(NotDelivered, match="could not be resolved"):
        await send(to(), resolve=none)
    with pytest.raises(NotDelivered, match="no address"):
        await send(to(), resolve=resolving([]))


# ── TLS, to an address that was looked at ──


@pytest.fixture
def certificates(tmp_path: Path) -> Callable[[str], tuple[ssl.SSLContext, ssl.SSLContext]]:
    """A server's context with a certificate for a name, and a client's that trusts it."""

    def make(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder(
                subject,
                subject,
                key.public_key(),
                x509.random_serial_number(),
                now,
                now + dt.timedelta(days=1),
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file = tmp_path / f"{name}.pem"
        file.write_bytes(pem + private)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(file)
        return server, ssl.create_default_context(cadata=pem.decode())

    return make


@asynccontextmanager
async def tls_receiver(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> AsyncIterator[tuple[Receiver, httpx.AsyncHTTPTransport]]:
    server, client = contexts
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving(Receiver(), tls=server))
        yield (
            receiver,
            httpx.AsyncHTTPTransport(
                verify=client, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
            ),
        )


async def test_the_certificate_is_that_of_the_name_though_the_connection_goes_to_the_address(
    certificates: Any,
) -> None:
    async with tls_receiver(certificates("hooks.example")) as (receiver, transport):
        target = to(f"https://hooks.example:{receiver.port}/in", allow_private=True)
        await send(target, resolve=resolving(["127.0.0.1"]), transport=transport)
    (got,) = receiver.got
    assert got.headers["host"] == f"hooks.example:{receiver.port}"


async def test_a_certificate_of_another_name_is_refused(certificates: Any) -> None:
    async with tls_receiver(certificates("other.example")) as (receiver, transport):
        target = to(f"https://hooks.example:{receiver.port}/in", allow_private=True)
        with pytest.raises(NotDelivered, match="request failed"):
            await send(target, resolve=resolving(["127.0.0.1"]), transport=transport)
    assert receiver.got == []


async def test_a_name_is_resolved_once_so_that_it_cannot_lead_elsewhere_a_moment_later(
    certificates: Any,
) -> None:
    """A name that means a public address when it is looked at, and this machine when it is
    connected to."""
    async with tls_receiver(certificates("hooks.example")) as (receiver, transport):
        # Nobody listens at an address for documentation; what matters is that the second answer is
        # not asked for.
        asked: list[str] = []

        async def rebinding(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.2"] if len(asked) == 1 else ["127.0.0.1"]

        target = to(f"https://hooks.example:{receiver.port}/in", allow_private=True)
        with pytest.raises(NotDelivered):
            await send(target, resolve=rebinding, transport=transport)
    assert (asked, receiver.got) == (["hooks.example"], [])


async def test_of_several_addresses_the_first_that_answers_is_taken(certificates: Any) -> None:
    async with tls_receiver(certificates("hooks.example")) as (receiver, transport):
        target = to(f"https://hooks.example:{receiver.port}/in", allow_private=True)
        await send(target, resolve=resolving(["127.0.0.2", "127.0.0.1"]), transport=transport)
    assert len(receiver.got) == 1


async def test_a_name_in_a_private_network_is_not_even_connected_to(certificates: Any) -> None:
    async with tls_receiver(certificates("hooks.example")) as (receiver, transport):
        for addresses in (["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]):
            with pytest.raises(NotDelivered, match="private network"):
                await send(
                    to(f"https://hooks.example:{receiver.port}/in"),
                    resolve=resolving(addresses),
                    transport=transport,
                )
    assert receiver.got == []


# ── where the operator lets it ──


OPENING = (
    *("aiohttp", "http.client.HTTPSConnection", "httpx", "requests", "urllib.request", "urllib3"),
    *("websockets.client", "websockets.asyncio.client", "websockets.sync", "open_connection"),
)


def test_the_server_itself_opens_connections_in_one_place() -> None:
    """What fetched a URL elsewhere would go round the checks of addresses and ASSENT_EGRESS."""
    found = set()
    for path in (ROOT / "assent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = []
            if isinstance(node, ast.Import):
                imported = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [f"{node.module}.{each.name}" for each in node.names]
            elif isinstance(node, ast.Attribute) and node.attr == "open_connection":
                imported = [node.attr]
            if any(f"{name}.".startswith(f"{each}.") for name in imported for each in OPENING):
                found.add(path.relative_to(ROOT / "assent").parts)
    of_clients = {each for each in found if each[0] in ("client", "cli")}
    assert found - of_clients == {("notify", "reaching.py")}


async def test_what_is_not_listed_is_not_even_connected_to(certificates: Any) -> None:
    async with tls_receiver(certificates("hooks.example")) as (receiver, transport):
        target = to(f"https://hooks.example:{receiver.port}/in", allow_private=True)
        here = resolving(["127.0.0.1"])

        async def send_by(*listed: str) -> None:
            egress = egress_from_texts(listed)
            async with Reach.open(egress=egress, resolve=here, transport=transport) as reach:
                await WebhookSender(target, reach).send("msg_1", BODY, utc_now())

        for listed in ("hooks.example", f"hooks.example:{receiver.port - 1}", "10.0.0.0/8"):
            with pytest.raises(NotDelivered, match="ASSENT_EGRESS"):
                await send_by(listed)
        assert receiver.got == []
        await send_by("10.0.0.0/8", f"hooks.example:{receiver.port}")
        await send_by("127.0.0.0/8")
    assert len(receiver.got) == 2


async def test_what_is_listed_is_held_to_the_rules_of_addresses_all_the_same() -> None:
    egress = egress_from_texts(["hooks.example", "169.254.0.0/16", "10.0.0.0/8"])
    for address, reason in (("169.254.169.254", "nobody receives"), ("10.0.0.1", "private")):
        here = resolving([address])
        async with Reach.open(egress=egress, resolve=here) as reach:
            with pytest.raises(NotDelivered, match=reason):
                await WebhookSender(to("https://hooks.example"), reach).send("m", b"", utc_now())


async def test_code_may_refuse_a_connection_too() -> None:
    asked: list[tuple[str, int, Sequence[str]]] = []

    def permits(host: str, port: int, addresses: Sequence[str]) -> bool:
        asked.append((host, port, addresses))
        return False

    egress, here = Egress(permits=permits), resolving(["127.0.0.1"])
    async with receiving(Receiver()) as receiver, Reach.open(egress=egress, resolve=here) as reach:
        with pytest.raises(NotDelivered, match="may open no connection"):
            await WebhookSender(local(receiver), reach).send("m", b"{}", utc_now())
    assert asked == [("127.0.0.1", receiver.port, ["127.0.0.1"])]
    assert receiver.got == []
