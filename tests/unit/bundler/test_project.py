from __future__ import annotations

from pathlib import Path

from bundler.project import Project

ROOT = Path(__file__).parents[3]


def test_the_checkout_is_found_from_the_builder_itself() -> None:
    assert Project.here() == Project(root=ROOT)


def test_what_a_checkout_holds_is_where_the_project_says() -> None:
    project = Project.here()
    for file in (project.recipe, project.runtime_lock, project.wheel_lock):
        assert file.is_file()
    for folder in (project.service, project.assembly, project.golden):
        assert folder.is_dir()


def test_everything_made_goes_below_one_folder() -> None:
    project = Project(root=Path("checkout"))
    for path in (project.store, project.output("linux-x64")):
        assert path.is_relative_to(project.out)
