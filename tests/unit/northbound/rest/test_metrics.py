"""What ``/metrics`` shows, to whom, and that its page in the docs is complete."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.scenario.stack import ManualClock, SeededEntropy

from stellwerk.app.brake import Brake, Strain
from stellwerk.app.meters import Meters, Transport
from stellwerk.app.monitoring import Monitor
from stellwerk.app.ports import StoreCondition
from stellwerk.northbound.http import build_http
from stellwerk.northbound.rest.metrics import Sources, build_registry, counted

ELSEWHERE = ("192.0.2.9", 50000)


def sources(meters: Meters | None = None, **more: Any) -> Sources:
    monitor = Monitor(
        store=None,  # type: ignore[arg-type]
        projected=None,  # type: ignore[arg-type]
        brake=Brake(SeededEntropy()),
        clock=ManualClock(),
        restart_projector=lambda: None,
    )
    known: dict[str, Any] = {
        "meters": meters or Meters(lambda: 0.0),
        "monitor": monitor,
        "condition": lambda: StoreCondition(queue=3, queue_bytes=700, last_seq=12),
        "transport": lambda: Transport(received=9, refused={"format": 2}),
        "registrations": lambda: 5,
        "commands": lambda: (7, 1),
        "projector": lambda: (None, 2, 0),
    }
    return Sources(**(known | more))


@pytest.fixture
def shown(world: Any) -> Sources:
    """The world's application shows these."""
    found = sources()
    world.app = counted(build_http(world.services, sources=found), found.meters)
    return found


def read(world: Any, **more: Any) -> dict[str, float]:
    """Samples by name and labels as they are written."""
    answer = world.get("/metrics", mount="", headers={"Authorization": None}, **more)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_figures_have_names_that_prometheus_understands(world: Any, shown: Sources) -> None:
    meters = shown.meters
    meters.uplinks["send"].answers[204] += 4
    meters.uplinks["send"].answers[503] += 1
    meters.notifications["con", "stored"] += 2
    meters.registers_refused["not-provisioned"] += 1
    meters.command_ended("outcome unknown", 61.0)
    shown.monitor.brake.measure(Strain(lag=10_000_000), 0.0)
    shown.monitor.brake.refusal("send")
    found = read(world)
    wanted = {
        'stellwerk_uplinks_total{code="2.04",kind="send"}': 4,
        'stellwerk_uplinks_total{code="5.03",kind="send"}': 1,
        'stellwerk_answer_seconds_count{kind="send"}': 4,
        'stellwerk_notifications_total{outcome="stored",type="con"}': 2,
        'stellwerk_registers_refused_total{reason="not-provisioned"}': 1,
        "stellwerk_registrations": 5,
        'stellwerk_commands_open{state="queued"}': 7,
        'stellwerk_commands_open{state="in-flight"}': 1,
        'stellwerk_command_seconds_bucket{le="60.0",outcome="outcome-unknown"}': 0,
        'stellwerk_command_seconds_bucket{le="600.0",outcome="outcome-unknown"}': 1,
        "stellwerk_datagrams_received_total": 9,
        'stellwerk_coap_refused_total{reason="format"}': 2,
        "stellwerk_journal_entries_total": 12,
        "stellwerk_queue_length": 3,
        "stellwerk_queue_bytes": 700,
        "stellwerk_projector_up": 0,
        "stellwerk_projector_restarts_total": 2,
        "stellwerk_brake_level": 3,
        'stellwerk_brake_refused_total{what="send",why="lag"}': 1,
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert any(name.startswith('stellwerk_build_info{python="3.') for name in found)


def test_every_histogram_is_one_to_prometheus(world: Any, shown: Sources) -> None:
    shown.meters.groups.observe(30)
    shown.meters.group_seconds.observe(99.0)
    text = world.get("/metrics", mount="").text
    families = {each.name: each for each in text_string_to_metric_families(text)}
    for name in ("stellwerk_commit_group_size", "stellwerk_commit_seconds"):
        buckets = [each for each in families[name].samples if each.name.endswith("_bucket")]
        assert families[name].type == "histogram"
        assert buckets[-1].labels["le"] == "+Inf"
        counts = [each.value for each in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == 1


def test_http_requests_are_counted_by_face_and_status(world: Any, shown: Sources) -> None:
    world.get("/device-provisioning/request")
    world.get("/nothing", mount="/onem2m/acme")
    world.get("/health/live", mount="")
    world.get("/apix", mount="")
    world.get("", mount="/", headers={"Authorization": None})
    counts = dict(shown.meters.http)
    assert {face for face, _ in counts} == {"device-to-cloud", "onem2m", "health", "console"}
    assert counts["onem2m", 404] == 1
    assert counts["health", 200] == 1
    assert counts["console", 404] == 2
    assert shown.meters.http_seconds["health"].count == 1


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        (("127.0.0.1", 1), {}, 200),
        (("::1", 1), {}, 200),
        (("::ffff:127.0.0.1", 1), {}, 200),
        (ELSEWHERE, {}, 401),
        (ELSEWHERE, {"Authorization": "Bearer nonsense"}, 401),
        (ELSEWHERE, {"Authorization": "Bearer reader"}, 200),
        (ELSEWHERE, {"Authorization": "Bearer demo"}, 401),
        (("127.0.0.1", 1), {"X-Forwarded-For": "192.0.2.9"}, 401),
        (("127.0.0.1", 1), {"Forwarded": "for=192.0.2.9"}, 401),
        (("127.0.0.1", 1), {"X-Forwarded-For": "192.0.2.9", "Authorization": "Bearer reader"}, 200),
    ],
)
def test_this_machine_may_read_and_others_with_a_token(
    world: Any, shown: Sources, client: tuple[str, int], headers: dict[str, str], status: int
) -> None:
    answer: httpx.Response = world.get("/metrics", mount="", client=client, headers={"Authorization": None} | headers)
    assert answer.status_code == status
    assert answer.text.startswith("# HELP") is (status == 200)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["status"] == 401


def test_a_server_without_figures_has_no_such_page(world: Any) -> None:
    assert world.get("/metrics", mount="").status_code == 404


def _is_ours(family: Metric) -> bool:
    return family.name.startswith("stellwerk_") and not family.name.startswith("stellwerk_projector_process")


def test_the_page_in_the_docs_lists_every_name_with_its_type_and_labels_and_no_other(project_root: Path) -> None:
    page = (project_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(stellwerk_[a-z_]+)` \| ([a-z]+) \| ([^|]*) \| [^|]+ \|$", page, re.MULTILINE)
    documented = {(name, kind, tuple(re.findall(r"`([a-z]+)`", labels))) for name, kind, labels in rows}
    assert len(rows) == len(documented)
    families = list(filter(_is_ours, build_registry(sources()).collect()))
    shown = {
        (
            f"{each.name}_total" if each.type == "counter" else each.name,
            each.type,
            each._labelnames,  # type: ignore[attr-defined]
        )
        for each in families
    }
    assert documented == shown
    named = set(re.findall(r"`(stellwerk_[a-z_]+)`", page))
    assert named - {"stellwerk_projector_process_"} <= {name for name, _, _ in shown}
    assert all(each.documentation for each in families)


def test_every_word_that_a_label_may_have_is_in_the_docs(project_root: Path) -> None:
    """Words that code counts by are found in the code; the page names each."""
    page = (project_root / "docs" / "metrics.md").read_text(encoding="utf-8")
    source = project_root / "src" / "stellwerk"
    words: set[str] = set()
    registering = (source / "app" / "handlers" / "registering.py").read_text(encoding="utf-8")
    words |= set(re.findall(r'self\._refuse\("([a-z-]+)"', registering))
    brake = (source / "app" / "brake.py").read_text(encoding="utf-8")
    words |= set(re.findall(r'"((?:queue|lag|disk|notification)[a-z-]*)"', brake))
    metrics = (source / "northbound" / "rest" / "metrics.py").read_text(encoding="utf-8")
    words |= set(re.findall(r'^    \("/[a-z0-9-]+", "([a-z0-9-]+)"\)', metrics, re.MULTILINE))
    assert len(words) > 20
    assert {word for word in words if f"`{word}`" not in page} == set()
