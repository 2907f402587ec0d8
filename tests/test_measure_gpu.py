"""Tests of scripts/measure_gpu.py: parts that end, fail and take too long, and the counting of kernels."""

import argparse
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import measure_gpu
from srgan_jax.training.planning import hlo

ABOUT = {"device": "NVIDIA H100 80GB HBM3", "platform": "gpu", "devices": 1, "jax": "0", "python": "3"}


def _part(code, limit=60.0):
    read = lambda args, text: {"printed": json.loads(text)}  # noqa: E731
    return measure_gpu.Part(limit, lambda args, about: [sys.executable, "-I", "-c", code], read)


def test_each_part_is_recorded_whatever_happens_to_it(tmp_path, monkeypatch, capsys):
    parts = {
        "sound": _part("print(3)"),
        "broken": _part("raise SystemExit('no memory')"),
        "endless": _part("import time; print(4, flush=True); time.sleep(60)", limit=1.0),
        "unreadable": _part("print('hello')"),
    }
    monkeypatch.setattr(measure_gpu, "PARTS", parts)
    monkeypatch.setattr(measure_gpu, "_card", lambda: ABOUT)
    assert measure_gpu.main([str(tmp_path), "--out", str(tmp_path / "out"), "--parts", *parts]) == 1
    found = json.loads((tmp_path / "out" / "measured.json").read_text())
    status = {name: entry["status"] for name, entry in found["parts"].items()}
    assert status["sound"] == "done" and found["parts"]["sound"]["results"] == {"printed": 3}
    assert status["broken"] == "failed: exit status 1" and "no memory" in found["parts"]["broken"]["output"]
    assert status["endless"] == "ended at its limit of 1 s" and found["parts"]["endless"]["results"] == {"printed": 4}
    assert status["unreadable"].startswith("failed: its output can't be read")
    page = (tmp_path / "out" / "measured.md").read_text()
    assert page.startswith("# Measured on 1 x NVIDIA H100 80GB HBM3\n") and "| sound | done |" in page


def test_nothing_is_started_without_time_or_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure_gpu, "_card", lambda: ABOUT)
    assert measure_gpu.main([str(tmp_path), "--out", str(tmp_path / "out"), "--seconds", "3"]) == 1
    assert capsys.readouterr().out.count("not started: no time left") == len(measure_gpu.PARTS)
    with pytest.raises(SystemExit):
        measure_gpu.main([str(tmp_path / "nothing")])
    assert "expected a folder of photographs" in capsys.readouterr().err


def test_cards_have_the_names_of_the_plan():
    assert measure_gpu.topology_kind("NVIDIA H100 80GB HBM3") == "h100"
    with pytest.raises(SystemExit, match="doesn't know NVIDIA T4; expected .*NVIDIA H200"):
        measure_gpu.topology_kind("NVIDIA T4")


def test_results_of_tests_are_counted_even_if_they_were_ended():
    text = "tests/a.py::one PASSED [ 1%]\ntests/a.py::two[x] FAILED [ 2%]\ntests/a.py::three SKIPPED (no)\n"
    text += "tests/a.py::four "
    found = measure_gpu._read_tests(None, text)
    assert found == {"passed": 1, "failed": 1, "error": 0, "skipped": 1, "failures": ["tests/a.py::two[x]"]}


def test_operations_are_counted_in_a_profile(tmp_path):
    """Three matrix products that can't be merged are three operations or more in each of two runs."""
    product = jax.jit(lambda x: jnp.sin(x @ x) @ jnp.cos(x @ x.T)).lower(jnp.ones((64, 64))).compile()
    x = jax.block_until_ready(product(jnp.ones((64, 64))))
    with jax.profiler.trace(tmp_path):
        for _ in range(2):
            x = jax.block_until_ready(product(x))
    (number,) = measure_gpu.count_events(tmp_path).values()
    assert number >= 2 * 3 and hlo.count(product.as_text()).kernels >= 3


@pytest.mark.slow
def test_the_tests_that_the_command_runs_are_counted():
    args = argparse.Namespace(tests="test_cards_have_the_names_of_the_plan")
    printed = subprocess.run(measure_gpu._tests(args, ABOUT), cwd=measure_gpu.ROOT, capture_output=True, text=True)
    assert measure_gpu._read_tests(args, printed.stdout)["passed"] == 1, printed.stdout
    with pytest.raises(ValueError, match="no test was counted"):
        measure_gpu._read_tests(args, "....  [100%]")
