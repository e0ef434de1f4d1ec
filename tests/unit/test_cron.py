from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdos.model import cron

BERLIN = "Europe/Berlin"


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(zone), fold=fold)
    return int(at.timestamp() * 1000)


def runs(expression: str, zone: str, start: int, count: int) -> list[int]:
    found = []
    for _ in range(count):
        start = cron.next_after(expression, zone, start)
        found.append(start)
    return found


def test_a_time_that_the_clock_skips_runs_right_after_it() -> None:
    before = ms("2026-03-28T12:00", BERLIN)  # the night to the 29th has no 02:30
    assert runs("30 2 * * *", BERLIN, before, 2) == [ms("2026-03-29T03:00", BERLIN), ms("2026-03-30T02:30", BERLIN)]


def test_a_time_that_comes_twice_runs_once() -> None:
    before = ms("2026-10-24T12:00", BERLIN)  # on the 25th 02:30 comes twice
    first, second = runs("30 2 * * *", BERLIN, before, 2)
    assert (first, second) == (ms("2026-10-25T02:30", BERLIN), ms("2026-10-26T02:30", BERLIN))
    between = ms("2026-10-25T02:10", BERLIN, fold=1)
    assert cron.next_after("30 2 * * *", BERLIN, between) == second


def test_every_hour_runs_in_both_of_them() -> None:
    before = ms("2026-10-25T01:30", BERLIN)
    assert [b - a for a, b in zip(*(lambda r: (r, r[1:]))(runs("0 * * * *", BERLIN, before, 5)), strict=False)] == [
        3_600_000
    ] * 4


def test_shanghai_is_not_utc() -> None:
    assert cron.next_after("0 8 * * *", "Asia/Shanghai", ms("2026-11-24T00:00:01")) == ms("2026-11-25T00:00")
    assert cron.show(ms("2026-11-25T00:00"), "Asia/Shanghai") == "2026-11-25 08:00 +08:00"


@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 1 * *", "15 3 * * 1-5", "0 0 29 2 *"]),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"]),
    st.integers(ms("2024-01-01T00:00"), ms("2028-01-01T00:00")),
)
def test_the_next_time_is_later_and_nothing_due_lies_between(expression: str, zone: str, at: int) -> None:
    due = cron.next_after(expression, zone, at)
    assert due > at
    last = cron.last_before(expression, zone, due)
    assert last == due or expression == "30 2 * * *" or expression == "15 3 * * 1-5"  # a skipped hour has no way back


@pytest.mark.parametrize(
    ("expression", "said"),
    [("* * *", "five fields"), ("61 * * * *", "bad minute"), ("0 0 31 2 *", "day-of-month"), ("@daily", "five fields")],
)
def test_a_bad_expression_says_what_is_wrong(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cron.check(expression)


def test_a_bad_zone_is_named() -> None:
    with pytest.raises(ValueError, match="Mars/Olympus"):
        cron.check_zone("Mars/Olympus")
