"""Files that a run leaves in its folder."""

from kdcore.recipes.run_directory import RunDirectory


def test_publishing_replaces_the_files_of_the_earlier_run(tmp_path):
    run_dir = RunDirectory(tmp_path / "run")
    artifacts = run_dir.work / "artifacts"

    def publish(*names):
        artifacts.mkdir(parents=True, exist_ok=True)
        for name in names:
            (artifacts / name).write_text(name)
        run_dir.publish({"names": names})
        return visible_files()

    def visible_files():
        return {path.name for path in run_dir.out.iterdir() if not path.name.startswith(".")}

    assert publish("a", "b") == {"a", "b", "report.json"}
    assert publish("b", "c") == {"b", "c", "report.json"}
    artifacts.mkdir(exist_ok=True)
    (artifacts / "incomplete").write_text("of a run that was cancelled")
    run_dir.write_request({"digest": "x", "job": {}})
    assert publish("d") == {"d", "report.json"}
    run_dir.clear()
    assert visible_files() == set()
