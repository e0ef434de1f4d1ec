"""When a schedule is due: five-field cron expressions in a time zone, daylight saving as Debian's cron has it.

A time that a change of the clock skips runs right after it; one that comes twice runs once; `*` in the hour or the
minute means every one that there is. Times are milliseconds since 1970, UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

FIELDS = 'minute hour day month weekday, such as "30 2 * * *"'


def check(expression: str) -> None:
    """Raises ValueError saying what is wrong with a five-field expression."""
    from cronsim import CronSim, CronSimError

    if len(expression.split()) != 5:
        raise ValueError(f"expected five fields ({FIELDS}), got {expression!r}")
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as e:
        raise ValueError(f"{str(e)[:1].lower()}{str(e)[1:]} in {expression!r}; expected {FIELDS}") from e
    except StopIteration as e:
        raise ValueError(f"{expression!r} never comes") from e


def check_zone(name: str) -> None:
    """Raises ValueError for a time zone that nobody knows."""
    _zone(name)


def _zone(name: str) -> tzinfo | None:
    """None is the machine's own."""
    if not name:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise ValueError(f'expected a time zone such as "Asia/Shanghai" or "UTC", got {name!r}') from e


def next_after(expression: str, zone: str, at: int) -> int:
    """The first due time after `at`. Raises ValueError for a bad expression or zone."""
    from cronsim import CronSim

    there = datetime.fromtimestamp(at / 1000, UTC).astimezone(_zone(zone))
    for found in CronSim(expression, there):
        due = int(found.timestamp() * 1000)
        if due > at:  # in an hour that comes twice the first of the two may be meant, and that is over
            return due
    raise ValueError(f"{expression!r} never comes again")


def last_before(expression: str, zone: str, at: int) -> int | None:
    """The last due time at or before `at`, within the past 100 years; None when there was none."""
    from cronsim import CronSim

    there = datetime.fromtimestamp((at + 1000) / 1000, UTC).astimezone(_zone(zone))
    try:
        return int(next(CronSim(expression, there, reverse=True)).timestamp() * 1000)
    except StopIteration:
        return None


def show(at: int, zone: str) -> str:
    """'2026-11-25 02:30 +08:00': for people."""
    there = datetime.fromtimestamp(at / 1000, UTC).astimezone(_zone(zone))
    offset = there.strftime("%z")
    return f"{there:%Y-%m-%d %H:%M} {offset[:3]}:{offset[3:5]}"
