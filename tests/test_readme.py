"""Tests that what the README names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "RESULTS.md"])
def test_paths_and_links_exist(page):
    text = (ROOT / page).read_text()
    links = [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("http")]
    paths = re.findall(r"`((?:srgan_jax|configs|scripts|tests)/[\w/.]*)`", text)
    commands = re.findall(r"(?:scripts|configs)/\w+\.(?:py|sh)", text)
    assert links and paths and commands
    for path in links + paths + commands:
        assert (ROOT / path).exists(), path


def test_every_config_is_in_the_table_once():
    table = README.split("| source | what differs | command |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert all(len(row) == 3 and all(row) for row in rows)
    names = [re.fullmatch(r"`--config (\w+)`", command).group(1) for _, _, command in rows]
    assert sorted(names) == sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))
    for (source, _, _), name in zip(rows, names, strict=True):  # (V) marks those that need VGG19
        text = (ROOT / "configs" / f"{name}.py").read_text()
        assert ("(V)" in source) == ("port vgg19" in text), name


def test_overrides_are_config_keys():
    from srgan_jax import defaults

    config = defaults.get_config()
    found = re.findall(r"--config\.([\w.]+)=", README)
    assert found
    for key in found:
        value = config
        for part in key.split("."):
            value = value[part]


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").rglob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.slow
def test_kubernetes_manifest_uses_existing_flags():
    import yaml

    job = yaml.safe_load((ROOT / "scripts" / "cluster" / "jobset.yaml").read_text())
    (template,) = job["spec"]["replicatedJobs"]
    pods = template["template"]["spec"]
    command = pods["template"]["spec"]["containers"][0]["command"][-1]
    assert f"--num_processes={pods['parallelism']} " in command and pods["completions"] == pods["parallelism"]
    main = subprocess.run([sys.executable, "-m", "srgan_jax.main", "--help"], capture_output=True, text=True, cwd=ROOT)
    for flag in re.findall(r"--(\w+)[ =]", command):
        assert f"--{flag}" in main.stdout or f"--[no]{flag}" in main.stdout, flag


@pytest.mark.slow
def test_commands_have_help():
    for module in ("srgan_jax.cli", "srgan_jax.main"):
        result = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
        assert ("prepare" if module.endswith("cli") else "workdir") in result.stdout, result.stderr


def test_python_example_runs(tmp_path, monkeypatch, photo):
    """Runs the README's library example with the shipped weights."""
    from srgan_jax import images

    images.write_image(tmp_path / "photo.jpg", photo[:8, :8])
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)), names)
    assert names["sr"].shape == (32, 32, 3) and images.image_size("larger.png") == (32, 32)
    assert names["consistency"](names["params"], names["img"], names["sr"]) == pytest.approx(0, abs=1e-9)
