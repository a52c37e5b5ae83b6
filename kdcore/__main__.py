"""``python -m kdcore COMMAND``.

For people: ``run RECIPE.json``, ``compare``, ``methods``, ``schemes``, ``networks``, as in
kdcore.cli.commands. For programs: ``run|ingest|verify|convert REQUEST.json --workdir DIR`` and
``predict REQUEST.json``, as in kdcore.protocol.requests; ``run --wait`` to have one loaded in
reserve.
"""

import sys


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code. A request is told by its ``--workdir``."""
    if arguments[:1] == ["predict"]:
        from kdcore.serving.predict_command import main as answering

        return answering(arguments[1:])
    if arguments[:2] == ["run", "--wait"]:
        from kdcore.process.prewarm import main as waiting

        return waiting(arguments[2:])
    programs = arguments[:1] in (["ingest"], ["verify"], ["convert"])
    if programs or any(each.split("=")[0] == "--workdir" for each in arguments):
        from kdcore.process.main import main as for_programs

        return for_programs(arguments)
    from kdcore.cli.commands import main as for_people

    return for_people(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
