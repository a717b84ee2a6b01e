"""WHEN: every form of the grammar, in zones that make it hard, on the days their clocks change."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import UsageError
from config.when import instant, local_zone, microseconds, moment, parse_when

BERLIN = ZoneInfo("Europe/Berlin")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
KOLKATA = ZoneInfo("Asia/Kolkata")
UTC_ZONE = ZoneInfo("UTC")
ZONES = [BERLIN, SAO_PAULO, KOLKATA, UTC_ZONE, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia")]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


LOCAL_TIMES = st.datetimes(datetime.fromisoformat("1975-01-01"), datetime.fromisoformat("2037-01-01"))
NOW = at("2026-11-24T09:30:15.25+00:00")


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("now", BERLIN, "2026-11-24T09:30:15.25+00:00"),
        ("today", BERLIN, "2026-11-23T23:00+00:00"),
        ("today", KOLKATA, "2026-11-23T18:30+00:00"),
        ("today", UTC_ZONE, "2026-11-24T00:00+00:00"),
        ("yesterday", BERLIN, "2026-11-22T23:00+00:00"),
        ("-2h", BERLIN, "2026-11-24T07:30:15.25+00:00"),
        ("2h ago", BERLIN, "2026-11-24T07:30:15.25+00:00"),
        ("2 hours ago", BERLIN, "2026-11-24T07:30:15.25+00:00"),
        ("90s", BERLIN, "2026-11-24T09:28:45.25+00:00"),
        ("5m", BERLIN, "2026-11-24T09:25:15.25+00:00"),
        ("7d", BERLIN, "2026-11-17T09:30:15.25+00:00"),
        ("1w", BERLIN, "2026-11-17T09:30:15.25+00:00"),
        ("14:30", BERLIN, "2026-11-24T13:30+00:00"),
        ("14:30:05", KOLKATA, "2026-11-24T09:00:05+00:00"),
        ("2026-11-01", BERLIN, "2026-10-31T23:00+00:00"),
        ("2026-11-01 14:30", BERLIN, "2026-11-01T13:30+00:00"),
        ("2026-11-01T14:30:05", KOLKATA, "2026-11-01T09:00:05+00:00"),
        ("2026-11-01 14:30+02:00", KOLKATA, "2026-11-01T12:30+00:00"),
        ("2026-11-01 14:30-0330", KOLKATA, "2026-11-01T18:00+00:00"),
        ("2026-11-01T14:30Z", BERLIN, "2026-11-01T14:30+00:00"),
        ("  TODAY ", BERLIN, "2026-11-23T23:00+00:00"),
        ("@1767225600", BERLIN, "2026-01-01T00:00+00:00"),
        ("@1767225600.5", BERLIN, "2026-01-01T00:00:00.5+00:00"),
    ],
)
def test_each_form_means_its_instant(text: str, zone: ZoneInfo, expected: str) -> None:
    assert parse_when(text, NOW, zone) == at(expected)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        # Clocks jump from 02:00 to 03:00: what lies between means the jump.
        ("2026-03-29 02:30", BERLIN, "2026-03-29T01:00+00:00"),
        ("2026-03-29 02:00", BERLIN, "2026-03-29T01:00+00:00"),
        ("2026-03-29 03:00", BERLIN, "2026-03-29T01:00+00:00"),
        ("2026-03-29 01:59:59", BERLIN, "2026-03-29T00:59:59+00:00"),
        # 02:30 occurs twice: the first, so that --since leaves nothing out.
        ("2026-10-25 02:30", BERLIN, "2026-10-25T00:30+00:00"),
        # No midnight: the day begins at 01:00.
        ("2018-11-04", SAO_PAULO, "2018-11-04T03:00+00:00"),
        ("2018-11-05", SAO_PAULO, "2018-11-05T02:00+00:00"),
        # 23:00 to 24:00 occurs twice the evening before, midnight once.
        ("2018-02-18", SAO_PAULO, "2018-02-18T03:00+00:00"),
        ("2018-02-17 23:30", SAO_PAULO, "2018-02-18T01:30+00:00"),
        # A jump of half an hour, and a day that Samoa left out.
        ("2026-10-04 02:15", ZoneInfo("Australia/Lord_Howe"), "2026-10-03T15:30+00:00"),
        ("2011-12-30", ZoneInfo("Pacific/Apia"), "2011-12-30T10:00+00:00"),
    ],
)
def test_local_times_on_days_with_a_clock_change(text: str, zone: ZoneInfo, expected: str) -> None:
    assert parse_when(text, NOW, zone) == at(expected)


@pytest.mark.parametrize(
    ("now", "today", "yesterday"),
    [
        ("2018-11-04T15:00+00:00", "2018-11-04T03:00+00:00", "2018-11-03T03:00+00:00"),
        ("2018-11-05T15:00+00:00", "2018-11-05T02:00+00:00", "2018-11-04T03:00+00:00"),
        ("2018-11-04T03:00+00:00", "2018-11-04T03:00+00:00", "2018-11-03T03:00+00:00"),
        ("2018-11-04T02:59:59+00:00", "2018-11-03T03:00+00:00", "2018-11-02T03:00+00:00"),
    ],
)
def test_today_without_a_midnight_begins_at_the_days_first_instant(
    now: str, today: str, yesterday: str
) -> None:
    assert parse_when("today", at(now), SAO_PAULO) == at(today)
    assert parse_when("yesterday", at(now), SAO_PAULO) == at(yesterday)


@pytest.mark.defects(41)
@pytest.mark.parametrize(
    ("text", "local"),
    [  # on the Wednesday after clocks went back in Berlin
        ("an hour ago", "2026-10-28T09:00:00+01:00"),
        ("A  day ago", "2026-10-27T10:00:00+01:00"),
        ("a week ago", "2026-10-21T11:00:00+02:00"),
        ("this week", "2026-10-26T00:00:00+01:00"),
        ("last week", "2026-10-19T00:00:00+02:00"),
        ("this month", "2026-10-01T00:00:00+02:00"),
        ("last month", "2026-09-01T00:00:00+02:00"),
        ("this year", "2026-01-01T00:00:00+01:00"),
        ("last year", "2025-01-01T00:00:00+01:00"),
        ("2026-11", "2026-11-01T00:00:00+01:00"),
        ("2026-04", "2026-04-01T00:00:00+02:00"),
    ],
)
def test_a_week_a_month_and_one_of_a_unit_begin_in_local_time(text: str, local: str) -> None:
    assert parse_when(text, at("2026-10-28T10:00:00+01:00"), BERLIN) == at(local)


@pytest.mark.defects(41)
def test_a_period_of_january_begins_in_the_year_before() -> None:
    now = at("2027-01-03T10:00:00+01:00")  # a Sunday

    assert parse_when("this week", now, BERLIN) == at("2026-12-28T00:00:00+01:00")
    assert parse_when("last week", now, BERLIN) == at("2026-12-21T00:00:00+01:00")
    assert parse_when("last month", now, BERLIN) == at("2026-12-01T00:00:00+01:00")


@pytest.mark.defects(41)
def test_a_month_whose_first_midnight_is_skipped_begins_at_the_change() -> None:
    asuncion = ZoneInfo("America/Asuncion")  # on 2017-10-01 clocks went from 00:00 to 01:00

    assert parse_when("2017-10", NOW, asuncion) == at("2017-10-01T01:00:00-03:00")


@given(now=LOCAL_TIMES, zone=st.sampled_from(ZONES), period=st.sampled_from(["week", "month", "year"]))
def test_now_lies_in_this_period_and_the_last_one_ends_where_it_begins(
    now: datetime, zone: ZoneInfo, period: str
) -> None:
    aware = now.replace(tzinfo=UTC)

    this, last = (parse_when(f"{word} {period}", aware, zone) for word in ("this", "last"))

    assert last < this <= aware
    assert parse_when(f"this {period}", this - timedelta(microseconds=1), zone) == last


NONSENSE = [
    *("", "tomorrow", "noon", "7", "d", "-", "h2", "2h30m", "25:00", "14:60", "two hours ago", "\x1b[31m"),
    *("2026-02-30", "2026-13-01", "2026-11-01 24:00", "2026-1-1", "2026-11-01 14:30+25:00", "2026-11-01Z"),
    *("an hour", "a month ago", "an ago", "next week", "2026-00", "2026-13", "0000-01", "this", "last today"),
    *("@", "@x", "@999999999999", "999999999d", "14:30Z", "0000-01-01", "0001-01-01 00:00+14:00", "\u0662h"),
]


@pytest.mark.parametrize("text", NONSENSE)
def test_anything_else_is_a_usage_error_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="2h ago") as caught:
        parse_when(text, NOW, BERLIN)

    assert caught.value.exit_code == 2
    assert str(caught.value).isprintable()


@given(st.text(st.sampled_from(string.digits + "-:+@ tzhdago.today"), max_size=24))
def test_any_text_gives_a_utc_time_or_a_usage_error(text: str) -> None:
    try:
        found = parse_when(text, NOW, BERLIN)
    except UsageError:
        return
    assert found.tzinfo is UTC


@given(
    local=LOCAL_TIMES.map(lambda d: d.replace(microsecond=0)),
    zone=st.sampled_from(ZONES),
)
def test_instant_is_the_first_at_which_local_clocks_show_at_least_that_time(
    local: datetime, zone: ZoneInfo
) -> None:
    found = instant(local, zone)

    assert found.astimezone(zone).replace(tzinfo=None) >= local
    assert (found - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None) < local


@given(now=LOCAL_TIMES, zone=st.sampled_from(ZONES))
def test_now_lies_in_today_and_today_begins_where_its_date_begins(now: datetime, zone: ZoneInfo) -> None:
    aware = now.replace(tzinfo=UTC)

    start = parse_when("today", aware, zone)

    assert start <= aware
    assert start.astimezone(zone).date() == aware.astimezone(zone).date()
    assert (start - timedelta(microseconds=1)).astimezone(zone).date() < aware.astimezone(zone).date()


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_and_moment_are_each_others_inverse(time: datetime) -> None:
    assert moment(microseconds(time)) == time


def test_local_zone_follows_tz_with_the_rules_of_past_years(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Europe/Berlin")

    zone = local_zone()

    offsets = [datetime(year, 7, 1, tzinfo=zone).utcoffset() for year in (1979, 2026)]
    assert offsets == [timedelta(hours=1), timedelta(hours=2)]


def test_local_zone_takes_a_file_and_an_empty_tz_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "")
    assert local_zone().utcoffset(NOW.replace(tzinfo=None)) == timedelta(0)

    if Path("/usr/share/zoneinfo/Asia/Kolkata").exists():
        monkeypatch.setenv("TZ", "/usr/share/zoneinfo/Asia/Kolkata")
        assert NOW.astimezone(local_zone()).utcoffset() == timedelta(hours=5, minutes=30)


def test_local_zone_reads_the_machines_file_without_tz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr("config.when._LOCALTIME", tmp_path / "localtime")
    assert local_zone() is UTC

    source = Path("/usr/share/zoneinfo/Asia/Kolkata")
    if source.exists():
        (tmp_path / "localtime").symlink_to(source)
        assert str(local_zone()) == "Asia/Kolkata"


def test_unknown_tz_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", "/etc/passwd"):
        monkeypatch.setenv("TZ", name)
        with pytest.raises(UsageError, match="Europe/Berlin"):
            local_zone()
