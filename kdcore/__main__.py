"""``python -m kdcore COMMAND``.

For people: ``run RECIPE.json``, ``compare``, ``methods``, ``schemes``, ``networks``, as in
kdcore.cli.commands. For programs: ``run|ingest|verify|convert REQUEST.json --workdir DIR`` and
``predict REQUEST.json``, as in kdcore.protocol.requests; ``run --prewarm`` to have one loaded in
reserve.
"""

import sys


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code. A request is told by its ``--workdir``."""
    if arguments[:1] == ["predict"]:
        from kdcore.serving.predict_command import main as predict_main

        return predict_main(arguments[1:])
    if arguments[:2] == ["run", "--prewarm"]:
        from kdcore.process.prewarm import main as prewarm_main

        return prewarm_main(arguments[2:])
    programs = arguments[:1] in (["ingest"], ["verify"], ["convert"])
    if programs or any(argument.split("=")[0] == "--workdir" for argument in arguments):
        from kdcore.process.main import main as process_main

        return process_main(arguments)
    from kdcore.cli.commands import main as cli_main

    return cli_main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
