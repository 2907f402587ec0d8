"""Tests that the README is short and complete, and of scripts. tests/test_docs.py checks every page."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_short_and_has_contents():
    assert len(README.split()) <= 1300
    contents = re.findall(r"^- \[(.+)\]\(#", README, re.MULTILINE)
    assert contents == re.findall(r"^## (.+)$", README, re.MULTILINE)


def test_every_extra_is_in_the_table():
    table = README.split("| extra | adds |")[1].split("\n\n")[0]
    named = [name for line in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", line.split("|")[1])]
    assert sorted(named) == sorted(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )


def test_every_config_is_in_the_table_once():
    table = (ROOT / "docs" / "configs.md").read_text().split("| source | what differs | command |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert all(len(row) == 3 and all(row) for row in rows)
    names = [re.fullmatch(r"`--config (\w+)`", command).group(1) for _, _, command in rows]
    assert sorted(names) == sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))
    for (source, _, _), name in zip(rows, names, strict=True):  # (V) marks those that need VGG19
        text = (ROOT / "configs" / f"{name}.py").read_text()
        assert ("(V)" in source) == ("port vgg19" in text), name


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").rglob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.slow
def test_kubernetes_manifest_uses_existing_flags():
    import yaml

    claim, job = yaml.safe_load_all((ROOT / "scripts" / "cluster" / "jobset.yaml").read_text())
    (template,) = job["spec"]["replicatedJobs"]
    pods = template["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pods["template"]["spec"]["volumes"]}
    assert volumes["share"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
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
        assert result.returncode == 0 and not result.stderr, result.stderr


def test_python_example_runs(tmp_path, monkeypatch, photo):
    """Runs the README's library example with the shipped weights."""
    from srgan_jax import images

    images.write_image(tmp_path / "photo.jpg", photo[:8, :8])
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)), names)
    assert names["sr"].shape == (32, 32, 3) and images.image_size("larger.png") == (32, 32)
    # sr is the image that upscale makes, rounded to 8 bits and clipped: the gradient is small, and not 0
    assert names["change"].shape == (8, 8, 3) and 0 < abs(names["change"]).max() < 1e-3
