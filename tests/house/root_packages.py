"""An import-linter contract: a top-level package that no contract knows fails ``make lint``."""

from pathlib import Path

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class RootPackagesContract(Contract):
    """Every top-level package of the checkout is a root package or listed as ``unguarded``."""

    unguarded = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        known = {*self.session_options["root_packages"], *self.unguarded}
        unknown = sorted(
            folder.name
            for folder in Path.cwd().iterdir()
            if folder.is_dir() and any(folder.glob("*.py")) and folder.name not in known
        )
        return ContractCheck(kept=not unknown, metadata={"unknown": unknown})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for name in check.metadata["unknown"]:
            output.print_error(
                f"The top-level package {name!r} is in no contract: add it to root_packages "
                "and to the layers in pyproject.toml."
            )
