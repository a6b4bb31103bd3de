"""`napari-skinseg export`."""

from napari_skinseg.project.project import Project


def test_export_writes_the_masks_of_a_project_that_is_open(run, photos, tmp_path):
    with Project.open(tmp_path / "review", create=True) as project:
        project.scan(tmp_path / "photos")
        for path, truth in photos.items():
            project.accept(project.find(path).id, truth)
        code, out, _ = run("export", tmp_path / "review", "--out", tmp_path / "shared")
    assert code == 0
    assert f"3 masks are in {tmp_path / 'shared'}" in out
    assert len(list((tmp_path / "shared" / "masks").iterdir())) == 3
