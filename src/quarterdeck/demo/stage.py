"""Where the demo plays: a folder of its own with the sample, a state folder, and a hub, all taken down again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from quarterdeck import config, detached, proctree
from quarterdeck.cli import launch
from quarterdeck.cli.hubclient import HubClient
from quarterdeck.cli.up import stop_all
from quarterdeck.demo.requests import DemoForge
from quarterdeck.demo.sample import CONFIG
from quarterdeck.demo.truth import make_sample
from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.hub import place

PROVIDERS = ("scripted", "claude-code")
_MODEL_SECONDS = 10.0


@dataclass
class Stage:
    """A running demo. `model` is the process of the scripted model API, where a real agent needs one."""

    folder: Path
    hub: place.HubInfo
    client: HubClient
    model: int | None
    forge: DemoForge

    @property
    def repo(self) -> Path:
        """The sample repository."""
        return self.folder / "shop"

    @property
    def state(self) -> Path:
        """The state folder, for QD_STATE_DIR."""
        return self.folder / "state"

    def take_down(self) -> None:
        """Stop the agents, end the hub and the model, remove the folder."""
        try:
            stop_all(self.client)
        except QuarterdeckError:
            # The folder goes, so nobody may live on in it; deleting is the way that needs no cooperation.
            for agent in self.client.get("/api/agents")["agents"]:
                self.client.delete(f"/api/agents/{agent['name']}")
        launch.end(self.hub)
        end_process(self.model)
        self.forge.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def set_up(provider: str) -> Stage:
    """Make the sample, start what is needed. Raises `Unavailable` when the provider's program is missing."""
    from quarterdeck.sidecar.catalog import BUILT_IN, locate

    locate(BUILT_IN[provider])
    folder = Path(tempfile.mkdtemp(prefix="qd-demo-"))
    model: int | None = None
    forge = DemoForge()
    try:
        text = CONFIG.format(provider=provider)
        (folder / "tmp").mkdir()
        # Whatever an agent's program leaves behind goes with the folder.
        variables = {"TMPDIR": str(folder / "tmp")}
        if provider == "claude-code":
            model, url = _start_model(folder)
            (folder / "home").mkdir()
            variables |= _claude_variables(folder / "home", url)
        text += _environment(variables)
        (folder / "shop").mkdir()
        text += forge.configuration(folder / "forge-token")
        make_sample(folder / "shop", text, remote=forge.remote)
        hub = launch.start_detached(folder / "shop", state=folder / "state", port=0)
        return Stage(folder, hub, HubClient(hub.url, place.token(folder / "state")), model, forge)
    except BaseException:
        end_process(model)
        forge.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _claude_variables(home: Path, url: str) -> dict[str, str]:
    """What turns Claude Code to the scripted model, with a home of its own."""
    return {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def _environment(values: dict[str, str]) -> str:
    """The project's env table."""
    return "\n[projects.shop.env]\n" + "".join(f'{name} = "{value}"\n' for name, value in values.items())


def _start_model(folder: Path) -> tuple[int, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "quarterdeck.scripted.model_api", "--port", str(port)]
    pid = detached.spawn(command, cwd=folder, env=config.base_environment(), log=folder / "model.log")
    end = time.monotonic() + _MODEL_SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return pid, f"http://127.0.0.1:{port}"
        if pid in detached.reap():
            break
        time.sleep(0.02)
    end_process(pid)
    raise Unavailable("the scripted model API did not start", hint=(folder / "model.log").read_text()[-500:])


def end_process(pid: int | None) -> None:
    """End a process that was started here, and wait until it is gone."""
    if pid is None:
        return
    known = proctree.identity(pid)
    if known is None:
        return
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 5
    while proctree.is_alive(pid, known):
        detached.reap()
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
