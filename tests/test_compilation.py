"""Tests of the cache of compiled programs, and of the size of a compiled update."""

import functools
import os
import subprocess
import sys
import zlib
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srgan_jax
from srgan_jax.inference import tile_grid
from srgan_jax.runtime import compilation, disk_cache
from srgan_jax.training import nonfinite

ROOT = Path(__file__).parents[1]
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@flax.struct.dataclass
class State:
    """The smallest state that `nonfinite.skip_nonfinite` takes."""

    params: list[jax.Array]
    health: nonfinite.Health
    step: jax.Array


@pytest.fixture
def default_cache_options(monkeypatch):
    """Sets JAX's cache options to their defaults, and back to those of the tests afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for name, value in zip(SETTINGS, (None, 1.0), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def cache_home(tmp_path, monkeypatch, default_cache_options):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have other folders")
def test_the_cache_is_in_the_users_cache_folder(cache_home, monkeypatch):
    kept = compilation.enable_compilation_cache()
    assert kept == cache_home / "srgan_jax" / compilation.machine_name() and kept.is_dir()
    assert jax.config.jax_compilation_cache_dir == str(kept)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == compilation.MIN_COMPILE_SECONDS
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # relative folders are ignored
    monkeypatch.setenv("HOME", str(cache_home / "me"))
    assert compilation.user_cache_folder() == cache_home / "me" / ".cache"


def test_a_cache_folder_that_the_user_set_is_kept(cache_home):
    jax.config.update("jax_compilation_cache_dir", str(cache_home / "mine"))
    assert compilation.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir == str(cache_home / "mine")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0
    assert not (cache_home / "srgan_jax").exists()


def test_an_empty_folder_name_switches_the_cache_off(cache_home):
    assert compilation.enable_compilation_cache("") is None and jax.config.jax_compilation_cache_dir is None
    assert not list(cache_home.iterdir())


def test_a_folder_that_cannot_be_written_is_reported(cache_home, monkeypatch):
    (cache_home / "file").touch()
    lines = []
    assert compilation.enable_compilation_cache(str(cache_home / "file" / "cache"), lines.append) is None
    monkeypatch.setattr(
        Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory."))
    )
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compilation.enable_compilation_cache("auto", lines.append) is None
    assert len(lines) == 2 and all(line.startswith("compiled programs are not cached") for line in lines), lines
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_each_kind_of_processor_has_its_own_folder(monkeypatch):
    read_text = Path.read_text
    names = []
    for flags in ("fpu sse2 avx2", "fpu sse2 avx2 avx512f", "fpu sse2 avx2"):
        text = f"processor\t: 0\nflags\t\t: {flags}\ncpu MHz\t\t: {len(names)}\n"
        monkeypatch.setattr(Path, "read_text", lambda self, *_, text=text: text)
        names.append(compilation.machine_name())
    monkeypatch.setattr(Path, "read_text", read_text)
    assert names[0] != names[1] and names[0] == names[2]  # whatever the clock rate is


def test_old_and_damaged_entries_are_deleted(cache_home, monkeypatch):
    kept = compilation.enable_compilation_cache(str(cache_home))
    whole = zlib.compress(os.urandom(1000))
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        entry = kept / f"jit_{name}-cache"
        entry.write_bytes(whole)
        os.utime(entry, (2e9 - age, 2e9 - age))
    for name, content in (("torn", whole[:-1]), ("empty", b"")):  # as after a kill or on a full disk
        entry = kept / f"jit_{name}-cache"
        entry.write_bytes(content)
        os.utime(entry, (2.1e9, 2.1e9))
    (kept / "another_file").write_bytes(whole)
    monkeypatch.setattr(compilation, "MAX_BYTES", 2 * len(whole))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation.enable_compilation_cache(str(cache_home))
    assert {file.name for file in kept.iterdir()} == {"jit_new-cache", "jit_old-cache", "another_file", "checked"}


def test_only_the_first_process_of_a_job_changes_a_shared_folder(cache_home, monkeypatch):
    kept = compilation.enable_compilation_cache(str(cache_home))
    (kept / "jit_torn-cache").write_bytes(b"")  # perhaps the first process is writing it
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(disk_cache, "writes", True)
    monkeypatch.setattr(compilation.distributed.global_state, "process_id", 1)
    assert compilation.enable_compilation_cache(str(cache_home)) == kept
    assert (kept / "jit_torn-cache").exists() and not disk_cache.writes


PROGRAM = """
import sys, jax, jax.numpy as jnp
from srgan_jax.runtime import compilation
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/")[-1]))
assert jax.config.jax_compilation_cache_dir is None  # importing the package sets nothing
compilation.enable_compilation_cache(sys.argv[1], print)
def f(x):
    for _ in range(60):
        x = jnp.sin(x @ x) + jnp.cumsum(x, 0)
    return x
print(float(jax.jit(f)(jnp.eye(4)).sum()), "cache_hits" in events, "cache_misses" in events)
"""


@pytest.mark.slow
def test_the_second_start_loads_the_programs_of_the_first(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def start():
        command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
        return done.stdout.split()

    first, second = start(), start()
    assert first[1:] == ["False", "True"] and second[1:] == ["True", "False"] and first[0] == second[0]
    (entry,) = (tmp_path / compilation.machine_name()).glob("jit_f-*-cache")
    os.truncate(entry, entry.stat().st_size // 2)
    assert start()[1:] == ["False", "True"] and start()[1:] == ["True", "False"]  # compiled and stored again


@pytest.mark.slow
@pytest.mark.parametrize("command", ["main", "cli"])
def test_commands_cache_their_programs(tmp_path, command):
    """Tested by a start that ends at once, as its data set is absent."""
    absent = str(tmp_path / "absent")
    arguments = {
        "main": ["--config", "configs/compact.py", "--workdir", str(tmp_path / "w"), f"--config.data.dataset={absent}"],
        "cli": ["evaluate", "--data", absent],
    }[command]
    (tmp_path / "file").touch()
    stderr = {}
    for name, folder in (("usable", tmp_path / "cache"), ("unusable", tmp_path / "file")):
        environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        python = [sys.executable, "-m", f"srgan_jax.{command}", *arguments]
        stderr[name] = subprocess.run(python, capture_output=True, text=True, cwd=ROOT, env=environment).stderr
    assert (tmp_path / "cache" / "srgan_jax" / compilation.machine_name()).is_dir(), stderr["usable"]
    assert "programs" not in stderr["usable"] and "compiled programs are not cached" in stderr["unusable"]
    assert stderr["unusable"].count("error: ") == 1


@pytest.mark.parametrize("mapping", ["jit", "pmap"])
def test_the_size_of_the_checked_update_is_linear_in_the_leaves(mapping):
    """A chain with an `and` for each leaf, copied to each leaf, made SRResNet compile for minutes."""

    def update(state, gradient):
        return state.replace(params=[leaf + gradient for leaf in state.params]), {}

    def operations(leaves):
        state = State([jnp.ones((2, index + 1)) for index in range(leaves)], nonfinite.initial_health(), jnp.int32(0))
        mapped = jax.pmap if mapping == "pmap" else jax.jit
        whole = functools.partial(jax.tree.map, lambda leaf: leaf[None]) if mapping == "pmap" else lambda tree: tree
        lowered = mapped(nonfinite.skip_nonfinite(update, max_skips=3)).lower(*whole((state, jnp.float32(1))))
        return lowered.compile().as_text().count(" = ")

    assert operations(40) < 6 * operations(10)  # four times as many leaves; quadratic growth would be 16 times


def test_facts_about_networks_are_cached_between_starts(tmp_path, monkeypatch, bilinear):
    """Halo, memory and the check of shapes are computed once per architecture, and again if a file is damaged."""
    monkeypatch.setattr(disk_cache, "folder", tmp_path)
    measured = []
    measure = tile_grid._measure_halo
    monkeypatch.setattr(tile_grid, "_measure_halo", lambda *args: measured.append(1) or measure(*args))

    def halo():
        tile_grid._halo_px.cache_clear()  # as at the next start
        return tile_grid.halo_px(bilinear.architecture)

    assert halo() == halo() == (2, True) and len(measured) == 1
    (file,) = tmp_path.glob("halo-*.json")
    file.write_text("[")
    assert halo() == (2, True) and len(measured) == 2
    assert tile_grid.bytes_per_px(bilinear) == tile_grid.bytes_per_px(bilinear) > 0
    assert len(list(tmp_path.glob("bytes-*.json"))) == 1
    wrong = dict(bilinear.variables["params"]) | {"surplus": np.zeros(1)}
    for _ in range(2):  # a failed check isn't cached
        with pytest.raises(ValueError, match="surplus"):
            srgan_jax.make_weights({"params": wrong}, bilinear.architecture)
