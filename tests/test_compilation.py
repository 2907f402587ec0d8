"""Compiled programs: kept between starts, and no larger than they need to be."""

import functools
import os
import subprocess
import sys
import zlib
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import pytest

from srgan_jax.runtime import compilation
from srgan_jax.training import nonfinite

ROOT = Path(__file__).parents[1]
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@flax.struct.dataclass
class State:
    """The least that `nonfinite.skip_nonfinite` takes."""

    params: list[jax.Array]
    health: nonfinite.Health
    step: jax.Array


@pytest.fixture
def nothing_set(monkeypatch):
    """JAX as a command finds it; as the tests need it afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for name, value in zip(SETTINGS, (None, 1.0), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def home(tmp_path, monkeypatch, nothing_set):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have other folders")
def test_users_folder(home, monkeypatch):
    kept = compilation.keep_programs()
    assert kept == home / "srgan_jax" / compilation.machine_name() and kept.is_dir()
    assert jax.config.jax_compilation_cache_dir == str(kept)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == compilation.MIN_COMPILE_SECONDS
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored
    monkeypatch.setenv("HOME", str(home / "me"))
    assert compilation.user_cache_folder() == home / "me" / ".cache"


def test_what_is_set_stays(home):
    jax.config.update("jax_compilation_cache_dir", str(home / "mine"))
    assert compilation.keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == str(home / "mine")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0
    assert not (home / "srgan_jax").exists()


def test_switched_off(home):
    assert compilation.keep_programs("") is None and jax.config.jax_compilation_cache_dir is None
    assert not list(home.iterdir())


def test_a_folder_that_can_not_be_written_is_a_line(home, monkeypatch):
    (home / "file").touch()
    lines = []
    assert compilation.keep_programs(str(home / "file" / "cache"), lines.append) is None
    monkeypatch.setattr(
        Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory."))
    )
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compilation.keep_programs("auto", lines.append) is None
    assert len(lines) == 2 and all(line.startswith("compiled programs are not kept") for line in lines), lines
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_other_processors_have_other_folders(monkeypatch):
    read_text = Path.read_text
    names = []
    for flags in ("fpu sse2 avx2", "fpu sse2 avx2 avx512f", "fpu sse2 avx2"):
        text = f"processor\t: 0\nflags\t\t: {flags}\ncpu MHz\t\t: {len(names)}\n"
        monkeypatch.setattr(Path, "read_text", lambda self, *_, text=text: text)
        names.append(compilation.machine_name())
    monkeypatch.setattr(Path, "read_text", read_text)
    assert names[0] != names[1] and names[0] == names[2]  # whatever its clock does at the moment


def test_the_folder_is_bounded_and_free_of_torn_entries(home, monkeypatch):
    kept = compilation.keep_programs(str(home))
    whole = zlib.compress(os.urandom(1000))
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        entry = kept / f"jit_{name}-cache"
        entry.write_bytes(whole)
        os.utime(entry, (2e9 - age, 2e9 - age))
    for name, content in (("torn", whole[:-1]), ("empty", b"")):  # a kill, a full disk
        entry = kept / f"jit_{name}-cache"
        entry.write_bytes(content)
        os.utime(entry, (2.1e9, 2.1e9))
    (kept / "another_file").write_bytes(whole)
    monkeypatch.setattr(compilation, "MAX_BYTES", 2 * len(whole))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation.keep_programs(str(home))
    assert {file.name for file in kept.iterdir()} == {"jit_new-cache", "jit_old-cache", "another_file", "checked"}


PROGRAM = """
import sys, jax, jax.numpy as jnp
from srgan_jax.runtime import compilation
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/")[-1]))
assert jax.config.jax_compilation_cache_dir is None  # importing the package sets nothing
compilation.keep_programs(sys.argv[1], print)
def f(x):
    for _ in range(60):
        x = jnp.sin(x @ x) + jnp.cumsum(x, 0)
    return x
print(float(jax.jit(f)(jnp.eye(4)).sum()), "cache_hits" in events, "cache_misses" in events)
"""


@pytest.mark.slow
def test_the_second_start_finds_the_first_ones_programs(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def start():
        command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
        return done.stdout.split()

    first, second = start(), start()
    assert first[1:] == ["False", "True"] and second[1:] == ["True", "False"] and first[0] == second[0]
    (entry,) = (tmp_path / compilation.machine_name()).glob("jit_f-*-cache")
    os.truncate(entry, entry.stat().st_size // 2)
    assert start()[1:] == ["False", "True"] and start()[1:] == ["True", "False"]  # compiled and kept anew


@pytest.mark.slow
@pytest.mark.parametrize("command", ["main", "cli"])
def test_commands_keep_their_programs(tmp_path, command):
    """Seen in a start that ends at once, for want of data."""
    absent = str(tmp_path / "absent")
    arguments = {
        "main": ["--config", "configs/compact.py", "--workdir", str(tmp_path / "w"), f"--config.data.dataset={absent}"],
        "cli": ["evaluate", "--data", absent],
    }[command]
    (tmp_path / "file").touch()
    told = {}
    for name, folder in (("usable", tmp_path / "cache"), ("unusable", tmp_path / "file")):
        environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        python = [sys.executable, "-m", f"srgan_jax.{command}", *arguments]
        told[name] = subprocess.run(python, capture_output=True, text=True, cwd=ROOT, env=environment).stderr
    assert (tmp_path / "cache" / "srgan_jax" / compilation.machine_name()).is_dir(), told["usable"]
    assert "programs" not in told["usable"] and "compiled programs are not kept" in told["unusable"]
    assert told["unusable"].count("error: ") == 1


@pytest.mark.parametrize("mapping", ["jit", "pmap"])
def test_the_guarded_update_grows_with_the_leaves_not_with_their_square(mapping):
    """A chain of as many `and`s as there are leaves, copied to each of them, made SRResNet compile for minutes."""

    def update(state, gradient):
        return state.replace(params=[leaf + gradient for leaf in state.params]), {}

    def operations(leaves):
        state = State([jnp.ones((2, index + 1)) for index in range(leaves)], nonfinite.initial_health(), jnp.int32(0))
        mapped = jax.pmap if mapping == "pmap" else jax.jit
        whole = functools.partial(jax.tree.map, lambda leaf: leaf[None]) if mapping == "pmap" else lambda tree: tree
        lowered = mapped(nonfinite.skip_nonfinite(update, max_skips=3)).lower(*whole((state, jnp.float32(1))))
        return lowered.compile().as_text().count(" = ")

    assert operations(40) < 6 * operations(10)  # four times as many leaves; in squares sixteen
