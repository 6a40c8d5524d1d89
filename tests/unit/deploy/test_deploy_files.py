"""The files in deploy/: examples load and show every key, units are sound, the install script is idempotent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

from quarterdeck.config import convert
from quarterdeck.node import servicedef
from quarterdeck.node.cli_settings import CliFile, NodeTable
from quarterdeck.node.deffields import COMPONENT_KEYS
from quarterdeck.node.engine import STOP_SECONDS
from quarterdeck.node.settings import ListenTable, NodeFile, load_node_settings

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())


def needed(program: str) -> None:
    if shutil.which(program) is None:
        if os.environ.get("QD_CI") == "1":
            pytest.fail(f"{program} must be installed here", pytrace=False)
        pytest.skip(f"{program} is not installed")


def test_ci_installs_the_programs_that_are_needed_here() -> None:
    needed("dpkg-query")
    script = (DEPLOY.parent / ".ci" / "run").read_text()
    packages = {word for line in re.findall(r"^ *debian (.*)$", script, re.MULTILINE) for word in line.split()}
    for program in ("systemd-analyze", "shellcheck", "podman"):
        if (path := shutil.which(program)) is not None:
            found = subprocess.run(["dpkg-query", "-S", f"*{Path(path).name}"], capture_output=True, text=True).stdout
            owners = {line.split(":")[0] for line in found.splitlines() if line.endswith(f"bin/{program}")}
            assert owners & packages, f"{program} is of {owners}"


def keys_of(kind: type[msgspec.Struct], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= keys_of(field.type, f"{prefix}{field.name}.")
        else:
            found.add(f"{prefix}{field.name}")
    return found


def shown(text: str) -> set[str]:
    """The keys of an example, commented out or not, with their sections."""
    found, section = set(), ""
    for line in text.splitlines():
        if match := re.match(r"\[+([a-z._-]+)\]+", line):
            section = match[1] + "."
        elif match := re.match(r"#?([a-z_]+) = ", line):
            found.add(section + match[1])
    return found


def test_the_node_example_loads_and_shows_every_key() -> None:
    file = DEPLOY / "examples" / "node.toml"
    found = load_node_settings(file)
    assert found.file.runtime.kind == "api"
    assert shown(file.read_text()) == keys_of(NodeFile)


def test_what_the_node_example_comments_out_is_the_default() -> None:
    text = (DEPLOY / "examples" / "node.toml").read_text()
    # Everything commented in, but for the other kinds of [auth] and what is an example rather than a default.
    lines = [re.sub(r"^#(?=[a-z_]+ = )", "", line) for line in text.split("# oidc:")[0].splitlines()]
    lines += ["[database]", *[re.sub(r"^#(?=[a-z_]+ = )", "", each)
                              for each in text.split("[database]")[1].splitlines()]]  # fmt: skip
    whole = convert(tomllib.loads("\n".join(lines)), NodeFile, origin="example")
    assert whole.monitor == msgspec.structs.replace(NodeFile(name="x", tls=whole.tls).monitor,
                                                    alert_command=["/usr/local/bin/alert"])  # fmt: skip
    plain = NodeFile(name="x", tls=whole.tls)
    assert whole.database == plain.database
    assert whole.files == plain.files
    assert msgspec.structs.replace(whole.runtime, kind="auto", socket=plain.runtime.socket) == plain.runtime
    assert msgspec.structs.replace(whole.auth, audit_file="") == plain.auth
    assert msgspec.structs.replace(whole.listen, host=plain.listen.host) == plain.listen


def test_the_cli_example_loads_and_shows_every_key() -> None:
    text = (DEPLOY / "examples" / "cli.toml").read_text()
    found = convert(tomllib.loads(text), CliFile, origin="example")
    assert set(found.nodes) == {"node-1"}
    wanted = (keys_of(CliFile) - {"nodes"}) | {f"nodes.node-.{key}" for key in keys_of(NodeTable)}
    assert {key.replace("node-1", "node-") for key in shown(text.replace("nodes.node-1", "nodes.node-"))} == wanted


def test_the_service_example_loads_and_shows_every_key() -> None:
    file = DEPLOY / "examples" / "services" / "shop.toml"
    (found,) = servicedef.load_folder(file.parent)
    assert found.service.name == "shop"
    text = file.read_text()
    for key in COMPONENT_KEYS:
        assert re.search(rf"^(#?{key} = |\[components\.{key}\])", text, re.MULTILINE), key


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_a_unit_is_sound(unit: Path, tmp_path: Path) -> None:
    needed("systemd-analyze")
    # The programs and the user are not here; everything else of the units is checked.
    for each in UNITS:
        text = each.read_text().replace("/opt/quarterdeck/bin/qd", "/bin/true").replace("/usr/bin/podman", "/bin/true")
        (tmp_path / each.name).write_text(re.sub(r"^(User|Group)=quarterdeck$", r"\1=root", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True, text=True, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "quarterdeck" in line]
    assert not ours, ours


def test_the_agent_is_hardened() -> None:
    needed("systemd-analyze")
    unit = str(DEPLOY / "systemd" / "quarterdeck-node.service")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    match = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert match, done.stderr
    assert float(match[1]) < 4.5


def test_containers_outlive_both_units_and_the_snapshot_is_daily() -> None:
    for name in ("quarterdeck-node.service", "quarterdeck-podman.service"):
        assert "KillMode=process" in (DEPLOY / "systemd" / name).read_text()
    timer = (DEPLOY / "systemd" / "quarterdeck-snapshot.timer").read_text()
    assert "OnCalendar=*-*-* 02:00:00 UTC" in timer
    assert "RandomizedDelaySec=5min" in timer


def test_the_agent_gets_the_time_that_it_takes_to_stop() -> None:
    text = (DEPLOY / "systemd" / "quarterdeck-node.service").read_text()
    match = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert match
    assert int(match[1]) > ListenTable().drain_seconds + STOP_SECONDS


def test_the_script_passes_shellcheck() -> None:
    needed("shellcheck")
    done = subprocess.run(["shellcheck", str(DEPLOY / "install.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def install(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DESTDIR": str(root), "QD_INSTALL_USER": "root"}
    return subprocess.run(
        ["sh", str(DEPLOY / "install.sh"), *arguments], capture_output=True, text=True, env=environment
    )


def state(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    first = install(tmp_path)
    assert first.returncode == 0, first.stderr
    assert load_node_settings(tmp_path / "etc/quarterdeck/node.toml").file.name
    assert (tmp_path / "var/lib/quarterdeck-node").stat().st_mode & 0o777 == 0o700
    assert {each.name for each in (tmp_path / "etc/systemd/system").iterdir()} == {each.name for each in UNITS}
    before = state(tmp_path)
    second = install(tmp_path)
    assert second.stdout.strip() == "install: nothing to change"
    assert state(tmp_path) == before


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_what_people_changed_is_kept_and_a_broken_unit_is_mended(tmp_path: Path) -> None:
    install(tmp_path)
    config = tmp_path / "etc/quarterdeck/node.toml"
    config.write_text("mine")
    unit = tmp_path / "etc/systemd/system/quarterdeck-node.service"
    unit.write_text("broken")
    assert "file /etc/systemd/system/quarterdeck-node.service" in install(tmp_path).stdout
    assert config.read_text() == "mine"
    assert unit.read_bytes() == (DEPLOY / "systemd" / unit.name).read_bytes()
    assert install(tmp_path, "--nonsense").returncode == 2
