"""Projects and roles: from `quarterdeck.toml`, and from the repository one stands in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quarterdeck.config import AgentsTable, FileConfig, Permissions, ProjectTable, RoleTable
from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.fleet.git import repository

DEFAULT_ROLE = "coder"
ROLES: dict[str, RoleTable] = {
    "coder": RoleTable(
        description="Builds one thing to the end in its own worktree",
        prompt=(
            "You are a coder. Work only in the current folder, a git worktree on a branch of your own. Build what the "
            "task says to the end, run the project's tests, and commit your work on this branch with a message that "
            "says why. Do not push and do not switch branches. Report with report_task what you do, and ask with "
            "ask_human only what you cannot decide."
        ),
    ),
    "operator": RoleTable(
        description="Runs commands, looks after services, investigates and tells",
        prompt=(
            "You are an operator. You run commands, look into problems and tell what you found, with the facts that "
            "show it. Change nothing that the task does not ask for. Before anything that cannot be undone, ask with "
            "ask_human. Report with report_task."
        ),
    ),
    "manager": RoleTable(
        description="Splits work into tasks, hands them to other agents, checks what comes back",
        prompt=(
            "You are a manager of coding agents. Split the work into tasks that can be done side by side, hand them "
            "out, check what comes back by looking at the work itself and not at what is said of it, and put it "
            "together. Report with report_task, and ask with ask_human what only people can decide."
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A git repository in which agents work. `problem` says why it cannot be used now."""

    name: str
    repo: str
    base: str | None
    provider: str
    permissions: Permissions
    check: list[str]
    agents: int
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class Role:
    """What an agent is for; `source` tells where it was defined: built-in, file or project."""

    name: str
    description: str
    prompt: str
    source: str


class Projects:
    """The projects of one configuration file, `folder` being the file's folder."""

    def __init__(self, config: FileConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._tables = dict(config.projects)
        here = folder.resolve()
        if not any(self._repo(t) == here for t in self._tables.values()):
            self._tables.setdefault(_name_for(here), ProjectTable())

    @property
    def agents(self) -> AgentsTable:
        """The defaults for all agents."""
        return self._config.agents

    def names(self) -> list[str]:
        """All project names; the first is the default."""
        return sorted(self._tables, key=lambda n: (self._repo(self._tables[n]) != self._folder.resolve(), n))

    def table(self, name: str) -> ProjectTable:
        """A project's settings. Raises `NotFound` that lists the projects."""
        if name not in self._tables:
            raise NotFound(
                f"there is no project {name!r}",
                hint=f"projects: {', '.join(self.names())}; [projects.{name}] in quarterdeck.toml makes one",
            )
        return self._tables[name]

    def repo(self, name: str) -> Path:
        """The repository of a project. Raises `NotFound`."""
        return self._repo(self.table(name))

    def provider(self, name: str) -> str:
        """The provider that its agents use by default."""
        return self.table(name).provider or self._config.agents.provider

    def permissions(self, name: str) -> Permissions:
        """What its agents may do unasked."""
        return self.table(name).permissions or self._config.agents.permissions

    def roles(self, name: str) -> list[Role]:
        """The roles that can be given in a project: its own before the file's before the built-in ones."""
        found: dict[str, Role] = {}
        layers = (("built-in", ROLES), ("file", self._config.roles), ("project", self.table(name).roles))
        for source, tables in layers:
            for role, table in tables.items():
                found[role] = Role(name=role, description=table.description, prompt=table.prompt, source=source)
        return list(found.values())

    def role(self, project: str, name: str) -> Role:
        """One role. Raises `NotFound` that lists the roles."""
        roles = {r.name: r for r in self.roles(project)}
        if name not in roles:
            raise NotFound(f"there is no role {name!r} in project {project}", hint=f"roles: {', '.join(sorted(roles))}")
        return roles[name]

    async def describe(self, name: str, *, agents: int) -> Project:
        """A project with what is wrong with it, if anything is."""
        table = self.table(name)
        base, problem = table.base, None
        try:
            repo = self._repo(table)
            await repository.inspect(repo)
            base, _ = await repository.resolve_base(repo, table.base)
        except QuarterdeckError as error:
            problem = error.message
        return Project(
            name=name,
            repo=str(self._repo(table)),
            base=base,
            provider=self.provider(name),
            permissions=self.permissions(name),
            check=table.check,
            agents=agents,
            problem=problem,
        )

    def _repo(self, table: ProjectTable) -> Path:
        return (self._folder / Path(table.repo).expanduser()).resolve()


def _name_for(folder: Path) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in folder.name)
    return kept.strip("-") or "project"


def instructions(role: Role, spec: str) -> str:
    """What the agent is told before its first task: what it is for, and its own specification."""
    parts = [part.strip() for part in (role.prompt, spec) if part.strip()]
    return "\n\n".join(parts)
