"""The page in Debian's Chromium: signing in, live rows, honesty when the master is away."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.kit.cluster import PASSWORD, Cluster

CHROMIUM = next(
    (p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome") if Path(p).exists()), ""
)
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page() -> Iterator[Any]:
    need("browser", bool(CHROMIUM), "apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" and "401" not in m.text else None)
        page.errors = errors
        yield page
        browser.close()


def shoot(page: Any, name: str) -> None:
    """A picture to look at, where the environment says where."""
    folder = os.environ.get("GDOS_TEST_SHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def sign_in(page: Any, cluster: Cluster) -> None:
    page.goto(cluster.url)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#live[data-state=live]")


def test_what_an_operator_sees(page: Any, cluster: Cluster) -> None:
    page.goto(cluster.url)
    page.get_by_label("Password").fill("wrong password")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("text=the user name or the password is wrong")
    shoot(page, "sign-in")
    sign_in(page, cluster)
    page.wait_for_selector("#nodes tbody tr:has-text('w1') >> text=online")
    page.wait_for_selector("text=No instance yet")

    cluster.upload("sleeper")
    cluster.deploy("shop/web", "sleeper:1.0.0", count=2)
    page.wait_for_selector("#instances tbody tr:has-text('shop/web-1') .mark[data-state=running]")
    page.wait_for_selector("#tasks tbody tr:has-text('deploy') .mark[data-state=succeeded]")
    page.wait_for_selector("#instances tbody tr td:nth-child(9):has-text('MiB')")
    shoot(page, "live")
    cluster.upload("sleeper", "2.0.0")
    careful = {"canary": 1, "promote": "manual", "min_healthy": 0}
    task = cluster.act("shop/web", "upgrade", wait=False, version="2.0.0", strategy=careful)
    page.wait_for_selector("#tasks tbody tr:has-text('upgrade'):has-text('paused: the canary is healthy')")
    cluster.client.post(f"/tasks/{task['id']}/cancel")
    cluster.act("web-1", "stop")
    page.wait_for_selector("#instances tbody tr:has-text('shop/web-1') .mark[data-state=stopped]")
    cluster.act("shop/web", "destroy")
    page.wait_for_selector("text=No instance yet")
    assert page.errors == []
    page.reload()
    page.wait_for_selector("#live[data-state=live]")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_selector("#login")


def test_old_data_looks_old_and_the_page_comes_back_by_itself(page: Any, cluster: Cluster) -> None:
    sign_in(page, cluster)
    page.wait_for_selector("#nodes tbody tr:has-text('w1')")
    cluster.kill_master()
    page.wait_for_selector("#stale:has-text('The master does not answer. What you see is from')")
    shoot(page, "away")
    cluster.start_master()
    page.wait_for_selector("#live[data-state=live]", timeout=60_000)
    page.wait_for_selector("#stale", state="hidden")
    page.wait_for_selector("#nodes tbody tr:has-text('w1') >> text=online", timeout=60_000)


def test_nothing_is_loaded_from_elsewhere_and_names_are_text(page: Any, cluster: Cluster) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    sign_in(page, cluster)
    evil = "<img src=x onerror=alert(1)>"
    cluster.client.post("/systems", {"name": "s", "description": evil})
    cluster.upload("exiter", env={"EXIT_CODE": "1"}, restart="never", args=["-u", "app.py", evil])
    cluster.deploy("s/x", "exiter:1.0.0", wait=False)
    page.wait_for_selector("#instances .mark[data-state=failed]")
    assert [u for u in asked if not re.match(rf"^(http|ws)://127\.0\.0\.1:{cluster.port}/|^data:", u)] == []
    assert page.errors == []


def test_it_fits_a_phone(page: Any, cluster: Cluster) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page, cluster)
    page.wait_for_selector("#nodes tbody tr:has-text('w1')")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shoot(page, "phone")
