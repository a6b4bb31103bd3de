"""The first layer of a session, in a process of its own, because a process has one first layer."""

import subprocess
import sys

SCRIPT = """
import sys, threading
import numpy as np, pint
from napari.layers import Image
from napari_skinseg.plugin.first_layer import prepare_first_layer

registry = pint.get_application_registry()
assert isinstance(registry.get(), pint.LazyRegistry) and "pandas" not in sys.modules
thread = threading.Thread(target=prepare_first_layer)
thread.start()
thread.join()
prepared = registry.get()
assert not isinstance(prepared, pint.LazyRegistry) and "pandas" in sys.modules
first = Image(np.zeros((40, 50)), units="mm")
prepare_first_layer()
assert registry.get() is prepared, "units of two registries cannot be compared"
assert Image(np.zeros((40, 50)), units="mm").units == first.units
"""


AT_ONCE = """
import threading
import numpy as np
from napari.layers import Image
from napari_skinseg.plugin.first_layer import prepare_first_layer

failed = []
threading.excepthook = failed.append
window = threading.Thread(target=lambda: Image(np.zeros((40, 50)), units="mm"))
window.start()
workers = [threading.Thread(target=prepare_first_layer) for _ in range(2)]
for thread in workers:
    thread.start()
for thread in (window, *workers):
    thread.join(60)
    assert not thread.is_alive()
assert not failed, failed
"""


def test_a_layer_that_is_added_while_a_worker_prepares_the_first_one_disturbs_neither():
    subprocess.run([sys.executable, "-c", AT_ONCE], check=True, timeout=120)


def test_units_and_tables_are_loaded_once_and_by_a_worker():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)
