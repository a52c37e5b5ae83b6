"""``python -m kdcore COMMAND``.

For people: ``run RECIPE.json``, ``compare``, ``methods``, ``schemes``, ``networks``, as in
kdcore.recipes.cli. For programs: ``run|ingest|verify REQUEST.json --workdir DIR``, as in
kdcore.spec.protocol.
"""

import sys


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code. A request is told by its ``--workdir``."""
    programs = arguments[:1] in (["ingest"], ["verify"])
    if programs or any(each.split("=")[0] == "--workdir" for each in arguments):
        from kdcore.process import main as process

        return process.main(arguments)
    from kdcore.recipes import cli

    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
