"""What the tabs share."""

import time

from napari.components import ViewerModel

from napari_skinseg.plugin import session
from napari_skinseg.plugin.session import UserActivity


def test_the_user_is_active_for_a_while_after_the_mouse_moved(monkeypatch):
    viewer = ViewerModel()
    activity = UserActivity(viewer)
    assert not activity.is_recent()
    viewer.cursor.position = (3.0, 4.0)
    assert activity.is_recent()
    monkeypatch.setattr(session, "SECONDS_OF_ACTIVITY", 0.01)
    time.sleep(0.02)
    assert not activity.is_recent()
