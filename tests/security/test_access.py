"""Who gets in where: every route and socket for nobody, a node and each role; log-in, cookies, tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
import websocket

from gdos.cli.client import Client
from gdos.model.errors import NotAllowed, NotSignedIn, TooManyRequests
from tests.kit.cluster import PASSWORD, Cluster

pytestmark = pytest.mark.xdist_group("access")
OPEN = {
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/"), ("GET", "/assets/{name}"),
    ("POST", "/api/v1/login"), ("POST", "/api/v1/join"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("access"))
    made.start_master()
    yield made
    made.close()


@pytest.fixture(scope="module")
def who(cluster: Cluster) -> dict[str, str]:
    """A token for each kind of caller."""
    found = {"nobody": "", "wrong": "gdos_api_AAAAAAAAAAAAAAAA00000000", "admin": cluster.client._token}
    for role in ("viewer", "operator"):
        found[role] = cluster.client.post("/tokens", {"name": role, "role": role})["token"]
    joined = Client(cluster.url, cluster.join_token()).post("/join", {"name": "n", "facts": {}})
    found["node"] = joined["credential"]
    return found


def routes(cluster: Cluster) -> list[tuple[str, str, str]]:
    """Every route of the running master with the access that it declares."""
    document = cluster.client.get("/openapi.json")
    found = [(m.upper(), p, o["x-access"]) for p, ops in document["paths"].items() for m, o in ops.items()]
    console = [("GET", "/", "open"), ("GET", "/assets/{name}", "open")]
    assert len(found) > 35
    return found + console


def status(cluster: Cluster, method: str, path: str, token: str) -> int:
    url = cluster.url + re.sub(r"{\w+}", "none", path)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    return urllib3.request(method, url, headers=headers, body=b"[]" if method != "GET" else None).status


def test_every_route_is_closed_unless_it_is_listed(cluster: Cluster, who: dict[str, str]) -> None:
    for method, path, access in routes(cluster):
        assert (access == "open") == ((method, path) in OPEN), (method, path)
        for caller in ("nobody", "wrong"):
            found = status(cluster, method, path, who[caller])
            assert (found == 401) != ((method, path) in OPEN) or path == "/api/v1/join", (method, path, caller, found)


def test_every_route_for_every_role(cluster: Cluster, who: dict[str, str]) -> None:
    ranks = {"viewer": 1, "operator": 2, "admin": 3}
    for method, path, access in routes(cluster):
        words = access.split(" or ")
        if "open" in words or path == "/api/v1/logout":
            continue
        for caller in ("viewer", "operator", "node"):
            found = status(cluster, method, path, who[caller])
            needed = next((ranks[w] for w in words if w in ranks), 99)
            may = "node" in words if caller == "node" else ranks[caller] >= needed
            assert (found != 403) == may, (method, path, caller, found)


@pytest.mark.parametrize("path", ["/ws/worker", "/ws/console", "/ws/nothing"])
def test_every_socket_is_closed(cluster: Cluster, who: dict[str, str], path: str) -> None:
    allowed = {"/ws/worker": {"node"}, "/ws/console": {"viewer", "operator", "admin"}, "/ws/nothing": set()}[path]
    for caller, token in who.items():
        header = [f"Authorization: Bearer {token}"] if token else []
        url = cluster.url.replace("http", "ws") + path
        if caller in allowed:
            websocket.create_connection(url, header=header, timeout=10).close()
            continue
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            websocket.create_connection(url, header=header, timeout=10)
        assert caught.value.status_code in (401, 403, 404), caller


def test_a_node_gets_only_the_packages_that_it_runs(cluster: Cluster, who: dict[str, str]) -> None:
    cluster.upload("sleeper")
    with pytest.raises(NotAllowed, match="has no instance of sleeper"):
        Client(cluster.url, who["node"]).request("GET", "/packages/sleeper/1.0.0/download")


def test_join_tokens_are_used_up_expire_and_can_be_revoked(cluster: Cluster) -> None:
    def join(token: str) -> Any:
        return Client(cluster.url, token).post("/join", {"name": "x"})

    once = cluster.join_token(uses=1)
    join(once)
    with pytest.raises(NotAllowed, match="used up"):
        join(once)
    made = cluster.client.post("/join-tokens", {"name": "r"})
    cluster.client.call("DELETE", f"/join-tokens/{made['id']}")
    with pytest.raises(NotAllowed, match="not known here, or it was revoked"):
        join(made["token"])
    with pytest.raises(NotAllowed, match="mistyped or cut off"):
        join(made["token"][:-3])
    names = {n["name"] for n in cluster.client.all("/nodes")}
    assert "x" in names


def login(cluster: Cluster, user: str, password: str, cookie: bool = False, **headers: str) -> Any:
    body = json.dumps({"user": user, "password": password, "cookie": cookie})
    url = f"{cluster.url}/api/v1/login"
    return urllib3.request("POST", url, body=body, headers={"Content-Type": "application/json", **headers})


def test_cookies_are_for_our_own_pages_only(cluster: Cluster) -> None:
    answer = login(cluster, "admin", PASSWORD, True, Origin=cluster.url)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert json.loads(answer.data)["token"] is None
    value = {"Cookie": cookie.partition(";")[0], "Content-Type": "application/json"}
    url = f"{cluster.url}/api/v1/systems"

    def post(name: str, **more: str) -> int:
        return urllib3.request("POST", url, body=json.dumps({"name": name}), headers={**value, **more}).status

    assert urllib3.request("GET", f"{cluster.url}/api/v1/me", headers=value).status == 200
    assert post("a", Origin=cluster.url) == 201
    assert post("b", Origin="http://evil.example") == 403
    assert post("c", **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert post("d") == 403
    ws = cluster.url.replace("http", "ws") + "/ws/console"
    header = [f"Cookie: {value['Cookie']}"]
    websocket.create_connection(ws, header=header, origin=cluster.url, timeout=10).close()
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(ws, header=header, origin="http://evil.example", timeout=10)
    token = value["Cookie"].partition("=")[2]
    with pytest.raises(NotSignedIn):
        Client(cluster.url, token).get("/me")  # a cookie's secret is no bearer token
    assert (
        urllib3.request("POST", f"{cluster.url}/api/v1/logout", headers={**value, "Origin": cluster.url}).status == 204
    )
    assert urllib3.request("GET", f"{cluster.url}/api/v1/me", headers=value).status == 401


def test_tokens_can_be_revoked(cluster: Cluster) -> None:
    made = cluster.client.post("/tokens", {"name": "short", "role": "viewer"})
    mine = Client(cluster.url, made["token"])
    assert mine.get("/me") == {"name": "token:short", "role": "viewer"}
    assert made["token"] not in json.dumps(cluster.client.all("/tokens"))
    cluster.client.call("DELETE", f"/tokens/{made['id']}")
    with pytest.raises(NotSignedIn):
        mine.get("/me")


def test_guessing_is_slowed_down(cluster: Cluster) -> None:
    statuses = [login(cluster, "nobody", f"guess {n}").status for n in range(8)]
    assert statuses[:5] == [401] * 5
    assert 429 in statuses[5:]
    with pytest.raises(TooManyRequests, match="try again in"):
        Client(cluster.url, "").post("/login", {"user": "nobody", "password": "x"})
    assert login(cluster, "admin", PASSWORD).status == 200


def test_a_removed_node_is_out_at_once(cluster: Cluster) -> None:
    joined = Client(cluster.url, cluster.join_token()).post("/join", {"name": "leaver"})
    url = cluster.url.replace("http", "ws") + "/ws/worker"
    header = [f"Authorization: Bearer {joined['credential']}"]
    link = websocket.create_connection(url, header=header, timeout=10)
    cluster.client.call("DELETE", f"/nodes/{joined['node']}")
    link.close()
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(url, header=header, timeout=10)
    assert caught.value.status_code == 401


def test_the_big_head_and_the_slow_head(cluster: Cluster) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", cluster.port), timeout=10) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 200_000)
        assert b"400" in s.recv(100)
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=10) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n")
        assert b"400" in s.recv(100)
    assert urllib3.request("GET", f"{cluster.url}/healthz").status == 200
