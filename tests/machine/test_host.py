"""Facts of the machine: which of them tell two apart."""

from __future__ import annotations

from profiler.machine import host

OLD = {"cpu": "one", "torch": "2.9"}


def test_rows_of_two_versions_of_openvino_are_never_pooled() -> None:
    one, other = (OLD | {"openvino": version} for version in ("2026.3.0", "2026.4.1"))
    assert host.key(one) != host.key(other)
    assert "openvino is '2026.3.0' here and '2026.4.1' there" in str(host.difference(one, other))
    assert "openvino is None here and '2026.4.1' there" in str(host.difference(OLD | {"openvino": None}, other))
    assert "openvino" in host.facts()


def test_a_host_without_a_younger_fact_keeps_its_key() -> None:
    assert host.key(OLD | {"openvino": None, "gpu_setup": None}) == host.key(OLD)
    assert host.difference(OLD | {"openvino": "2026.4.1"}, OLD) is None
