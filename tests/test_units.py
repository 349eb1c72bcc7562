"""Quantities: read, written, and read again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import units
from profiler.errors import UserError


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("16GF", 16 * 10**9),
        ("400MF", 400 * 10**6),
        ("4e9", 4 * 10**9),
        ("1.6 GF", 1_600_000_000),
        ("0.5gf", 500_000_000),
        ("4G", 4 * 10**9),
        (" 2 TFlops ", 2 * 10**12),
        ("12345", 12_345),
        (".5k", 500),
    ],
)
def test_flops(text: str, flops: int) -> None:
    assert units.parse_flops(text) == flops


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("1.5s", 1.5),
        ("50us", 5e-5),
        ("50 µs", 5e-5),
        ("7ns", 7e-9),
        ("2min", 120),
        ("1h", 3600),
        ("0s", 0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("0.1 %", 0.001), ("150%", 1.5), ("0", 0)])
def test_share(text: str, share: float) -> None:
    assert units.parse_share(text) == share


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 2**20),
        ("4GB", 4 * 10**9),
        ("4096", 4096),
        ("1.5 KiB", 1536),
        ("10b", 10),
        ("1tib", 2**40),
    ],
)
def test_bytes(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    ("parse", "text", "example"),
    [
        (units.parse_flops, "", "16GF"),
        (units.parse_flops, "GF", "16GF"),
        (units.parse_flops, "16GX", "16GF"),
        (units.parse_flops, "-4GF", "16GF"),
        (units.parse_flops, "0.1", "400MF"),
        (units.parse_flops, "1e999999999", "16GF"),
        (units.parse_flops, "nan", "16GF"),
        (units.parse_duration, "12", "12ms"),
        (units.parse_duration, "1m", "12ms"),
        (units.parse_duration, "inf s", "12ms"),
        (units.parse_share, "5 percent", "5%"),
        (units.parse_share, "-1%", "5%"),
        (units.parse_bytes, "4GF", "512MiB"),
        (units.parse_bytes, "4 5", "512MiB"),
    ],
)
def test_nonsense_is_refused_with_an_example(parse: Callable[[str], float], text: str, example: str) -> None:
    with pytest.raises(UserError, match=example) as error:
        parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (units.format_flops(3_973_301_344), "3.97 GF"),
        (units.format_flops(401_849_056), "402 MF"),
        (units.format_flops(999_600), "1.00 MF"),
        (units.format_flops(32 * 10**12), "32.0 TF"),
        (units.format_flops(5 * 10**15), "5000 TF"),
        (units.format_count(20_646_656), "20.6 M"),
        (units.format_count(950), "950"),
        (units.format_count(0), "0"),
        (units.format_bytes(536_870_912), "512 MiB"),
        (units.format_bytes(1023), "1023 B"),
        (units.format_bytes(1024), "1.00 KiB"),
        (units.format_duration(0.01234), "12.3 ms"),
        (units.format_duration(5e-5), "50.0 us"),
        (units.format_duration(75.2), "75.2 s"),
        (units.format_duration(299.6), "300 s"),
        (units.format_duration(1110), "18.5 min"),
        (units.format_duration(185_000), "51.4 h"),
        (units.format_duration(float("nan")), "nan"),
        (units.format_share(0.012), "1.2%"),
        (units.format_share(1.0), "100%"),
        (units.format_share(-0.0123, signed=True), "-1.2%"),
        (units.format_share(0.5, signed=True), "+50%"),
        (units.format_share(0.0), "0%"),
    ],
)
def test_written(written: str, text: str) -> None:
    assert written == text


@given(st.integers(1, 10**15))
def test_flops_read_what_was_written(flops: int) -> None:
    assert units.parse_flops(units.format_flops(flops)) == pytest.approx(flops, rel=0.005)


@given(st.integers(0, 2**50))
def test_bytes_read_what_was_written(size: int) -> None:
    assert units.parse_bytes(units.format_bytes(size)) == pytest.approx(size, rel=0.005)


@given(st.floats(1e-9, 1e5))
def test_durations_read_what_was_written(seconds: float) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == pytest.approx(seconds, rel=0.0051)


@given(st.floats(1e-4, 100))
def test_shares_read_what_was_written(share: float) -> None:
    assert units.parse_share(units.format_share(share)) == pytest.approx(share, rel=0.051)


@given(st.integers(1, 10**15))
def test_three_digits_are_shown(flops: int) -> None:
    number = units.format_flops(flops).split()[0]
    assert len(number.replace(".", "").lstrip("0")) <= 3 or flops >= 999.5e12


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (27, "27.0"),
        (0.012345, "0.0123"),
        (9.996, "10.0"),
        (999.4, "999"),
        (1234.5, "1234"),
        (0, "0"),
        (-2, "-2.00"),
        (float("inf"), "inf"),
    ],
)
def test_three_digits_are_always_three(value: float, text: str) -> None:
    assert units.three_digits(value) == text
