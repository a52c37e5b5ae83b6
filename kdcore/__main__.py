"""``python -m kdcore COMMAND``, for people and for programs.

People call ``run RECIPE.json``, ``compare``, ``methods``, ``schemes`` and ``networks``
(:mod:`kdcore.cli.user_commands`). Programs call ``run|ingest|verify|convert REQUEST.json
--workdir DIR``
(:mod:`kdcore.process.main`), ``run --prewarm`` (:mod:`kdcore.process.prewarm`) and
``predict REQUEST.json`` (:mod:`kdcore.serving.predict_command`).
"""

import sys


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    Only a program passes ``--workdir`` to ``run``; a person passes a recipe.
    """
    if arguments[:1] == ["predict"] and arguments[1:] not in ([], ["--help"]):
        from kdcore.serving.predict_command import main as predict_main

        return predict_main(arguments[1:])
    if arguments[:2] == ["run", "--prewarm"]:
        from kdcore.process.prewarm import main as prewarm_main

        return prewarm_main(arguments[2:])
    if any(argument.split("=")[0] == "--workdir" for argument in arguments):
        from kdcore.process.main import main as process_main

        return process_main(arguments)
    from kdcore.cli.user_commands import main as cli_main

    return cli_main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
