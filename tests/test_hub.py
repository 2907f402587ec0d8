"""Tests of weights on the Hugging Face Hub, against a server on the loopback: no request leaves the machine."""

import hashlib
import io
import re

import fake_hub
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.weights import digest, hub, load_blended

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def online(monkeypatch, tmp_path):
    """A hub with an empty cache, as the environment variables HF_ENDPOINT and HF_HOME set it up before the import."""
    with fake_hub.serve() as (server, url):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_XET_CACHE", str(tmp_path / "xet"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
        hub.fetch.cache_clear()
        yield server
        hub.fetch.cache_clear()


@pytest.fixture
def offline(monkeypatch):
    """A function after whose call the hub can't be reached."""

    def cut():
        hub.fetch.cache_clear()
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard service; nothing listens
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
        )

    return cut


@pytest.fixture
def files(weights):
    """The bytes of a generator that upscales by 2 and of another one, which multiplies by 0.5."""
    first = srgan_jax.load(weights)
    with open(weights, "rb") as file:
        return file.read(), first


def test_weights_of_a_repository_are_those_of_the_file(online, files, capsys):
    content, generator = files
    revision = online.commit("someone/model", {"README.md": b"text", "generator.safetensors": content})
    loaded = srgan_jax.load("hf://someone/model")
    assert loaded.architecture == generator.architecture
    shown = capsys.readouterr().err
    assert revision in shown and hashlib.sha256(content).hexdigest() in shown
    assert digest("hf://someone/model") == hashlib.sha256(content).hexdigest()
    assert not any("README" in request for request in online.requests)  # only the weights are downloaded


def test_a_revision_is_a_tag_or_a_commit_and_stays(online, files):
    content = files[0]
    old = online.commit("someone/model", {"a.safetensors": content})
    online.tags["someone/model", "v1"] = old
    online.commit("someone/model", {"a.safetensors": b"damaged"})
    for revision in ("v1", old):
        assert srgan_jax.load(f"hf://someone/model@{revision}").scale == 2
    with pytest.raises(UserError, match="hf://someone/model: .* is not a readable .safetensors file"):
        srgan_jax.load("hf://someone/model")
    with pytest.raises(MissingFileError, match="someone/model has no revision v2"):
        srgan_jax.load("hf://someone/model@v2")


def test_the_cache_is_read_offline(online, files, offline, capsys):
    online.commit("someone/model", {"a.safetensors": files[0]})
    srgan_jax.load("hf://someone/model")
    offline()
    assert srgan_jax.load("hf://someone/model").scale == 2
    assert "the Hub can't be reached; read from the cache" in capsys.readouterr().err
    with pytest.raises(
        MissingFileError, match=r"hf://someone/other can't be downloaded \(.+\), and isn't in the cache"
    ):
        srgan_jax.load("hf://someone/other")
    assert digest("hf://someone/other") is None  # so that a run resumes from its own copy


def test_other_files_are_not_read(online, files):
    online.commit("someone/pickle", {"model.pth": b"\x80\x04", "b.safetensors": b"\x80\x04K\x01."})
    with pytest.raises(UserError, match=r"only .safetensors files are read from the Hub, got model.pth"):
        srgan_jax.load("hf://someone/pickle/model.pth")
    with pytest.raises(UserError, match=r"b.safetensors is not a readable .safetensors file"):  # a pickle inside
        srgan_jax.load("hf://someone/pickle")
    online.commit("someone/text", {"README.md": b""})
    with pytest.raises(UserError, match="no weights in someone/text: none; only .safetensors files are read"):
        srgan_jax.load("hf://someone/text")


def test_a_repository_of_several_weights_needs_a_name(online, files):
    online.commit("someone/zoo", {"a.safetensors": files[0], "x4/b.safetensors": files[0]})
    with pytest.raises(
        UserError, match="several weights: a.safetensors, x4/b.safetensors; write one of them: hf://some"
    ):
        srgan_jax.load("hf://someone/zoo")
    assert srgan_jax.load("hf://someone/zoo@main/x4/b.safetensors").scale == 2
    with pytest.raises(MissingFileError, match="no such file in someone/zoo; its weights: a.safetensors"):
        srgan_jax.load("hf://someone/zoo/c.safetensors")
    online.commit("someone/zoo", {"generator.safetensors": files[0]})
    hub.fetch.cache_clear()
    assert srgan_jax.load("hf://someone/zoo").scale == 2


@pytest.mark.parametrize("address", ["hf://model", "hf://a/b@", "hf://a/b@v1@v2", "hf:///a/b", "hf://a/b c",
                                     "hf://../..", "hf://ü/b"])  # fmt: skip
def test_another_form_of_address_is_refused(address):
    with pytest.raises(UserError, match=r"expected hf://owner/name\[@revision\]"):
        srgan_jax.load(address)


def test_closed_repositories_are_refused_with_what_to_do(online, files):
    with pytest.raises(MissingFileError, match="no such repository, or a private one; log in: hf auth login"):
        srgan_jax.load("hf://someone/nothing")
    online.commit("someone/gated", {"a.safetensors": files[0]})
    online.gated.add("someone/gated")
    with pytest.raises(UserError, match="accept its owner's terms on the Hub first"):
        srgan_jax.load("hf://someone/gated")


def test_commands_take_addresses(online, files, monkeypatch, tmp_path, photo, capsys):
    from srgan_jax import images

    online.commit("someone/model", {"a.safetensors": files[0]})
    monkeypatch.chdir(tmp_path)
    images.write_image("a.png", photo[:48, :64])
    digest = hashlib.sha256(files[0]).hexdigest()
    for arguments in (["info", "hf://someone/model"], ["upscale", "--weights", "hf://someone/model", "a.png"]):
        hub.fetch.cache_clear()
        status = cli.main(arguments)
        err = capsys.readouterr().err
        assert status == 0 and digest in err, err
    assert cli.main(["import", "hf://someone/model"]) == 2  # the file, not the address, is refused
    assert "is a file of srgan_jax already" in capsys.readouterr().err


def test_push_writes_a_card_from_the_header_and_the_weights_come_back(online, bilinear, tmp_path, photo, capsys):
    from srgan_jax import images

    header = {
        "licence": "CC-BY-4.0", "data": "20 photographs", "data_licences": "CC0", "val_psnr_y": "31.2500",
        "bad_at": "text [x](http://evil) <b>", "dataset": "/home/me/photos", "purpose": "tests",
        "partner": "psnr.safetensors",
    }  # fmt: skip
    srgan_jax.save(tmp_path / "gan.safetensors", bilinear, header)
    srgan_jax.save(tmp_path / "psnr.safetensors", bilinear)
    images.write_image(tmp_path / "photo.png", photo[:100, :120])
    arguments = ["push", str(tmp_path / "gan.safetensors"), "me/model", "--image", str(tmp_path / "photo.png")]
    assert cli.main([*arguments, "--private"]) == 0
    out = capsys.readouterr().out
    (revision, pushed) = online.commits["me/model"][-1]
    assert online.private == {"me/model": True} and f"pushed: hf://me/model@{revision}" in out
    names = {"README.md", "before_after.png", "generator.safetensors", "partner.safetensors"}
    assert set(pushed) == {".gitattributes"} | names
    card = pushed["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: srgan-jax\n")
    for text in ("20 photographs", "licences: CC0", "val psnr y: 31.2500", "data set: photos", "before_after.png",
                 r"text \[x\](http://evil) &lt;b&gt;", hashlib.sha256(pushed["generator.safetensors"]).hexdigest(),
                 "--weights hf://me/model\n"):  # fmt: skip
        assert text in card, text
    assert "/home/me" not in card and b"/home/me" not in pushed["generator.safetensors"]
    picture = images.decode_rgb(io.BytesIO(pushed["before_after.png"]))
    assert picture.shape == (200, 2 * 240 + 4, 3)  # bicubic, 4 px of white, the generator
    np.testing.assert_array_equal(picture[:, 244:], srgan_jax.upscale(bilinear, photo[:100, :120]))
    assert load_blended("hf://me/model", 0.5).scale == 2  # the partner is found in the repository


def test_push_without_a_licence_or_a_login_says_what_to_do(online, weights, tmp_path, capsys, monkeypatch):
    assert cli.main(["push", weights, "me/model", "-o", str(tmp_path / "out")]) == 0
    assert "no licence is stated" in capsys.readouterr().err
    card = (tmp_path / "out" / "README.md").read_text()
    assert not re.search("^license:", card, re.M) and "states no licence" in card and online.requests == []
    assert cli.main(["push", weights, "model"]) == 2
    assert "expected a repository, OWNER/NAME" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert cli.main(["push", weights, "me/model"]) == 2
    assert "hf auth login" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_wrong")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert cli.main(["push", weights, "me/model"]) == 2
    assert "me/model: the Hub refused" in capsys.readouterr().err and online.commits == {}


@pytest.mark.parametrize("name", ["../x", "ü/é", "a/-b", "a/b.git", "a/b..c", "a/b--c", "a/" + "x" * 200, "a/b\n"])
def test_push_refuses_names_that_the_hub_refuses_before_it_writes(tmp_path, name):
    with pytest.raises(UserError, match="expected a repository, OWNER/NAME, of letters"):
        hub.check_repository(name)


def test_a_token_of_other_characters_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_ü")
    with pytest.raises(UserError, match="the token of the Hub has characters that no token has"):
        hub.check_login()
