"""The files for Prometheus and Grafana name what the coordinator exports; a real Prometheus takes
them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry import metrics
from examples.containers import free_port
from tests.support.plain_http import create, enrol
from tests.support.some import some

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that it adds, and that of a histogram's buckets


def rules() -> list[dict]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    shown = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [*(rule["expr"] for rule in rules()), *shown]


def named(expression: str) -> set[str]:
    """The coordinator's metrics in an expression of PromQL."""
    return set(re.findall(r"\bfl_\w+", expression))


async def test_every_metric_in_the_files_is_exported_and_has_the_labels(federation):
    answer = await federation.http.get("/metrics")
    exported = {f.name for f in text_string_to_metric_families(answer.text)}
    names = {
        name for f in exported for name in (f, *(f"{f}_{e}" for e in ("total", "bucket", "sum")))
    }
    labels = {label for metric in metrics.ALL for label in metric.labels} | {"state"}
    for expression in some(expressions()):
        assert named(expression) <= names, expression
        asked = re.findall(r'(\w+)=~?"', expression)
        for group in re.findall(r"by \(([^)]*)\)", expression):
            asked += group.split(", ")
        assert set(asked) <= labels | OF_PROMETHEUS, expression


def test_the_page_on_monitoring_names_every_metric_with_its_labels_and_every_alert():
    page = (DEPLOY.parent / "docs/monitoring.md").read_text(encoding="utf-8")
    alerts, _, table = page.partition("<!-- metrics -->")
    rows = dict(re.findall(r"^\| `(fl_\w+)` \|([^|]*)\|", table, re.MULTILINE))
    for metric in some(metrics.ALL):
        assert tuple(re.findall(r"`(\w+)`", rows[metric.name])) == metric.labels
    assert set(re.findall(r"^\| `(\w+)` \|", alerts, re.MULTILINE)) == {r["alert"] for r in rules()}


def test_the_dashboard_shows_every_metric_and_no_panel_covers_another():
    shown = set().union(*(named(target["expr"]) for p in PANELS for target in p["targets"]))
    assert {metric.name for metric in metrics.ALL} <= {
        name.removesuffix("_bucket") for name in shown
    } | {"fl_aggregation_cells_total"}  # it counts what the bytes count
    taken = set()
    for panel in PANELS:
        box = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        }
        assert box["x"] + box["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.deploy
def test_promtool_takes_the_files_and_each_alert_fires_when_it_has_to(tmp_path):
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", DEPLOY / "prometheus/alerts_test.yml")
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text(encoding="utf-8"))
    fired = {
        t["alertname"]
        for test in tests["tests"]
        for t in test["alert_rule_test"]
        if "exp_alerts" in t
    }
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.deploy
def test_a_real_prometheus_scrapes_the_coordinator_and_answers_the_dashboard(
    server, http, tmp_path
):
    experiment, key = create(http, "scraped")
    enrol(http, experiment, key, "one")
    settings = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [server.url.split("//")[1]]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    shutil.copy(ALERTS, tmp_path)
    port = free_port()
    prometheus = subprocess.Popen(
        [
            *("prometheus", f"--config.file={tmp_path}/prometheus.yml"),
            *(f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False) as asked:

            def value(expression: str) -> list:
                answer = asked.get("/query", params={"query": expression})
                assert answer.status_code == 200, (expression, answer.text)
                return answer.json()["data"]["result"]

            def scraped() -> bool:
                try:
                    return bool(value('rate(fl_requests_total{job="coordinator"}[1m])'))
                except httpx.TransportError:
                    return False

            until = time.monotonic() + 60
            while not scraped():
                assert time.monotonic() < until, "Prometheus has scraped nothing"
                time.sleep(0.2)
            for expression in expressions():
                plain = expression.replace("$job", "coordinator")
                value(plain.replace("$__rate_interval", "1m"))
            [found] = value('max(fl_experiments{job="coordinator", state="enrolling"})')
            assert float(found["value"][1]) >= 1
            groups = asked.get("/rules").json()["data"]["groups"]
            assert {rule["name"] for rule in groups[0]["rules"]} == {r["alert"] for r in rules()}
            assert {rule["health"] for rule in groups[0]["rules"]} <= {"ok", "unknown"}
            assert [each["value"][1] for each in value("up")] == ["1"]
    finally:
        prometheus.terminate()
        prometheus.wait(20)
