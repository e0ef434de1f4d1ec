"""The API of a real master: shapes, errors, lists, packages, ranges, idempotency."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3

from gdos.cli.client import Client
from gdos.master.api import shapes
from gdos.master.store.access import broken_audit_row
from gdos.model.errors import BadInput, BadPackage, Conflict, GdosError, NotFound
from tests.kit.cluster import PASSWORD, Cluster
from tests.kit.packages import make_package

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("api"))
    made.start_master("--upload-max", "1M")
    yield made
    made.close()


@pytest.fixture
def client(cluster: Cluster) -> Client:
    return cluster.client


def raw(client: Client, method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
    headers = {"Authorization": f"Bearer {client._token}", **more.pop("headers", {})}
    return urllib3.request(method, client.master + path, headers=headers, redirect=False, **more)


def fits(value: Any, kind: Any) -> None:
    """The answer is exactly what the API's description says, no field more or less."""
    msgspec.convert(value, kind)
    if isinstance(value, dict) and hasattr(kind, "__struct_fields__"):
        assert set(value) == set(kind.__struct_fields__)


def test_health_is_open_and_the_rest_is_not(cluster: Cluster) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/", 200), ("/metrics", 401), ("/api/v1/nodes", 401)):
        assert urllib3.request("GET", cluster.url + path).status == status, path


def test_errors_have_one_shape(client: Client) -> None:
    for method, path, status, code in (
        ("GET", "/api/v1/nodes/nobody", 404, "not_found"),
        ("GET", "/api/v1/no/such/thing", 404, "not_found"),
        ("PUT", "/api/v1/nodes", 405, "method_not_allowed"),
        ("POST", "/api/v1/systems", 422, "bad_input"),
        ("GET", "/api/v1/nodes?limit=0", 422, "bad_input"),
        ("GET", "/api/v1/nodes?cursor=zzz", 422, "bad_input"),
        ("GET", "/api/v1/nodes?sort=colour", 422, "bad_input"),
    ):
        answer = raw(client, method, path)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), path
        body = json.loads(answer.data)
        fits(body, shapes.ProblemBody)
        assert (body["status"], body["code"]) == (status, code)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_all_problems_of_a_body_come_at_once(client: Client) -> None:
    with pytest.raises(BadInput) as caught:
        client.post("/systems/nowhere/modules", {"name": "a b", "package": 3, "count": 0, "depends_on": [1], "x": 1})
    paths = {p.path for p in caught.value.problems}
    assert paths == {"name", "package", "version", "count", "depends_on[0]", "x"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"\xff\xfe", {"Content-Type": "application/json"}, 400),
        (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 422),
        (b'{"name": "' + b"x" * (1 << 20) + b'"}', {"Content-Type": "application/json"}, 413),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400),
    ],
)
def test_bodies_that_cannot_be_read(client: Client, body: bytes, headers: dict[str, str], status: int) -> None:
    assert raw(client, "POST", "/api/v1/systems", body=body, headers=headers).status == status


def test_systems_and_modules(client: Client, cluster: Cluster) -> None:
    cluster.upload("sleeper", name="plan", version="1.0")
    system = client.post("/systems", {"name": "planned", "description": "x"})
    fits(system, shapes.System)
    with pytest.raises(Conflict, match="already"):
        client.post("/systems", {"name": "planned"})
    module = client.post("/systems/planned/modules", {"name": "web", "package": "plan", "version": "1.0"})
    fits(module, shapes.Module)
    assert (module["system"], module["count"], module["config"]) == ("planned", 1, {"env": {}})
    with pytest.raises(BadInput, match=r"plan 9 is not uploaded; uploaded are: 1.0"):
        client.post("/systems/planned/modules", {"name": "b", "package": "plan", "version": "9"})
    with pytest.raises(BadInput, match="there is no package ghost"):
        client.post("/systems/planned/modules", {"name": "b", "package": "ghost", "version": "9"})
    with pytest.raises(BadInput, match="no other module cache"):
        body = {"name": "b", "package": "plan", "version": "1.0", "depends_on": ["cache"]}
        client.post("/systems/planned/modules", body)
    with pytest.raises(Conflict, match="in use by planned/web"):
        client.call("DELETE", "/packages/plan/1.0")
    client.call("DELETE", "/systems/planned/modules/web")
    client.call("DELETE", "/systems/planned")
    client.call("DELETE", "/packages/plan/1.0")
    with pytest.raises(NotFound):
        client.get("/systems/planned")


def test_if_match_refuses_what_somebody_else_changed(client: Client) -> None:
    client.post("/systems", {"name": "edited"})
    tag = raw(client, "GET", "/api/v1/systems/edited").headers["ETag"]
    change = {
        "body": json.dumps({"description": "one"}),
        "headers": {"Content-Type": "application/json", "If-Match": tag},
    }
    assert raw(client, "PATCH", "/api/v1/systems/edited", **change).status == 200
    assert raw(client, "PATCH", "/api/v1/systems/edited", **change).status == 412
    assert client.get("/systems/edited")["description"] == "one"


def test_lists_are_paged_and_nothing_is_lost(client: Client) -> None:
    names = {f"page-{n:02d}" for n in range(25)}
    for name in names:
        client.post("/systems", {"name": name})
    seen, cursor = [], ""
    while True:
        page = client.get("/systems", q="page-", limit=7, sort="-name", **({"cursor": cursor} if cursor else {}))
        seen += [s["name"] for s in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == sorted(names, reverse=True)
    assert [s["name"] for s in client.all("/systems", name="page-03")] == ["page-03"]


def test_the_same_key_does_a_thing_once(client: Client) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1"}
    first = raw(client, "POST", "/api/v1/systems", body=json.dumps({"name": "once"}), headers=headers)
    again = raw(client, "POST", "/api/v1/systems", body=json.dumps({"name": "once"}), headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert json.loads(first.data) == json.loads(again.data)
    other = raw(client, "POST", "/api/v1/systems", body=json.dumps({"name": "twice"}), headers=headers)
    assert other.status == 409


# --- packages


def upload(client: Client, data: bytes, **headers: str) -> dict[str, Any]:
    answer = client.request("POST", "/packages", body=data, headers={"Content-Type": "application/zip", **headers})
    return dict(json.loads(answer.data))


def test_a_version_never_changes(client: Client, tmp_path: Path) -> None:
    data = make_package(tmp_path, name="fixed").read_bytes()
    found = upload(client, data)
    fits(found, shapes.Uploaded)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert upload(client, data)["sha256"] == found["sha256"]
    other = make_package(tmp_path, name="fixed", description="changed").read_bytes()
    with pytest.raises(Conflict, match="is here with other bytes"):
        upload(client, other)
    fits(client.get("/packages/fixed/1.0.0"), shapes.PackageDetail)
    assert len(client.all("/packages", name="fixed")) == 1


def test_download_with_ranges(client: Client, tmp_path: Path) -> None:
    data = make_package(tmp_path, name="ranged", blob="").read_bytes()
    sha256 = upload(client, data)["sha256"]
    path = "/api/v1/packages/ranged/1.0.0/download"
    whole = raw(client, "GET", path)
    assert (whole.data, whole.headers["ETag"]) == (data, f'"{sha256}"')
    for header, part in (("bytes=0-9", data[:10]), ("bytes=10-", data[10:]), ("bytes=-7", data[-7:])):
        answer = raw(client, "GET", path, headers={"Range": header})
        assert (answer.status, answer.data) == (206, part)
    answer = raw(client, "GET", path, headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (answer.status, answer.data) == (200, data)
    assert raw(client, "GET", path, headers={"Range": f"bytes={len(data)}-"}).status == 416
    assert raw(client, "GET", path, headers={"If-None-Match": f'"{sha256}"'}).status == 304


def test_uploads_as_a_form(client: Client, tmp_path: Path) -> None:
    data = make_package(tmp_path, name="formed").read_bytes()
    answer = raw(client, "POST", "/api/v1/packages", fields={"file": ("x.zip", data, "application/zip")})
    assert answer.status == 201, answer.data
    assert client.get("/packages/formed/1.0.0")["size"] == len(data)


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_json", ".json"), data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not a zip", "not a ZIP"),
        (zipped(run=b""), "service.json is missing"),
        (zipped(wrap__service_json=b"{}"), "pack what is in wrap/"),
        (zipped(service_json=b"{"), "broken JSON"),
        (zipped(service_json=b'{"name": "a", "version": "1", "entrypoint": "/x"}'), "entrypoint"),
        (zipped(service_json=b'{"name": "a", "version": "1", "entrypoint": "b/x"}'), "is not in the package"),
        (zipped(service_json=b"{}", zeros=bytes(17 << 20)), "times its size"),
    ],
)
def test_bad_packages_leave_nothing(client: Client, cluster: Cluster, data: bytes, said: str) -> None:
    with pytest.raises(BadPackage) as caught:
        upload(client, data)
    assert said in caught.value.detail
    assert list((cluster.folder / "master" / "packages" / "tmp").iterdir()) == []


def test_a_package_that_is_too_large_is_refused_before_it_is_taken(client: Client, cluster: Cluster) -> None:
    with pytest.raises(GdosError, match="at most 1.0 MiB are allowed") as caught:
        upload(client, bytes((1 << 20) + 1))
    assert caught.value.code == "too_large"

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(64 << 10)

    answer = raw(client, "POST", "/api/v1/packages", body=endless(), headers={"Content-Type": "application/zip"})
    assert answer.status == 413
    assert list((cluster.folder / "master" / "packages" / "tmp").iterdir()) == []


def test_the_description_is_complete(client: Client, cluster: Cluster) -> None:
    document = client.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["x-access"], (method, path)
    assert "/api/v1/instances/{id}/logs/{name}" in document["paths"]
    assert b"/api/v1/nodes" in raw(client, "GET", "/api/docs").data


def test_the_exposition_can_be_parsed(client: Client) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {f.name for f in text_string_to_metric_families(raw(client, "GET", "/metrics").data.decode())}
    assert {"gdos_build_info", "gdos_nodes", "gdos_packages", "gdos_master_uptime_seconds"} <= families


def test_every_change_is_in_the_trail_and_the_chain_holds(client: Client, cluster: Cluster, tmp_path: Path) -> None:
    client.post("/systems", {"name": "audited"})
    line = client.all("/audit", action="system.create")[0]
    fits(line, shapes.AuditLine)
    assert (line["who"], line["result"]) == ("admin", "ok")
    numbers = [a["number"] for a in client.all("/audit")]
    assert numbers == sorted(numbers, reverse=True)
    live = sqlite3.connect(cluster.folder / "master" / "gdos.db")
    db = sqlite3.connect(tmp_path / "copy.db")
    live.backup(db)
    live.close()
    db.row_factory = sqlite3.Row
    assert broken_audit_row(db) is None
    db.execute("UPDATE audit SET who = 'somebody else' WHERE number = ?", (line["number"],))
    assert broken_audit_row(db) == line["number"]
    db.close()


def test_the_password_never_shows(cluster: Cluster) -> None:
    assert cluster.master is not None
    assert PASSWORD not in cluster.master.text()
    for path in (cluster.folder / "master").glob("gdos.db*"):
        assert PASSWORD.encode() not in path.read_bytes()
